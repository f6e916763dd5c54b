/* unigram_json.c: model.type "Unigram" and the normalizer "Precompiled" of tokenizer.json: sentencepiece's unigram model and
 * charsmap, with the differences that the tokenizers library has. */
#include "analysis/tokenize/sp.h"
#include <math.h>
#include <string.h>
#include <utf8proc.h>

qn_code qn_tok_build_unigram(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err)
{
    qn_sp_data *d;
    uint64_t unk = QN_TOK_NONE;
    if (!m->vocab_is_list)
        return QN_FAIL(err, QN_E_INPUT, m->off, "model Unigram: vocab must be a list of pieces with scores");
    QN_TRY(qn_sp_data_new(t, QN_SP_UNIGRAM, QN_SP_AS_TOKENIZERS, &d, err));
    QN_TRY(qn_tok_node_uint(m->options, "unk_id", &unk, err));
    QN_TRY(qn_tok_node_bool(m->options, "byte_fallback", &d->byte_fallback, err));
    if (unk != QN_TOK_NONE && unk >= m->n_vocab)
        return QN_FAIL(err, QN_E_INPUT, m->off, "model Unigram: unk_id %llu, vocab has %llu pieces", (unsigned long long)unk,
                       (unsigned long long)m->n_vocab);
    for (uint64_t i = 0; i < m->n_vocab; i++) {
        const qn_tok_vocab_row *r = &m->vocab[i];
        if (!isfinite(r->score))
            return QN_FAIL(err, QN_E_INPUT, m->off, "model Unigram: score of piece %u is not finite", r->id);
        if (r->id < d->n)
            d->score[r->id] = r->score;
    }
    t->unk = (uint32_t)unk;
    t->kind = "unigram";
    return QN_OK;
}

/* ---- Precompiled ---- */

typedef struct precompiled {
    qn_charsmap map;
} precompiled;

static qn_code replace(const precompiled *p, const char *s, uint64_t n, qn_tok_buf *out, bool *done, qn_err *err)
{
    const char *to = NULL;
    *done = qn_charsmap_find(&p->map, s, n, true, &to) > 0;
    return *done ? qn_tok_buf_put(out, to, strlen(to), err) : QN_OK;
}

/* A grapheme cluster of fewer than 6 bytes that begins with a key is replaced whole by the shortest such key's replacement;
 * of others, each character is. (sentencepiece itself knows no clusters and takes the longest key.) */
static qn_code put_cluster(const precompiled *p, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    bool done = false;
    if (n < 6)
        QN_TRY(replace(p, s, n, out, &done, err));
    for (uint64_t at = 0, k; at < n && !done; at += k) {
        bool one;
        k = qn_min_u64(qn_sp_char_bytes((uint8_t)s[at]), n - at);
        QN_TRY(replace(p, s + at, k, out, &one, err));
        if (!one)
            QN_TRY(qn_tok_buf_put(out, s + at, k, err));
    }
    return QN_OK;
}

static qn_code put_text(const precompiled *p, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    uint64_t from = 0;
    utf8proc_int32_t last = -1, c, state = 0;
    for (uint64_t at = 0, k; at < n; at += k) {
        const utf8proc_ssize_t got = utf8proc_iterate((const utf8proc_uint8_t *)s + at, (utf8proc_ssize_t)qn_min_u64(n - at, 4), &c);
        k = got > 0 ? (uint64_t)got : 1;
        if (got <= 0)
            c = 0xfffd;
        if (last >= 0 && utf8proc_grapheme_break_stateful(last, c, &state)) {
            QN_TRY(put_cluster(p, s + from, at - from, out, err));
            from = at;
        }
        last = c;
    }
    return put_cluster(p, s + from, n - from, out, err);
}

static qn_code apply(const qn_tok_step *s, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    for (uint64_t i = 0; i < in->n; i++) {
        const uint64_t from = out->text.n;
        QN_TRY(put_text(s->data, in->text.p + in->span[i].off, in->span[i].n, &out->text, err));
        QN_TRY(qn_tok_list_span(out, from, out->text.n - from, in->span[i].first, err));
    }
    return QN_OK;
}

static const qn_tok_step_ops precompiled_ops = {.name = "Precompiled", .apply = apply};

/* RFC 4648, with or without padding; anything else ends in false. */
static bool base64(const char *s, uint64_t n, uint8_t *out, uint64_t *n_out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int8_t value[256];
    uint32_t bits = 0;
    unsigned n_bits = 0;
    memset(value, -1, sizeof value);
    for (int i = 0; i < 64; i++)
        value[(uint8_t)digits[i]] = (int8_t)i;
    while (n && s[n - 1] == '=')
        n--;
    *n_out = 0;
    for (uint64_t i = 0; i < n; i++) {
        const int v = value[(uint8_t)s[i]];
        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        n_bits += 6;
        if (n_bits >= 8)
            out[(*n_out)++] = (uint8_t)(bits >> (n_bits -= 8));
    }
    return true;
}

qn_code qn_tok_build_precompiled(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    const char *s = "";
    uint64_t n = 0, n_map;
    QN_TRY(qn_tok_node_str(node, "precompiled_charsmap", &s, &n, err));
    precompiled *p = qn_arena_get(&t->arena, sizeof *p, _Alignof(precompiled), err);
    uint8_t *map = p ? qn_arena_get(&t->arena, n + 1, 4, err) : NULL;
    if (!map)
        return QN_E_MEMORY;
    if (!base64(s, n, map, &n_map))
        return QN_FAIL(err, QN_E_INPUT, node->off, "precompiled_charsmap is not base64");
    QN_TRY(qn_charsmap_init(&p->map, map, n_map, err));
    return qn_tok_add_step(t, list, &precompiled_ops, p, map, n_map, err);
}
