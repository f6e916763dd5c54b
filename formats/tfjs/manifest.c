/* manifest.c: model.json: {"modelTopology": …, "weightsManifest": [{"paths": […], "weights": [{"name", "shape", "dtype",
 * "quantization"?: {"dtype", "scale", "min"}}]}], …}. All but the manifest is passed over. */
#include "base/err.h"
#include "base/num.h"
#include "formats/json/json.h"
#include "formats/tfjs/tfjs.h"
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 4096, NUMBER_BYTES_MAX = 64 };
#define SHARDS_MAX  (UINT64_C(1) << 20)
#define WEIGHTS_MAX (UINT64_C(1) << 24)

struct reading {
    qn_tfjs_model *m;
    qn_source *s;
    qn_file file;
    uint64_t n_bytes;
    qn_json j;
};

static qn_code read_text(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct reading *r = ctx;
    return qn_file_read(&r->file, dst, n, off, err);
}

static qn_code next(struct reading *r, qn_json_token *tok, qn_err *err)
{
    return qn_json_next(&r->j, tok, err);
}

static qn_code expect(struct reading *r, qn_json_token want, const char *what, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(next(r, &tok, err));
    return tok == want ? QN_OK : QN_FAIL(err, QN_E_INPUT, r->j.token_off, "%s is expected", what);
}

/* The number just read as the double that JavaScript has for it. */
static qn_code read_double(struct reading *r, double *v, qn_err *err)
{
    char text[NUMBER_BYTES_MAX + 1];
    const uint64_t n = qn_min_u64(NUMBER_BYTES_MAX, r->n_bytes - r->j.token_off);
    QN_TRY(qn_file_read(&r->file, text, n, r->j.token_off, err));
    text[n] = '\0';
    const size_t len = strspn(text, "+-.0123456789eE");
    if (len == NUMBER_BYTES_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, r->j.token_off, "a number of %d characters or more", NUMBER_BYTES_MAX);
    text[len] = '\0';
    char *dot = strchr(text, '.');
    if (dot)
        *dot = localeconv()->decimal_point[0]; /* strtod goes by the locale of whoever called us */
    *v = strtod(text, NULL);
    return isfinite(*v) ? QN_OK : QN_FAIL(err, QN_E_INPUT, r->j.token_off, "a number past the range of doubles");
}

/* ---- weights ---- */

static const struct {
    const char *name;
    uint8_t dtype;
} dtypes[] = {{"float32", QN_F32}, {"int32", QN_I32}, {"bool", QN_BOOL}, {"complex64", QN_C64}, {"string", QN_BYTES}};

static const struct {
    const char *name, *tail;
    uint8_t kind, lies_as;
} kinds[] = {{"", "", QN_TFJS_PLAIN, 0}, {"uint8", ":uint8", QN_TFJS_U8, QN_U8}, {"uint16", ":uint16", QN_TFJS_U16, QN_U16},
             {"float16", ":float16", QN_TFJS_F16, QN_F16}};

/* A weight as it stands in the manifest. */
struct entry {
    char name[NAME_BYTES_MAX + 1];
    size_t n_name;
    uint64_t dims[QN_RANK_MAX], off;
    unsigned rank, dtype, kind; /* positions in the tables above */
    double scale, min;
    bool has_name, has_shape, has_dtype, has_quantization, has_kind, has_scale, has_min;
};

static qn_code once(struct reading *r, bool *has, qn_err *err)
{
    if (*has)
        return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "'%s' stands twice", r->j.text);
    *has = true;
    return QN_OK;
}

static qn_code read_shape(struct reading *r, struct entry *e, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(expect(r, QN_JSON_ARRAY, "shape: an array", err));
    for (e->rank = 0;; e->rank++) {
        QN_TRY(next(r, &tok, err));
        if (tok == QN_JSON_ARRAY_END)
            return QN_OK;
        if (e->rank == QN_RANK_MAX)
            return QN_FAIL(err, QN_E_UNSUPPORTED, r->j.token_off, "more than %d dimensions", QN_RANK_MAX);
        if (tok != QN_JSON_NUMBER || !r->j.is_uint || r->j.number > QN_DIM_MAX)
            return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "a dimension is a whole number of at most 2^48");
        e->dims[e->rank] = r->j.number;
    }
}

static qn_code read_dtype(struct reading *r, struct entry *e, qn_err *err)
{
    QN_TRY(expect(r, QN_JSON_STRING, "dtype: a text", err));
    for (e->dtype = 0; e->dtype < sizeof dtypes / sizeof dtypes[0]; e->dtype++)
        if (strcmp(r->j.text, dtypes[e->dtype].name) == 0)
            return QN_OK;
    char shown[48];
    qn_printable(shown, sizeof shown, r->j.text, r->j.n_text);
    return QN_FAIL(err, QN_E_UNSUPPORTED, r->j.token_off, "dtype '%s': float32, int32, bool, complex64 and string are read", shown);
}

static qn_code read_quantization(struct reading *r, struct entry *e, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(expect(r, QN_JSON_OBJECT, "quantization: an object", err));
    for (;;) {
        QN_TRY(next(r, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            break;
        const bool scale = strcmp(r->j.text, "scale") == 0;
        if (scale || strcmp(r->j.text, "min") == 0) {
            QN_TRY(once(r, scale ? &e->has_scale : &e->has_min, err));
            QN_TRY(expect(r, QN_JSON_NUMBER, "scale and min: a number", err));
            QN_TRY(read_double(r, scale ? &e->scale : &e->min, err));
        } else if (strcmp(r->j.text, "dtype") == 0) {
            QN_TRY(once(r, &e->has_kind, err));
            QN_TRY(expect(r, QN_JSON_STRING, "dtype: a text", err));
            for (e->kind = 1; e->kind < sizeof kinds / sizeof kinds[0] && strcmp(r->j.text, kinds[e->kind].name) != 0;)
                e->kind++;
            if (e->kind == sizeof kinds / sizeof kinds[0])
                return QN_FAIL(err, QN_E_UNSUPPORTED, r->j.token_off, "quantized as something else than uint8, uint16, float16");
        } else {
            QN_TRY(next(r, &tok, err));
            QN_TRY(qn_json_skip(&r->j, tok, err));
        }
    }
    if (!e->has_kind)
        return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "quantization without a dtype");
    if (e->kind != QN_TFJS_F16 && (!e->has_scale || !e->has_min))
        return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "quantization without scale and min");
    return QN_OK;
}

static qn_code keep_weight(struct reading *r, const struct entry *e, qn_err *err)
{
    qn_tfjs_model *m = r->m;
    qn_arena *ar = &r->s->arena;
    if (!e->has_name || !e->has_shape || !e->has_dtype)
        return QN_FAIL(err, QN_E_INPUT, e->off, "a weight needs name, shape and dtype");
    const uint8_t dtype = dtypes[e->dtype].dtype;
    if (e->kind && dtype != QN_F32 && (dtype != QN_I32 || e->kind == QN_TFJS_F16))
        return QN_FAIL(err, QN_E_UNSUPPORTED, e->off, "%s cannot be quantized as %s", dtypes[e->dtype].name, kinds[e->kind].name);
    const uint8_t lies_as = e->kind ? kinds[e->kind].lies_as : dtype == QN_BYTES ? (uint8_t)QN_U8 : dtype;
    qn_tfjs_weight w = {.model = m, .rank = (uint8_t)e->rank, .dtype = dtype, .kind = (uint8_t)e->kind, .scale = e->scale,
                        .min = e->min, .group = (uint32_t)(m->n_groups - 1), .object = QN_NO_OBJECT};
    uint64_t n_values; /* what it is when it is read must be countable too */
    if (!qn_shape_bytes((qn_dtype)lies_as, e->dims, e->rank, &w.n_elems, &w.n_bytes) ||
        (dtype != QN_BYTES && !qn_shape_bytes((qn_dtype)dtype, e->dims, e->rank, &w.n_elems, &n_values)))
        return QN_FAIL(err, QN_E_INPUT, e->off, "its shape has more elements than 64 bits can count");
    const size_t n_tail = strlen(kinds[e->kind].tail);
    char *name = qn_arena_str(ar, e->name, e->n_name, err), *object = qn_arena_get(ar, e->n_name + n_tail + 1, 1, err);
    uint64_t *dims = qn_arena_get(ar, e->rank * sizeof *dims, 8, err);
    if (!name || !object || !dims)
        return QN_E_MEMORY;
    memcpy(object, e->name, e->n_name);
    memcpy(object + e->n_name, kinds[e->kind].tail, n_tail + 1);
    memcpy(dims, e->dims, e->rank * sizeof *dims);
    w.name = name;
    w.object_name = object;
    w.dims = dims;
    qn_tfjs_weight *p = m->n_weights < WEIGHTS_MAX ? qn_mem_grow(r->s->env->alloc, m->weights, m->n_weights, &m->cap_weights,
                                                                  m->n_weights + 1, sizeof *p, err) : NULL;
    if (!p)
        return QN_FAIL(err, m->n_weights < WEIGHTS_MAX ? QN_E_MEMORY : QN_E_UNSUPPORTED, e->off, "more than %llu weights",
                       (unsigned long long)WEIGHTS_MAX);
    m->weights = p;
    p[m->n_weights++] = w;
    m->groups[m->n_groups - 1].n_weights++;
    return QN_OK;
}

static qn_code read_weight(struct reading *r, struct entry *e, qn_err *err)
{
    qn_json_token tok;
    *e = (struct entry){.off = r->j.token_off};
    for (;;) {
        QN_TRY(next(r, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return qn_err_in_tensor(err, keep_weight(r, e, err), e->has_name ? e->name : NULL);
        const char *key = r->j.text;
        if (strcmp(key, "name") == 0) {
            QN_TRY(once(r, &e->has_name, err));
            QN_TRY(expect(r, QN_JSON_STRING, "name: a text", err));
            if (r->j.cut || r->j.n_text > NAME_BYTES_MAX || r->j.n_text == 0)
                return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "name of a weight: 1 to %d bytes are allowed", NAME_BYTES_MAX);
            e->n_name = r->j.n_text;
            memcpy(e->name, r->j.text, e->n_name + 1);
        } else if (strcmp(key, "shape") == 0) {
            QN_TRY(once(r, &e->has_shape, err));
            QN_TRY(read_shape(r, e, err));
        } else if (strcmp(key, "dtype") == 0) {
            QN_TRY(once(r, &e->has_dtype, err));
            QN_TRY(read_dtype(r, e, err));
        } else if (strcmp(key, "quantization") == 0) {
            QN_TRY(once(r, &e->has_quantization, err));
            QN_TRY(read_quantization(r, e, err));
        } else {
            QN_TRY(next(r, &tok, err));
            QN_TRY(qn_json_skip(&r->j, tok, err));
        }
    }
}

/* ---- groups ---- */

static qn_code add_path(struct reading *r, qn_err *err)
{
    qn_tfjs_model *m = r->m;
    if (r->j.cut || !qn_path_is_safe(r->j.text, r->j.n_text))
        return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "paths: a relative path below the model's folder is expected, without '..'");
    if (m->n_shards == SHARDS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, r->j.token_off, "more than %llu files", (unsigned long long)SHARDS_MAX);
    qn_tfjs_shard *p = qn_mem_grow(r->s->env->alloc, m->shards, m->n_shards, &m->cap_shards, m->n_shards + 1, sizeof *p, err);
    char *path = p ? qn_arena_str(&r->s->arena, r->j.text, r->j.n_text, err) : NULL;
    m->shards = p ? p : m->shards;
    if (!path)
        return QN_E_MEMORY;
    p[m->n_shards++] = (qn_tfjs_shard){.path = path, .group = (uint32_t)(m->n_groups - 1), .file = UINT32_MAX};
    m->groups[m->n_groups - 1].n_shards++;
    return QN_OK;
}

static qn_code read_paths(struct reading *r, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(expect(r, QN_JSON_ARRAY, "paths: an array", err));
    for (;;) {
        QN_TRY(next(r, &tok, err));
        if (tok == QN_JSON_ARRAY_END)
            return QN_OK;
        if (tok != QN_JSON_STRING)
            return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "paths: texts are expected");
        QN_TRY(add_path(r, err));
    }
}

static qn_code read_weights(struct reading *r, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(expect(r, QN_JSON_ARRAY, "weights: an array", err));
    struct entry *e = qn_mem_get(r->s->env->alloc, sizeof *e, err);
    qn_code rc = e ? QN_OK : QN_E_MEMORY;
    while (rc == QN_OK) {
        rc = next(r, &tok, err);
        if (rc != QN_OK || tok == QN_JSON_ARRAY_END)
            break;
        rc = tok == QN_JSON_OBJECT ? read_weight(r, e, err)
                                   : QN_FAIL(err, QN_E_INPUT, r->j.token_off, "weights: objects are expected");
    }
    qn_mem_put(r->s->env->alloc, e);
    return rc;
}

static qn_code read_group(struct reading *r, qn_err *err)
{
    qn_tfjs_model *m = r->m;
    qn_json_token tok;
    bool has_paths = false, has_weights = false;
    const uint64_t at = r->j.token_off;
    if (m->n_groups == SHARDS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, at, "more than %llu groups", (unsigned long long)SHARDS_MAX);
    qn_tfjs_group *p = qn_mem_grow(r->s->env->alloc, m->groups, m->n_groups, &m->cap_groups, m->n_groups + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    m->groups = p;
    p[m->n_groups++] = (qn_tfjs_group){.first_shard = m->n_shards, .first_weight = m->n_weights};
    for (;;) {
        QN_TRY(next(r, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            break;
        if (strcmp(r->j.text, "paths") == 0) {
            QN_TRY(once(r, &has_paths, err));
            QN_TRY(read_paths(r, err));
        } else if (strcmp(r->j.text, "weights") == 0) {
            QN_TRY(once(r, &has_weights, err));
            QN_TRY(read_weights(r, err));
        } else {
            QN_TRY(next(r, &tok, err));
            QN_TRY(qn_json_skip(&r->j, tok, err));
        }
    }
    return has_paths && has_weights ? QN_OK : QN_FAIL(err, QN_E_INPUT, at, "a group of weightsManifest needs paths and weights");
}

static qn_code read_manifest(struct reading *r, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(expect(r, QN_JSON_ARRAY, "weightsManifest: an array", err));
    for (;;) {
        QN_TRY(next(r, &tok, err));
        if (tok == QN_JSON_ARRAY_END)
            return QN_OK;
        if (tok != QN_JSON_OBJECT)
            return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "weightsManifest: objects are expected");
        QN_TRY(read_group(r, err));
    }
}

static qn_code read_model(struct reading *r, bool *found, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(next(r, &tok, err));
    if (tok != QN_JSON_OBJECT)
        return QN_OK;
    for (;;) {
        QN_TRY(next(r, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return next(r, &tok, err);
        if (strcmp(r->j.text, "weightsManifest") == 0) {
            QN_TRY(once(r, found, err));
            QN_TRY(read_manifest(r, err));
        } else {
            QN_TRY(next(r, &tok, err));
            QN_TRY(qn_json_skip(&r->j, tok, err));
        }
    }
}

static qn_code read_opened(struct reading *r, bool *found, qn_err *err)
{
    qn_stat st;
    QN_TRY(qn_file_stat(&r->file, &st, err));
    r->n_bytes = st.n_bytes;
    qn_code rc = qn_json_open(&r->j, r->s->env->alloc, read_text, r, 0, st.n_bytes, err);
    if (rc == QN_OK)
        rc = read_model(r, found, err);
    qn_json_release(&r->j);
    return rc;
}

qn_code qn_tfjs_read(qn_source *s, const char *path, qn_tfjs_model **out, qn_err *err)
{
    bool found = false;
    *out = NULL;
    struct reading r = {.s = s, .m = qn_arena_get(&s->arena, sizeof *r.m, 8, err)};
    if (!r.m)
        return QN_E_MEMORY;
    *r.m = (qn_tfjs_model){.s = s};
    QN_TRY(qn_file_open(&r.file, s->env->fs, s->env->alloc, path, QN_OPEN_READ, err));
    const qn_code rc = qn_err_in_path(err, read_opened(&r, &found, err), path);
    qn_file_drop(&r.file);
    if (rc != QN_OK || !found)
        qn_tfjs_release(r.m);
    else
        *out = r.m;
    return rc;
}
