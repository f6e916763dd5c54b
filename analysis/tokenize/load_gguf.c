/* load_gguf.c: the tokenizer in the metadata of a GGUF file, as llama.cpp understands it.
 *
 *   tokenizer.ggml.model   "llama" BPE by score │ "gpt2" byte-level BPE by merges, cut as .pre says │ "t5" unigram │ "bert" WordPiece
 *   .tokens .scores .token_type .merges             by id, merges by rank
 *   .bos_token_id … .add_bos_token …                what stands around a text
 *
 * Tokens of the types control, unknown and user-defined are cut out of the text first. */
#include "analysis/tokenize/gguf_load.h"
#include <math.h>
#include <string.h>

#define K "tokenizer.ggml."

/* Control tokens whatever their type says: files made by early converters have them as normal ones. */
static const char *const control_names[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>",
    "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>",
    "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", NULL};

bool qn_tok_probe_gguf(const uint8_t *head, size_t n)
{
    return n >= 4 && memcmp(head, "GGUF", 4) == 0;
}

qn_code qn_gguf_load_bool(const qn_gguf_load *l, const char *key, bool *v, qn_err *err)
{
    return qn_gguf_find(&l->g, key) ? qn_gguf_get_bool(&l->g, key, v, err) : QN_OK;
}

/* An id; one that no token has leaves the default. */
static qn_code get_id(const qn_gguf_load *l, const char *key, uint32_t *id, qn_err *err)
{
    uint64_t v;
    if (*id >= l->n)
        *id = QN_TOK_NONE;
    if (!qn_gguf_find(&l->g, key))
        return QN_OK;
    QN_TRY(qn_gguf_get_u64(&l->g, key, &v, err));
    if (v < l->n)
        *id = (uint32_t)v;
    return QN_OK;
}

static qn_code put_tokens(qn_gguf_load *l, char *buf, qn_err *err)
{
    qn_gguf_strings it;
    uint32_t was;
    size_t n;
    QN_TRY(qn_gguf_strings_begin(&it, &l->g, K "tokens", &l->n, err));
    if (l->n == 0 || l->n > QN_TOK_VOCAB_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "key '" K "tokens' has %llu tokens: 1 to %d are allowed",
                       (unsigned long long)l->n, QN_TOK_VOCAB_MAX);
    for (uint32_t id = 0; id < l->n; id++) {
        QN_TRY(qn_gguf_strings_next(&it, buf, QN_TOK_STRING_MAX, &n, err));
        if (n == 0) /* a name that no text is likely to hold */
            n = (size_t)snprintf(buf, 32, "[EMPTY_%u]", id);
        QN_TRY(qn_tok_vocab_add(l->t, id, buf, n, &was, err));
        if (was != QN_TOK_NONE) {
            char shown[64];
            qn_printable(shown, sizeof shown, buf, n);
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "token '%s' stands twice: as number %u and %u", shown, was, id);
        }
    }
    return QN_OK;
}

/* Elements of an array that may be longer than there are tokens, but not shorter. */
static qn_code elems(const qn_gguf_load *l, const char *key, qn_gguf_type type, void *dst, qn_err *err)
{
    uint64_t n;
    QN_TRY(qn_gguf_get_array(&l->g, key, type, &n, err));
    if (n < l->n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "key '%s' has %llu values for %llu tokens", key, (unsigned long long)n,
                       (unsigned long long)l->n);
    return qn_gguf_get_elems(&l->g, key, type, 0, l->n, dst, err);
}

static qn_code get_types(qn_gguf_load *l, qn_err *err)
{
    const bool there = qn_gguf_find(&l->g, K "token_type") != NULL;
    int32_t *raw = qn_arena_get(&l->scratch, l->n * sizeof *raw, _Alignof(int32_t), err);
    l->type = raw ? qn_arena_get(&l->scratch, l->n, 1, err) : NULL;
    if (!l->type)
        return QN_E_MEMORY;
    memset(l->type, QN_SP_NORMAL, (size_t)l->n);
    if (there)
        QN_TRY(elems(l, K "token_type", QN_GGUF_I32, raw, err));
    for (uint64_t i = 0; there && i < l->n; i++) {
        const uint32_t v = qn_load32(&raw[i]);
        l->type[i] = v >= QN_SP_NORMAL && v <= QN_SP_BYTE ? (uint8_t)v : 0;
    }
    for (const char *const *s = control_names; *s; s++) {
        const uint32_t id = qn_tok_vocab_find(&l->t->vocab, *s, strlen(*s));
        if (id != QN_TOK_NONE)
            l->type[id] = QN_SP_CONTROL;
    }
    return QN_OK;
}

qn_code qn_gguf_load_scores(qn_gguf_load *l, double *score, qn_err *err)
{
    const qn_gguf_key *key = qn_gguf_find(&l->g, K "scores");
    const bool whole = key && key->type == QN_GGUF_ARRAY && key->elem == QN_GGUF_I32;
    if (!key)
        return QN_OK;
    uint32_t *raw = qn_arena_get(&l->scratch, l->n * sizeof *raw, _Alignof(uint32_t), err);
    if (!raw)
        return QN_E_MEMORY;
    QN_TRY(elems(l, K "scores", whole ? QN_GGUF_I32 : QN_GGUF_F32, raw, err));
    for (uint64_t i = 0; i < l->n; i++) {
        const uint32_t bits = qn_load32(&raw[i]);
        float f;
        memcpy(&f, &bits, sizeof f);
        if (whole)
            f = (float)(int32_t)bits;
        if (!isfinite(f))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "key '" K "scores': score of token %llu is not finite",
                           (unsigned long long)i);
        score[i] = (double)f;
    }
    return QN_OK;
}

static qn_code add_special(qn_gguf_load *l, qn_err *err)
{
    for (uint32_t id = 0; id < l->n; id++) {
        const uint8_t type = l->type[id];
        const qn_tok_entry e = l->t->vocab.entry[id];
        if (type != QN_SP_CONTROL && type != QN_SP_UNKNOWN && type != QN_SP_USER_DEFINED)
            continue;
        const qn_tok_added a = {.id = id, .s = e.s, .n = e.n, .special = type != QN_SP_USER_DEFINED};
        QN_TRY(qn_tok_add_added(l->t, &a, err));
    }
    return QN_OK;
}

static qn_code around(qn_tokenizer *t, uint32_t id, uint32_t **list, uint64_t *n, qn_err *err)
{
    *list = qn_arena_get(&t->arena, sizeof **list, _Alignof(uint32_t), err);
    if (!*list)
        return QN_E_MEMORY;
    (*list)[0] = id;
    *n = 1;
    return QN_OK;
}

/* BOS, EOS and the rest; the defaults are those of the kind. */
static qn_code special_ids(qn_gguf_load *l, const qn_gguf_kind *k, qn_err *err)
{
    qn_tokenizer *t = l->t;
    uint32_t sep = k->sep;
    t->bos = k->bos;
    t->eos = k->eos;
    t->unk = k->unk;
    l->add_bos |= k->add_bos;
    l->add_eos |= k->add_eos;
    QN_TRY(get_id(l, K "bos_token_id", &t->bos, err));
    QN_TRY(get_id(l, K "eos_token_id", &t->eos, err));
    QN_TRY(get_id(l, K "unknown_token_id", &t->unk, err));
    QN_TRY(get_id(l, K "seperator_token_id", &sep, err));
    QN_TRY(qn_gguf_load_bool(l, K "add_bos_token", &l->add_bos, err));
    QN_TRY(qn_gguf_load_bool(l, K "add_eos_token", &l->add_eos, err));
    if (k->wrap) { /* [CLS] text [SEP], whatever the keys say */
        l->add_bos = l->add_eos = true;
        t->eos = sep;
    }
    if (l->add_bos && t->bos == QN_TOK_NONE)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a BOS token is to be added, but '" K "bos_token_id' names none");
    if (l->add_eos && t->eos == QN_TOK_NONE)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "an EOS token is to be added, but '" K "%s' names none",
                       k->wrap ? "seperator_token_id" : "eos_token_id");
    if (l->add_bos)
        QN_TRY(around(t, t->bos, &t->prefix, &t->n_prefix, err));
    if (l->add_eos)
        QN_TRY(around(t, t->eos, &t->suffix, &t->n_suffix, err));
    return QN_OK;
}

static qn_code find_kind(const qn_gguf *g, const qn_gguf_kind **k, qn_err *err)
{
    char model[64], shown[64];
    if (!qn_gguf_find(g, K "model"))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "has no tokenizer: key '" K "model' is missing");
    QN_TRY(qn_gguf_get_str(g, K "model", model, sizeof model, err));
    for (*k = qn_gguf_kinds; (*k)->model; ++*k)
        if (strcmp((*k)->model, model) == 0)
            return QN_OK;
    qn_printable(shown, sizeof shown, model, strlen(model));
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer '%s' is not implemented: llama, gpt2, t5 and bert are", shown);
}

static qn_code fill(qn_gguf_load *l, const qn_tok_file *f, qn_err *err)
{
    const qn_gguf_kind *k = qn_gguf_kinds;
    QN_TRY(qn_gguf_parse(&l->g, &l->scratch, f->read, f->ctx, f->n_bytes, err));
    QN_TRY(find_kind(&l->g, &k, err));
    char *buf = qn_arena_get(&l->scratch, QN_TOK_STRING_MAX, 1, err);
    if (!buf)
        return QN_E_MEMORY;
    QN_TRY(put_tokens(l, buf, err));
    QN_TRY(get_types(l, err));
    QN_TRY(k->build(l, err));
    QN_TRY(special_ids(l, k, err));
    return add_special(l, err);
}

qn_code qn_tok_load_gguf(qn_tokenizer *t, const qn_tok_file *f, qn_tok_place *place, qn_err *err)
{
    qn_gguf_load l = {.t = t};
    (void)place;
    qn_arena_init(&l.scratch, t->alloc);
    const qn_code rc = fill(&l, f, err);
    qn_arena_release(&l.scratch);
    return qn_err_in_path(err, rc, f->path);
}
