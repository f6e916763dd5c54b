/* emit_tensor.c: what a tensor of the source is called after a cut, its shape and its content; see emit_plan.h. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/prune/emit_plan.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const qn_source_tensor *tensor_of(const qn_emit_plan *p, uint64_t t)
{
    return &p->g->source->tensors[t];
}

/* ---- names ---- */

/* A number in a name: [*from, *to) of it, the first whole component that is one, from byte `at` on. */
static bool find_number(const char *name, size_t at, size_t *from, size_t *to)
{
    for (; name[at]; at += strcspn(name + at, "."), at += name[at] == '.') {
        const size_t n = strspn(name + at, "0123456789");
        if (n && n < 10 && (name[at + n] == '.' || !name[at + n])) {
            *from = at;
            *to = at + n;
            return true;
        }
    }
    return false;
}

/* The layer that a tensor belongs to by its name, also one that the graph does not know; UINT32_MAX: none. */
static uint32_t layer_of(const qn_emit_plan *p, const char *name, size_t *from, size_t *to)
{
    if (!p->prefix || strncmp(name, p->prefix, strlen(p->prefix)) || !find_number(name, strlen(p->prefix), from, to) || *from != strlen(p->prefix))
        return UINT32_MAX;
    const unsigned long n = strtoul(name + *from, NULL, 10);
    return n < p->n_layers ? (uint32_t)n : UINT32_MAX;
}

qn_code qn_emit_name(const qn_emit_plan *p, uint64_t tensor, char *buf, size_t cap, bool *gone, qn_err *err)
{
    const char *name = tensor_of(p, tensor)->name;
    const uint32_t v = p->value_of[tensor], expert = v == QN_NO_VALUE ? QN_EMIT_GONE : p->weights[v].expert;
    size_t from = 0, to = 0;
    const uint32_t layer = layer_of(p, name, &from, &to);
    *gone = false;
    int n = snprintf(buf, cap, "%s", name);
    if (layer != UINT32_MAX) {
        const qn_emit_layer *l = &p->layers[layer];
        *gone = l->to == QN_EMIT_GONE || (expert != QN_EMIT_GONE && l->expert_to[expert] == QN_EMIT_GONE);
        size_t e_from = 0, e_to = 0;
        if (!*gone && expert != QN_EMIT_GONE && find_number(name, to + 1, &e_from, &e_to))
            n = snprintf(buf, cap, "%.*s%" PRIu32 "%.*s%" PRIu32 "%s", (int)from, name, l->to, (int)(e_from - to), name + to, l->expert_to[expert],
                         name + e_to);
        else if (!*gone)
            n = snprintf(buf, cap, "%.*s%" PRIu32 "%s", (int)from, name, l->to, name + to);
    }
    if (n < 0 || (size_t)n >= cap)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "name longer than %zu bytes", cap - 1), name);
    return QN_OK;
}

/* ---- shapes ---- */

static bool drops_rows(const qn_emit_plan *p, uint32_t v)
{
    if (v == QN_NO_VALUE || !p->weights[v].by_expert)
        return false;
    const qn_emit_layer *l = &p->layers[p->weights[v].layer];
    return l->now[QN_EMIT_EXPERTS] < l->old[QN_EMIT_EXPERTS];
}

qn_code qn_emit_dims(const qn_emit_plan *p, uint64_t tensor, uint64_t dims[QN_RANK_MAX], uint64_t *n_bytes, qn_err *err)
{
    const qn_source_tensor *t = tensor_of(p, tensor);
    const uint32_t v = p->value_of[tensor];
    uint64_t n_elems;
    for (unsigned k = 0; k < t->rank; k++)
        dims[k] = t->dims[k];
    if (v != QN_NO_VALUE && p->c && qn_cut_touches(p->c, v)) {
        int64_t cut[QN_ARRAY_RANK_MAX];
        QN_TRY(qn_cut_dims(p->c, v, cut, err));
        for (unsigned k = 0; k < t->rank; k++)
            dims[k] = (uint64_t)cut[k];
    }
    if (drops_rows(p, v))
        dims[0] = p->layers[p->weights[v].layer].now[QN_EMIT_EXPERTS];
    if (!qn_shape_bytes((qn_dtype)t->dtype, dims, t->rank, &n_elems, n_bytes))
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "what would stay has no shape in %s",
                                             qn_dtype_name((qn_dtype)t->dtype)), t->name);
    return QN_OK;
}

/* ---- content ---- */

/* f32 → the tensor's own dtype, to nearest. */
static qn_code narrow(qn_dtype t, const float *src, uint64_t n, uint8_t *dst, qn_err *err)
{
    switch (t) {
    case QN_F32:
        memcpy(dst, src, n * sizeof *src);
        return QN_OK;
    case QN_BF16:
        for (uint64_t i = 0; i < n; i++)
            qn_store16(dst + 2 * i, qn_f32_to_bf16(src[i]));
        return QN_OK;
    case QN_F16:
        for (uint64_t i = 0; i < n; i++)
            qn_store16(dst + 2 * i, qn_f32_to_f16(src[i]));
        return QN_OK;
    case QN_F8_E4M3:
        for (uint64_t i = 0; i < n; i++)
            dst[i] = qn_f32_to_e4m3(src[i]);
        return QN_OK;
    case QN_F8_E5M2:
        for (uint64_t i = 0; i < n; i++)
            dst[i] = qn_f32_to_e5m2(src[i]);
        return QN_OK;
    default:
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "is %s: changed weights cannot be written in it, so prune first and quantize then",
                       qn_dtype_name(t));
    }
}

/* Rows of experts that stay move up. */
static void keep_rows(const qn_emit_plan *p, uint32_t v, uint8_t *buf, uint64_t row_bytes)
{
    const qn_emit_layer *l = &p->layers[p->weights[v].layer];
    for (uint64_t e = 0; e < l->old[QN_EMIT_EXPERTS]; e++)
        if (l->expert_to[e] != QN_EMIT_GONE && l->expert_to[e] != e)
            memmove(buf + l->expert_to[e] * row_bytes, buf + e * row_bytes, row_bytes);
}

static void rescale(const qn_emit_weight *w, float *x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        x[i] = (float)((w->offset + (double)x[i]) * w->scale - w->offset);
}

/* buf (of full shape, elements of `width` bytes) to what stays of it. */
static qn_code shrink(const qn_emit_plan *p, uint32_t v, unsigned width, const void *full, uint8_t *out, uint64_t *n_elems, qn_err *err)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    const qn_value *value = &p->g->values[v];
    for (unsigned k = 0; k < value->rank; k++)
        dims[k] = value->dims[k];
    if (p->c && qn_cut_touches(p->c, v))
        QN_TRY(qn_cut_take(p->c, v, width, full, out, dims, err));
    else
        memcpy(out, full, qn_value_elems(value) * width);
    uint64_t row = width;
    for (unsigned k = 1; k < value->rank; k++)
        row *= (uint64_t)dims[k];
    if (drops_rows(p, v)) {
        keep_rows(p, v, out, row);
        dims[0] = (int64_t)p->layers[p->weights[v].layer].now[QN_EMIT_EXPERTS];
    }
    *n_elems = value->rank ? row / width * (uint64_t)dims[0] : 1;
    return QN_OK;
}

/* Through f32: weights that were changed. */
static qn_code fill_changed(const qn_emit_content *x, uint32_t v, qn_dtype t, uint8_t **out, qn_err *err)
{
    const qn_emit_plan *p = x->plan;
    const qn_alloc *a = p->env->alloc;
    const qn_value *value = &p->g->values[v];
    const uint64_t n = qn_value_elems(value);
    float *read = NULL;
    const float *full = x->overlay ? x->overlay->data[v] : NULL;
    uint64_t kept;
    if (!full) {
        full = read = qn_mem_get(a, n * sizeof *read + 1, err);
        if (!read)
            return QN_E_MEMORY;
        const qn_code rc = qn_weight_from_source(p->env, p->g->source, p->g, v, 0, value->rank ? (uint64_t)value->dims[0] : 1, read, err);
        if (rc != QN_OK) {
            qn_mem_put(a, read);
            return rc;
        }
    }
    float *some = qn_mem_get(a, n * sizeof *some + 1, err);
    qn_code rc = some ? shrink(p, v, sizeof *some, full, (uint8_t *)some, &kept, err) : QN_E_MEMORY;
    qn_mem_put(a, read);
    if (rc == QN_OK && !(*out = qn_mem_get(a, kept * sizeof(float) + 1, err)))
        rc = QN_E_MEMORY;
    if (rc == QN_OK) {
        if (p->weights[v].scale != 1)
            rescale(&p->weights[v], some, kept);
        rc = narrow(t, some, kept, *out, err);
    }
    qn_mem_put(a, some);
    return rc;
}

/* In its own bytes: weights of which something goes and nothing else changes. */
static qn_code fill_cut(const qn_emit_content *x, uint64_t tensor, uint32_t v, uint8_t **out, qn_err *err)
{
    const qn_emit_plan *p = x->plan;
    const qn_alloc *a = p->env->alloc;
    const qn_source_tensor *t = tensor_of(p, tensor);
    uint64_t kept;
    uint8_t *full = qn_mem_get(a, t->n_bytes + 1, err);
    *out = full ? qn_mem_get(a, t->n_bytes + 1, err) : NULL;
    qn_code rc = *out ? qn_source_tensor_read(p->g->source, tensor, 0, t->n_bytes, full, err) : QN_E_MEMORY;
    if (rc == QN_OK && qn_dtype_bits((qn_dtype)t->dtype) >= 8)
        rc = shrink(p, v, qn_dtype_bits((qn_dtype)t->dtype) / 8, full, *out, &kept, err);
    else if (rc == QN_OK) { /* blocks: whole rows of experts only, as the plan has seen to */
        memcpy(*out, full, t->n_bytes);
        keep_rows(p, v, *out, t->n_bytes / t->dims[0]);
    }
    qn_mem_put(a, full);
    return rc;
}

qn_code qn_emit_read(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    qn_emit_content *x = ctx;
    const qn_emit_plan *p = x->plan;
    const uint32_t v = p->value_of[id];
    const bool changed = v != QN_NO_VALUE && (p->weights[v].scale != 1 || (x->overlay && x->overlay->data[v]));
    const bool cut = v != QN_NO_VALUE && ((p->c && qn_cut_touches(p->c, v)) || drops_rows(p, v));
    if (!changed && !cut)
        return qn_source_tensor_read(p->g->source, id, off, n, dst, err);
    if (x->tensor != id) {
        qn_emit_content_release(x);
        const qn_code rc = changed ? fill_changed(x, v, (qn_dtype)tensor_of(p, id)->dtype, &x->buf, err) : fill_cut(x, id, v, &x->buf, err);
        if (rc != QN_OK) {
            qn_emit_content_release(x);
            return qn_err_in_tensor(err, rc, tensor_of(p, id)->name);
        }
        x->tensor = id;
    }
    memcpy(dst, x->buf + off, (size_t)n);
    return QN_OK;
}

void qn_emit_content_release(qn_emit_content *x)
{
    if (x->buf)
        qn_mem_put(x->plan->env->alloc, x->buf);
    x->buf = NULL;
    x->tensor = UINT64_MAX;
}
