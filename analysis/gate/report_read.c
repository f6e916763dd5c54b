/* report_read.c: a report from JSON; see report.h. Objects are read by tables of keys; what a table does not name is passed over. The file was
 * written by somebody: lengths, counts and kinds of values are checked before anything is believed. */
#include "analysis/gate/report.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/json/json.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { FILE_MAX_BYTES = 1 << 28, ITEMS_MAX = 1 << 22, TEXT_MAX = 4000 };

struct reader {
    qn_json j;
    qn_report *r;
    const qn_alloc *alloc;
    bool schema_seen;
};

enum kind { TEXT, U64, U32, REAL, BOOL, DIGEST, ESTIMATE };

struct field {
    const char *key;
    enum kind kind;
    size_t at; /* in the struct that is filled */
};

static qn_code next(struct reader *x, qn_json_token *tok, qn_err *err)
{
    return qn_json_next(&x->j, tok, err);
}

static qn_code wrong(struct reader *x, const char *key, const char *expected, qn_err *err)
{
    return QN_FAIL(err, QN_E_INPUT, x->j.token_off, "'%.60s': %s is expected", key, expected);
}

static qn_code take_text(struct reader *x, const char *key, qn_json_token tok, const char **to, qn_err *err)
{
    if (tok == QN_JSON_NULL) {
        *to = NULL;
        return QN_OK;
    }
    if (tok != QN_JSON_STRING || x->j.cut || x->j.n_text > TEXT_MAX)
        return wrong(x, key, "a text of at most 4000 bytes", err);
    *to = qn_arena_str(&x->r->arena, x->j.text, x->j.n_text, err);
    return *to ? QN_OK : QN_E_MEMORY;
}

static qn_code take_real(struct reader *x, const char *key, qn_json_token tok, double *to, qn_err *err)
{
    if (tok == QN_JSON_NUMBER)
        *to = x->j.real;
    else if (tok == QN_JSON_NULL)
        *to = (double)NAN;
    else if (tok == QN_JSON_STRING && (!strcmp(x->j.text, "inf") || !strcmp(x->j.text, "-inf")))
        *to = *x->j.text == '-' ? -(double)INFINITY : (double)INFINITY;
    else
        return wrong(x, key, "a number", err);
    return QN_OK;
}

static qn_code take_u64(struct reader *x, const char *key, qn_json_token tok, uint64_t most, uint64_t *to, qn_err *err)
{
    if (tok != QN_JSON_NUMBER || !x->j.is_uint || x->j.number > most)
        return wrong(x, key, "a whole number that is not too large", err);
    *to = x->j.number;
    return QN_OK;
}

static unsigned nibble(char c)
{
    return c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
}

static qn_code take_digest(struct reader *x, const char *key, qn_json_token tok, qn_digest *to, qn_err *err)
{
    *to = (qn_digest){{0}};
    if (tok == QN_JSON_NULL)
        return QN_OK;
    if (tok != QN_JSON_STRING || x->j.n_text != 32)
        return wrong(x, key, "a digest of 32 hexadecimal digits", err);
    for (unsigned i = 0; i < 16; i++) {
        const unsigned hi = nibble(x->j.text[2 * i]), lo = nibble(x->j.text[2 * i + 1]);
        if (hi > 15 || lo > 15)
            return wrong(x, key, "a digest of 32 hexadecimal digits", err);
        to->b[i] = (uint8_t)(hi << 4 | lo);
    }
    return QN_OK;
}

static qn_code take_object(struct reader *x, const char *key, qn_json_token tok, const struct field *f, unsigned n, void *to, qn_err *err);

static qn_code take_estimate(struct reader *x, const char *key, qn_json_token tok, qn_estimate *to, qn_err *err)
{
    static const struct field fields[] = {
        {"value", REAL, offsetof(qn_estimate, value)}, {"se", REAL, offsetof(qn_estimate, se)},
        {"low", REAL, offsetof(qn_estimate, low)}, {"high", REAL, offsetof(qn_estimate, high)},
    };
    return take_object(x, key, tok, fields, 4, to, err);
}

static qn_code take_field(struct reader *x, const struct field *f, qn_json_token tok, void *to, qn_err *err)
{
    char *at = (char *)to + f->at;
    uint64_t v = 0;
    switch (f->kind) {
    case TEXT: return take_text(x, f->key, tok, (const char **)(void *)at, err);
    case U64: return take_u64(x, f->key, tok, INT64_MAX, (uint64_t *)(void *)at, err);
    case U32:
        QN_TRY(take_u64(x, f->key, tok, UINT32_MAX - 1, &v, err));
        *(uint32_t *)(void *)at = (uint32_t)v;
        return QN_OK;
    case REAL: return take_real(x, f->key, tok, (double *)(void *)at, err);
    case BOOL:
        *(bool *)(void *)at = tok == QN_JSON_TRUE;
        return tok == QN_JSON_TRUE || tok == QN_JSON_FALSE ? QN_OK : wrong(x, f->key, "true or false", err);
    case DIGEST: return take_digest(x, f->key, tok, (qn_digest *)(void *)at, err);
    default: return take_estimate(x, f->key, tok, (qn_estimate *)(void *)at, err);
    }
}

static qn_code take_object(struct reader *x, const char *key, qn_json_token tok, const struct field *f, unsigned n, void *to, qn_err *err)
{
    if (tok != QN_JSON_OBJECT)
        return wrong(x, key, "an object", err);
    for (;;) {
        QN_TRY(next(x, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return QN_OK;
        unsigned i = 0;
        while (i < n && strcmp(f[i].key, x->j.text) != 0)
            i++;
        QN_TRY(next(x, &tok, err));
        QN_TRY(i < n ? take_field(x, &f[i], tok, to, err) : qn_json_skip(&x->j, tok, err));
    }
}

/* An array of things of `size` bytes, each read by `one`; the whole is moved into the arena. */
typedef qn_code (*take_one)(struct reader *x, qn_json_token tok, void *to, qn_err *err);

static qn_code take_array(struct reader *x, const char *key, qn_json_token tok, take_one one, uint64_t size, void **to, uint64_t *count, qn_err *err)
{
    uint64_t n = 0, cap = 0;
    char *p = NULL;
    qn_code rc = tok == QN_JSON_ARRAY ? QN_OK : wrong(x, key, "a list", err);
    while (rc == QN_OK && (rc = next(x, &tok, err)) == QN_OK && tok != QN_JSON_ARRAY_END) {
        if (n == ITEMS_MAX)
            rc = wrong(x, key, "a list of at most 4194304 things", err);
        if (rc == QN_OK && n == cap) {
            char *more = qn_mem_grow(x->alloc, p, n, &cap, n + n / 2 + 16, size, err);
            rc = more ? QN_OK : QN_E_MEMORY;
            p = more ? more : p;
        }
        if (rc == QN_OK) {
            memset(p + n * size, 0, size);
            rc = one(x, tok, p + n * size, err);
            n++;
        }
    }
    void *kept = rc == QN_OK ? qn_arena_get(&x->r->arena, (n + 1) * size, 16, err) : NULL;
    if (rc == QN_OK && !kept)
        rc = QN_E_MEMORY;
    if (kept && n)
        memcpy(kept, p, n * size);
    if (rc == QN_OK) {
        *to = kept;
        *count = n;
    }
    qn_mem_put(x->alloc, p);
    return rc;
}

static qn_code one_tensor(struct reader *x, qn_json_token tok, void *to, qn_err *err)
{
    static const struct field fields[] = {
        {"name", TEXT, offsetof(qn_report_tensor, name)}, {"dtype", TEXT, offsetof(qn_report_tensor, dtype)},
        {"ref_dtype", TEXT, offsetof(qn_report_tensor, ref_dtype)}, {"codec", TEXT, offsetof(qn_report_tensor, codec)}, {"weights", U64, offsetof(qn_report_tensor, n_weights)},
        {"bytes", U64, offsetof(qn_report_tensor, n_bytes)}, {"rel", REAL, offsetof(qn_report_tensor, rel)},
        {"max_abs", REAL, offsetof(qn_report_tensor, max_abs)}, {"cosine", REAL, offsetof(qn_report_tensor, cosine)},
        {"differing", U64, offsetof(qn_report_tensor, n_differing)}, {"trouble", TEXT, offsetof(qn_report_tensor, trouble)},
        {"looks", TEXT, offsetof(qn_report_tensor, looks)}, {"layer", U32, offsetof(qn_report_tensor, layer)},
    };
    qn_report_tensor *t = to;
    *t = (qn_report_tensor){.layer = QN_REPORT_NO_LAYER, .rel = (double)NAN, .max_abs = (double)NAN, .cosine = (double)NAN};
    QN_TRY(take_object(x, "tensors", tok, fields, sizeof fields / sizeof fields[0], t, err));
    return t->name && t->dtype ? QN_OK : wrong(x, "tensors", "a tensor with 'name' and 'dtype'", err);
}

static qn_code one_layer(struct reader *x, qn_json_token tok, void *to, qn_err *err)
{
    static const struct field fields[] = {
        {"name", TEXT, offsetof(qn_report_layer, name)}, {"rel_rms", REAL, offsetof(qn_report_layer, rel_rms)},
        {"max_abs", REAL, offsetof(qn_report_layer, max_abs)}, {"own_rel", REAL, offsetof(qn_report_layer, own_rel)},
        {"bits", REAL, offsetof(qn_report_layer, bits)},
    };
    qn_report_layer *y = to;
    *y = (qn_report_layer){.rel_rms = (double)NAN, .max_abs = (double)NAN, .own_rel = (double)NAN, .bits = (double)NAN};
    QN_TRY(take_object(x, "layers", tok, fields, sizeof fields / sizeof fields[0], y, err));
    return y->name ? QN_OK : wrong(x, "layers", "a layer with 'name'", err);
}

static qn_code one_output(struct reader *x, qn_json_token tok, void *to, qn_err *err)
{
    static const struct field fields[] = {
        {"name", TEXT, offsetof(qn_report_output, name)}, {"values", U64, offsetof(qn_report_output, n_values)},
        {"rel_rms", REAL, offsetof(qn_report_output, rel_rms)}, {"max_rel", REAL, offsetof(qn_report_output, max_rel)},
        {"max_abs", REAL, offsetof(qn_report_output, max_abs)}, {"cosine", REAL, offsetof(qn_report_output, cosine)},
    };
    qn_report_output *o = to;
    QN_TRY(take_object(x, "outputs", tok, fields, sizeof fields / sizeof fields[0], o, err));
    return o->name ? QN_OK : wrong(x, "outputs", "an output with 'name'", err);
}

/* n, nll, nll_reference, kl, dp, dp², top, same_top */
static qn_code one_chunk(struct reader *x, qn_json_token tok, void *to, qn_err *err)
{
    qn_chunk_score *c = to;
    double *const reals[] = {NULL, &c->nll, &c->nll_ref, &c->kl, &c->dp, &c->dp2, NULL, NULL};
    uint64_t *const counts[] = {&c->n, NULL, NULL, NULL, NULL, NULL, &c->n_top, &c->n_same_top};
    if (tok != QN_JSON_ARRAY)
        return wrong(x, "chunks", "a list of 8 numbers each", err);
    for (unsigned i = 0; i < 8; i++) {
        QN_TRY(next(x, &tok, err));
        if (tok != QN_JSON_NUMBER)
            return wrong(x, "chunks", "a list of 8 numbers each", err);
        if (reals[i])
            *reals[i] = x->j.real;
        else
            QN_TRY(take_u64(x, "chunks", tok, UINT32_MAX, counts[i], err));
    }
    QN_TRY(next(x, &tok, err));
    if (tok != QN_JSON_ARRAY_END || c->n_top > c->n || c->n_same_top > c->n)
        return wrong(x, "chunks", "a list of 8 numbers each, the last two not above the first", err);
    return QN_OK;
}

static qn_code one_limit(struct reader *x, qn_json_token tok, void *to, qn_err *err)
{
    static const struct field fields[] = {{"name", TEXT, offsetof(qn_report_limit, name)}, {"value", REAL, offsetof(qn_report_limit, value)},
                                          {"times_baseline", BOOL, offsetof(qn_report_limit, times)}};
    qn_report_limit *l = to;
    QN_TRY(take_object(x, "limits", tok, fields, 3, l, err));
    return l->name ? QN_OK : wrong(x, "limits", "a limit with 'name'", err);
}

static qn_code one_real(struct reader *x, qn_json_token tok, void *to, qn_err *err)
{
    return take_real(x, "kl_quantiles", tok, to, err);
}

static qn_code one_count(struct reader *x, qn_json_token tok, void *to, qn_err *err)
{
    return take_u64(x, "kl_histogram", tok, UINT32_MAX, to, err);
}

static qn_code take_quantiles(struct reader *x, qn_json_token tok, qn_err *err)
{
    void *p;
    uint64_t n;
    QN_TRY(take_array(x, "kl_quantiles", tok, one_real, sizeof(double), &p, &n, err));
    if (n != 7)
        return wrong(x, "kl_quantiles", "a list of 7 numbers", err);
    memcpy(x->r->kl_quantiles, p, sizeof x->r->kl_quantiles);
    return QN_OK;
}

static qn_code take_histogram(struct reader *x, qn_json_token tok, qn_err *err)
{
    void *p;
    uint64_t n;
    QN_TRY(take_array(x, "kl_histogram", tok, one_count, sizeof(uint64_t), &p, &n, err));
    if (n != QN_REPORT_BINS)
        return wrong(x, "kl_histogram", "a list of 64 counts", err);
    for (unsigned i = 0; i < QN_REPORT_BINS; i++)
        x->r->kl_histogram[i] = (uint32_t)((const uint64_t *)p)[i];
    return QN_OK;
}

static qn_code take_tokens(struct reader *x, qn_json_token tok, qn_err *err)
{
    static const struct field fields[] = {
        {"kl", ESTIMATE, offsetof(qn_report, kl)}, {"kl_p99", ESTIMATE, offsetof(qn_report, kl_p99)},
        {"perplexity", ESTIMATE, offsetof(qn_report, ppl)}, {"perplexity_reference", ESTIMATE, offsetof(qn_report, ppl_ref)},
        {"perplexity_ratio", ESTIMATE, offsetof(qn_report, ppl_ratio)}, {"same_top1", ESTIMATE, offsetof(qn_report, same_top)},
        {"excess", ESTIMATE, offsetof(qn_report, excess)}, {"max_probability_change", REAL, offsetof(qn_report, max_dp)},
    };
    const unsigned n = sizeof fields / sizeof fields[0];
    if (tok != QN_JSON_OBJECT)
        return wrong(x, "tokens", "an object", err);
    x->r->is_lm = true;
    for (;;) {
        QN_TRY(next(x, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return QN_OK;
        const bool quantiles = strcmp(x->j.text, "kl_quantiles") == 0, histogram = strcmp(x->j.text, "kl_histogram") == 0;
        unsigned i = 0;
        while (i < n && strcmp(fields[i].key, x->j.text) != 0)
            i++;
        QN_TRY(next(x, &tok, err));
        QN_TRY(quantiles   ? take_quantiles(x, tok, err)
               : histogram ? take_histogram(x, tok, err)
               : i < n     ? take_field(x, &fields[i], tok, x->r, err)
                           : qn_json_skip(&x->j, tok, err));
    }
}

static qn_code take_arrays(struct reader *x, qn_json_token tok, qn_err *err)
{
    static const struct field fields[] = {
        {"same_top1", ESTIMATE, offsetof(qn_report, io_same_top)}, {"accuracy", ESTIMATE, offsetof(qn_report, io_right)},
        {"accuracy_reference", ESTIMATE, offsetof(qn_report, io_right_ref)},
    };
    if (tok != QN_JSON_OBJECT)
        return wrong(x, "arrays", "an object", err);
    x->r->is_io = true;
    for (;;) {
        QN_TRY(next(x, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return QN_OK;
        const bool outputs = strcmp(x->j.text, "outputs") == 0;
        unsigned i = 0;
        while (i < 3 && strcmp(fields[i].key, x->j.text) != 0)
            i++;
        QN_TRY(next(x, &tok, err));
        if (outputs) {
            void *p;
            QN_TRY(take_array(x, "outputs", tok, one_output, sizeof(qn_report_output), &p, &x->r->n_outputs, err));
            x->r->outputs = p;
        } else {
            QN_TRY(i < 3 ? take_field(x, &fields[i], tok, x->r, err) : qn_json_skip(&x->j, tok, err));
        }
    }
}

static qn_code take_binding(struct reader *x, qn_json_token tok, qn_err *err)
{
    static const struct field fields[] = {
        {"reference", DIGEST, offsetof(qn_report_binding, reference)}, {"candidate", DIGEST, offsetof(qn_report_binding, candidate)},
        {"tokenizer", DIGEST, offsetof(qn_report_binding, tokenizer)}, {"data", DIGEST, offsetof(qn_report_binding, data)},
        {"reference_path", TEXT, offsetof(qn_report_binding, reference_path)}, {"candidate_path", TEXT, offsetof(qn_report_binding, candidate_path)},
        {"data_path", TEXT, offsetof(qn_report_binding, data_path)}, {"version", TEXT, offsetof(qn_report_binding, version)},
        {"cpu", TEXT, offsetof(qn_report_binding, cpu)}, {"recipe", TEXT, offsetof(qn_report_binding, recipe)},
        {"chunks", U64, offsetof(qn_report_binding, n_chunks)}, {"context", U64, offsetof(qn_report_binding, context)},
        {"scored", U64, offsetof(qn_report_binding, n_scored)},
    };
    return take_object(x, "binding", tok, fields, sizeof fields / sizeof fields[0], &x->r->b, err);
}

static qn_code take_schema(struct reader *x, qn_json_token tok, qn_err *err)
{
    if (tok != QN_JSON_STRING || strcmp(x->j.text, QN_REPORT_SCHEMA) != 0)
        return QN_FAIL(err, QN_E_INPUT, x->j.token_off, "schema '%.60s': %s is expected", tok == QN_JSON_STRING ? x->j.text : "", QN_REPORT_SCHEMA);
    x->schema_seen = true;
    return QN_OK;
}

static qn_code take_noise(struct reader *x, qn_json_token tok, qn_err *err)
{
    static const struct field fields[] = {{"kl", REAL, offsetof(qn_report, noise_kl)}, {"nll", REAL, offsetof(qn_report, noise_nll)}};
    return take_object(x, "noise", tok, fields, 2, x->r, err);
}

static qn_code take_list(struct reader *x, const char *key, qn_json_token tok, qn_err *err)
{
    void *p = NULL;
    qn_report *r = x->r;
    if (strcmp(key, "tensors") == 0) {
        QN_TRY(take_array(x, key, tok, one_tensor, sizeof *r->tensors, &p, &r->n_tensors, err));
        r->tensors = p;
    } else if (strcmp(key, "layers") == 0) {
        QN_TRY(take_array(x, key, tok, one_layer, sizeof *r->layers, &p, &r->n_layers, err));
        r->layers = p;
    } else if (strcmp(key, "limits") == 0) {
        QN_TRY(take_array(x, key, tok, one_limit, sizeof *r->limits, &p, &r->n_limits, err));
        r->limits = p;
    } else {
        QN_TRY(take_array(x, key, tok, one_chunk, sizeof *r->chunks, &p, &r->n_chunks, err));
        r->chunks = p;
    }
    return QN_OK;
}

static qn_code take_top(struct reader *x, const char *key, qn_json_token tok, qn_err *err)
{
    static const struct field fields[] = {
        {"reason", TEXT, offsetof(qn_report, reason)}, {"cannot_run", TEXT, offsetof(qn_report, cannot_run)},
        {"tokenizer_trouble", TEXT, offsetof(qn_report, tokenizer_trouble)},
        {"size_bytes", U64, offsetof(qn_report, size_bytes)}, {"reference_bytes", U64, offsetof(qn_report, reference_bytes)},
        {"weights", U64, offsetof(qn_report, n_weights)}, {"seconds", REAL, offsetof(qn_report, seconds)},
    };
    static const struct {
        const char *key;
        qn_code (*take)(struct reader *, qn_json_token, qn_err *);
    } parts[] = {{"schema", take_schema}, {"binding", take_binding}, {"tokens", take_tokens}, {"arrays", take_arrays}, {"noise", take_noise}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(key, parts[i].key) == 0)
            return parts[i].take(x, tok, err);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (strcmp(key, fields[i].key) == 0)
            return take_field(x, &fields[i], tok, x->r, err);
    if (!strcmp(key, "tensors") || !strcmp(key, "layers") || !strcmp(key, "chunks") || !strcmp(key, "limits"))
        return take_list(x, key, tok, err);
    return qn_json_skip(&x->j, tok, err);
}

static qn_code read_all(struct reader *x, qn_err *err)
{
    qn_json_token tok;
    char key[32];
    QN_TRY(next(x, &tok, err));
    if (tok != QN_JSON_OBJECT)
        return QN_FAIL(err, QN_E_INPUT, 0, "no report: an object is expected");
    for (;;) {
        QN_TRY(next(x, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            break;
        const size_t n = qn_min_u64(x->j.n_text, sizeof key - 1);
        memcpy(key, x->j.text, n);
        key[n] = '\0';
        QN_TRY(next(x, &tok, err));
        QN_TRY(take_top(x, key, tok, err));
    }
    QN_TRY(next(x, &tok, err)); /* nothing may follow */
    if (!x->schema_seen)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no report: it has no \"schema\": \"%s\"", QN_REPORT_SCHEMA);
    if ((x->r->is_lm || x->r->is_io) && x->r->n_chunks != x->r->b.n_chunks)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " chunks, but the binding says %" PRIu64, x->r->n_chunks, x->r->b.n_chunks);
    return QN_OK;
}

struct bytes {
    const char *p;
};

static qn_code read_bytes(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    (void)err;
    memcpy(dst, ((const struct bytes *)ctx)->p + off, n);
    return QN_OK;
}

qn_code qn_report_parse(qn_report *r, const qn_alloc *alloc, const char *text, uint64_t n_bytes, qn_err *err)
{
    struct reader x = {.r = r, .alloc = alloc};
    struct bytes in = {text};
    qn_report_init(r, alloc);
    QN_TRY(qn_json_open(&x.j, alloc, read_bytes, &in, 0, n_bytes, err));
    x.j.read_reals = true;
    const qn_code rc = read_all(&x, err);
    qn_json_release(&x.j);
    if (rc != QN_OK)
        qn_report_release(r);
    return rc;
}

static qn_code load(const qn_file *f, const qn_env *env, char **text, uint64_t *n, qn_err *err)
{
    qn_stat st;
    QN_TRY(qn_file_stat(f, &st, err));
    if (st.n_bytes > FILE_MAX_BYTES)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " bytes found, a report has at most %d", st.n_bytes, (int)FILE_MAX_BYTES);
    *n = st.n_bytes;
    *text = qn_mem_get(env->alloc, *n + 1, err);
    return *text ? qn_file_read(f, *text, *n, 0, err) : QN_E_MEMORY;
}

qn_code qn_report_read(qn_report *r, const qn_env *env, const char *path, qn_err *err)
{
    qn_file f;
    char *text = NULL;
    uint64_t n = 0;
    QN_TRY(qn_file_open(&f, env->fs, env->alloc, path, QN_OPEN_READ, err));
    qn_code rc = load(&f, env, &text, &n, err);
    qn_file_drop(&f);
    if (rc == QN_OK)
        rc = qn_report_parse(r, env->alloc, text, n, err);
    qn_mem_put(env->alloc, text);
    return qn_err_in_path(err, rc, path);
}
