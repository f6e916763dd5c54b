/* corpus.c: see corpus.h. */
#include "analysis/eval/corpus.h"
#include "analysis/eval/ints.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

enum { TEXT_BYTES_MAX = INT32_MAX };

/* Lists in the making. */
struct builder {
    const qn_env *env;
    const qn_corpus_options *o;
    const qn_tokenizer *tok;
    qn_corpus *c;
    uint32_t bos;   /* put in front, or UINT32_MAX */
    uint64_t cap_tokens, cap_starts, cap_from;
};

static bool is_full(const struct builder *b)
{
    return b->o->max_chunks && b->c->n_chunks >= b->o->max_chunks;
}

/* A chunk: `first` (unless UINT32_MAX) and n ids; scored from its token `from`. */
static qn_code add_chunk(struct builder *b, uint32_t first, const uint32_t *ids, uint64_t n, uint64_t from, qn_err *err)
{
    qn_corpus *c = b->c;
    const uint64_t total = n + (first != UINT32_MAX);
    uint32_t *tokens = qn_mem_grow(c->alloc, c->tokens, c->n_tokens, &b->cap_tokens, c->n_tokens + total, sizeof *tokens, err);
    if (!tokens)
        return QN_E_MEMORY;
    c->tokens = tokens;
    uint64_t *starts = qn_mem_grow(c->alloc, c->starts, c->n_chunks + 1, &b->cap_starts, c->n_chunks + 2, sizeof *starts, err);
    if (!starts)
        return QN_E_MEMORY;
    c->starts = starts;
    uint64_t *score = qn_mem_grow(c->alloc, c->score_from, c->n_chunks, &b->cap_from, c->n_chunks + 1, sizeof *score, err);
    if (!score)
        return QN_E_MEMORY;
    c->score_from = score;
    if (first != UINT32_MAX)
        tokens[c->n_tokens++] = first;
    memcpy(tokens + c->n_tokens, ids, n * sizeof *ids);
    c->n_tokens += n;
    c->score_from[c->n_chunks] = from;
    c->n_scored += total - from;
    c->starts[++c->n_chunks] = c->n_tokens;
    return QN_OK;
}

/* The row of all tokens → chunks. With BOS it has been put in front of the row already, as the tokenizer would. */
static qn_code cut_row(struct builder *b, const uint32_t *ids, uint64_t n, qn_err *err)
{
    const uint64_t ctx = b->o->context;
    if (n < ctx)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the text has %" PRIu64 " token%s; one chunk of --context needs %" PRIu64, n, n == 1 ? "" : "s", ctx);
    uint64_t i = 0;
    for (; n - i >= ctx && !is_full(b); i += ctx) {
        const uint64_t from = b->o->score_all ? 1 : ctx / 2 + 1;
        if (b->bos != UINT32_MAX)
            QN_TRY(add_chunk(b, b->bos, ids + i + 1, ctx - 1, from < ctx ? from : 1, err));
        else
            QN_TRY(add_chunk(b, UINT32_MAX, ids + i, ctx, from < ctx ? from : 1, err));
    }
    b->c->n_left_out = n - i;
    return QN_OK;
}

static qn_code add_document(struct builder *b, const char *text, uint64_t n_bytes, qn_err *err)
{
    qn_tokens t = {0};
    qn_code rc = qn_tokenizer_encode(b->tok, text, n_bytes, QN_TOKENIZE_PLAIN, &t, err);
    const uint64_t most = b->o->context + (b->bos == UINT32_MAX), n = qn_min_u64(t.n, most);
    if (rc == QN_OK && n + (b->bos != UINT32_MAX) >= 2) {
        rc = add_chunk(b, b->bos, t.ids, n, 1, err);
        b->c->n_left_out += t.n - n;
    } else {
        b->c->n_left_out += t.n;
    }
    qn_tokens_release(&t, b->c->alloc);
    return rc;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static qn_code cut_text(struct builder *b, const char *text, uint64_t n_bytes, qn_err *err)
{
    if (!b->o->separator) {
        qn_tokens t = {0};
        qn_code rc = qn_tokenizer_encode(b->tok, text, n_bytes, QN_TOKENIZE_PLAIN, &t, err);
        /* A BOS before the text shifts the chunks by one, as it does for others. */
        if (rc == QN_OK && b->bos != UINT32_MAX) {
            uint32_t *grown = qn_mem_grow(b->c->alloc, t.ids, t.n, &t.cap, t.n + 1, sizeof *grown, err);
            if (grown) {
                t.ids = grown;
                memmove(grown + 1, grown, t.n * sizeof *grown);
                grown[0] = b->bos;
                t.n++;
            } else {
                rc = QN_E_MEMORY;
            }
        }
        if (rc == QN_OK)
            rc = cut_row(b, t.ids, t.n, err);
        qn_tokens_release(&t, b->c->alloc);
        return rc;
    }
    const uint64_t n_sep = strlen(b->o->separator);
    if (!n_sep)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the separator of documents is empty");
    uint64_t from = 0;
    for (uint64_t i = 0; i <= n_bytes && !is_full(b); i++) {
        const bool at_end = i == n_bytes, at_sep = !at_end && n_bytes - i >= n_sep && !memcmp(text + i, b->o->separator, n_sep);
        if (!at_end && !at_sep)
            continue;
        /* Blank space around a document belongs to the separator. */
        uint64_t lo = from, hi = i;
        while (lo < hi && is_blank(text[lo]))
            lo++;
        while (hi > lo && is_blank(text[hi - 1]))
            hi--;
        if (hi > lo)
            QN_TRY(add_document(b, text + lo, hi - lo, err));
        from = i + n_sep;
        if (at_sep)
            i += n_sep - 1;
    }
    return QN_OK;
}

static qn_code cut_lines(struct builder *b, const char *text, uint64_t n_bytes, qn_err *err)
{
    const char *field = b->o->field ? b->o->field : "text";
    uint64_t line = 1;
    for (uint64_t i = 0; i < n_bytes && !is_full(b); line++) {
        const char *end = memchr(text + i, '\n', n_bytes - i);
        const uint64_t n = end ? (uint64_t)(end - text) - i : n_bytes - i;
        json_error_t why;
        if (n && text[i] != '\r') {
            json_t *j = json_loadb(text + i, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
            if (!j)
                return QN_FAIL(err, QN_E_INPUT, i, "line %" PRIu64 " is no JSON: %.150s", line, why.text);
            const json_t *s = json_object_get(j, field);
            qn_code rc;
            if (!json_is_string(s))
                rc = QN_FAIL(err, QN_E_INPUT, i, "line %" PRIu64 " has no string \"%.60s\"", line, field);
            else
                rc = add_document(b, json_string_value(s), json_string_length(s), err);
            json_decref(j);
            QN_TRY(rc);
        }
        i += n + 1;
    }
    return QN_OK;
}

/* Tokens of a .npy: integers of any width. */
static qn_code read_npy(struct builder *b, const char *path, qn_err *err)
{
    qn_source *s;
    QN_TRY(qn_source_open(b->env, path, &s, err));
    qn_code rc = QN_OK;
    const qn_source_tensor *t = s->tensors;
    int64_t *values = NULL;
    uint64_t n = 0;
    if (s->n_tensors != 1 || !qn_dtype_is_integer((qn_dtype)t->dtype) || t->dtype == QN_I8 || t->rank < 1 || t->rank > 2)
        rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokens must be one array of integers of rank 1 or 2");
    if (rc == QN_OK)
        rc = qn_ints_read(b->env, s, 0, &values, &n, err);
    uint32_t *ids = rc == QN_OK ? qn_mem_get(b->env->alloc, n * sizeof *ids, err) : NULL;
    if (rc == QN_OK && !ids)
        rc = QN_E_MEMORY;
    for (uint64_t i = 0; i < n && rc == QN_OK; i++) {
        if (values[i] < 0 || values[i] > INT32_MAX)
            rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "element %" PRIu64 " is no token id", i);
        ids[i] = (uint32_t)values[i];
    }
    if (rc == QN_OK && t->rank == 2) {
        const uint64_t len = t->dims[1];
        if (len < 2)
            rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rows of %" PRIu64 " tokens: a row needs 2 at least", len);
        const bool whole = b->o->score_all || b->c->documents;
        b->c->context = len;
        for (uint64_t i = 0; rc == QN_OK && i < t->dims[0] && !is_full(b); i++)
            rc = add_chunk(b, UINT32_MAX, ids + i * len, len, whole ? 1 : qn_max_u64(1, qn_min_u64(len / 2 + 1, len - 1)), err);
        if (rc == QN_OK)
            b->c->n_left_out = (t->dims[0] - b->c->n_chunks) * len;
    } else if (rc == QN_OK && b->c->documents) {
        rc = QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "one row of tokens has no documents: an array of rank 2 holds one in each row");
    } else if (rc == QN_OK) {
        b->bos = UINT32_MAX; /* what is in a token file is what is wanted */
        rc = cut_row(b, ids, n, err);
    }
    qn_mem_put(b->env->alloc, values);
    qn_mem_put(b->env->alloc, ids);
    qn_source_close(s);
    return rc;
}

/* Does the tokenizer put its BOS in front of text? */
static qn_code find_bos(struct builder *b, qn_err *err)
{
    qn_tokens t = {0};
    QN_TRY(qn_tokenizer_encode(b->tok, "", 0, QN_TOKENIZE_SPECIAL, &t, err));
    const uint32_t bos = qn_tokenizer_bos(b->tok);
    b->bos = t.n && bos != UINT32_MAX && t.ids[0] == bos ? bos : UINT32_MAX;
    qn_tokens_release(&t, b->c->alloc);
    return QN_OK;
}

static qn_code read_text(struct builder *b, const char *path, qn_err *err)
{
    if (!b->tok)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "text needs a tokenizer, and the model brings none: give --tokenizer, or tokens as .npy");
    QN_TRY(find_bos(b, err));
    qn_file f;
    QN_TRY(qn_file_open(&f, b->env->fs, b->env->alloc, path, QN_OPEN_READ, err));
    qn_stat st;
    qn_code rc = qn_file_stat(&f, &st, err);
    if (rc == QN_OK && st.n_bytes > TEXT_BYTES_MAX)
        rc = QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%" PRIu64 " bytes of text; at most %d are supported", st.n_bytes, (int)TEXT_BYTES_MAX);
    char *text = rc == QN_OK ? qn_mem_get(b->env->alloc, st.n_bytes + 1, err) : NULL;
    if (rc == QN_OK)
        rc = text ? qn_file_read(&f, text, st.n_bytes, 0, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = qn_text_ends(path, ".jsonl") || qn_text_ends(path, ".ndjson") ? cut_lines(b, text, st.n_bytes, err) : cut_text(b, text, st.n_bytes, err);
    qn_mem_put(b->env->alloc, text);
    qn_file_drop(&f);
    return rc;
}

static qn_code check(const qn_corpus *c, uint32_t n_vocab, qn_err *err)
{
    if (!c->n_chunks)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no document has two tokens");
    for (uint64_t i = 0; i < c->n_tokens && n_vocab; i++)
        if (c->tokens[i] >= n_vocab)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "token %" PRIu32 " at place %" PRIu64 "; the model's vocabulary has %" PRIu32
                           ": these tokens are not this model's", c->tokens[i], i, n_vocab);
    return QN_OK;
}

qn_code qn_corpus_open(const qn_env *env, const char *path, const qn_tokenizer *tok, uint32_t n_vocab, const qn_corpus_options *o,
                       qn_corpus *c, qn_err *err)
{
    *c = (qn_corpus){.alloc = env->alloc, .context = o->context};
    if (o->context < 2)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "a context of %" PRIu64 " tokens; 2 at least", o->context);
    struct builder b = {.env = env, .o = o, .tok = tok, .c = c, .bos = UINT32_MAX};
    c->documents = o->separator || qn_text_ends(path, ".jsonl") || qn_text_ends(path, ".ndjson");
    c->starts = qn_mem_zeros(env->alloc, 1, sizeof *c->starts, err);
    qn_code rc = c->starts ? QN_OK : QN_E_MEMORY;
    b.cap_starts = 1;
    if (rc == QN_OK)
        rc = qn_text_ends(path, ".npy") ? read_npy(&b, path, err) : read_text(&b, path, err);
    if (rc == QN_OK)
        rc = check(c, n_vocab, err);
    if (rc != QN_OK) {
        qn_corpus_release(c);
        return qn_err_in_path(err, rc, path);
    }
    qn_hasher h;
    rc = qn_hasher_open(&h, err);
    if (rc != QN_OK) {
        qn_corpus_release(c);
        return rc;
    }
    qn_hasher_add(&h, c->tokens, c->n_tokens * sizeof *c->tokens);
    qn_hasher_add(&h, c->starts, (c->n_chunks + 1) * sizeof *c->starts);
    qn_hasher_add(&h, c->score_from, c->n_chunks * sizeof *c->score_from);
    c->digest = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    return QN_OK;
}

void qn_corpus_release(qn_corpus *c)
{
    qn_mem_put(c->alloc, c->tokens);
    qn_mem_put(c->alloc, c->starts);
    qn_mem_put(c->alloc, c->score_from);
    *c = (qn_corpus){.alloc = c->alloc};
}
