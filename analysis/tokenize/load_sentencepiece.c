/* load_sentencepiece.c: tokenizer.model → a tokenizer. Control pieces are never found in a text, as in the library; what surrounds
 * a text is not said by the file: tokenizer_config.json beside it may say add_bos_token and add_eos_token. */
#include "analysis/tokenize/sp.h"
#include <string.h>

bool qn_tok_probe_sentencepiece(const uint8_t *head, size_t n)
{
    return qn_sp_probe(head, n);
}

static qn_code rules_of(const qn_sp_model *m, const qn_sp_spec *s, qn_sp_rules *r, qn_err *err)
{
    *r = (qn_sp_rules){.add_dummy_prefix = s->add_dummy_prefix, .remove_extra_whitespaces = s->remove_extra_whitespaces,
                       .escape_whitespaces = s->escape_whitespaces, .whitespace_as_suffix = m->treat_whitespace_as_suffix};
    return qn_charsmap_init(&r->map, s->charsmap, s->n_charsmap, err);
}

static qn_code fill(qn_tokenizer *t, const qn_sp_model *m, qn_err *err)
{
    static const char *const kinds[] = {"", "unigram (sentencepiece)", "sentencepiece BPE", "sentencepiece words",
                                        "sentencepiece characters"};
    qn_sp_data *d;
    uint32_t was;
    for (uint32_t i = 0; i < m->n_pieces; i++) {
        QN_TRY(qn_tok_vocab_add(t, i, m->pieces[i].s, m->pieces[i].n, &was, err));
        if (m->pieces[i].type == QN_SP_CONTROL)
            t->vocab.entry[i].flags |= QN_TOK_IS_SPECIAL;
    }
    QN_TRY(qn_sp_data_new(t, m->kind, QN_SP_AS_SENTENCEPIECE, &d, err));
    for (uint32_t i = 0; i < m->n_pieces; i++) {
        d->score[i] = (double)m->pieces[i].score;
        d->type[i] = m->pieces[i].type;
    }
    d->byte_fallback = m->byte_fallback;
    d->unk_surface = m->unk_surface;
    d->strip_first = m->normalizer.add_dummy_prefix || m->normalizer.remove_extra_whitespaces;
    QN_TRY(rules_of(m, &m->normalizer, &d->rules, err));
    d->has_denormal = m->denormalizer.n_charsmap > 0;
    if (d->has_denormal)
        QN_TRY(rules_of(m, &m->denormalizer, &d->denormal, err));
    d->denormal.whitespace_as_suffix = false;
    t->unk = m->unk;
    t->bos = m->bos;
    t->eos = m->eos;
    t->kind = kinds[m->kind];
    t->any_bytes = true;
    return qn_sp_add_steps(t, d, err);
}

qn_code qn_tok_load_sentencepiece(qn_tokenizer *t, const qn_tok_file *f, qn_tok_place *place, qn_err *err)
{
    qn_sp_model m;
    qn_code rc = qn_sp_read(&m, &t->arena, f->read, f->ctx, f->n_bytes, err);
    if (rc == QN_OK)
        rc = fill(t, &m, err);
    QN_TRY(qn_err_in_path(err, rc, f->path));
    return qn_tok_use_config(t, place, false, err);
}
