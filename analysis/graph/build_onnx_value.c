/* build_onnx_value.c: tensors of an ONNX file as values of a graph. */
#include "analysis/graph/onnx_build.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* qn_wire_read_fn: bytes of the model's file, also of one inside a .quern. */
static qn_code read_model(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qn_onnx_build *b = ctx;
    return qn_source_file_read(b->source, b->file, off, n, dst, err);
}

static const qn_onnx_weight *weight_of(const qn_onnx_build *b, const qn_onnx_tensor *t)
{
    uint64_t lo = 0, hi = b->model->n_weights;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (b->weights[mid]->tensor == t)
            return b->weights[mid];
        if ((uintptr_t)b->weights[mid]->tensor < (uintptr_t)t)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static qn_code raw_bytes(qn_onnx_build *b, const qn_onnx_tensor *t, void *dst, qn_err *err)
{
    switch ((qn_onnx_data)t->data) {
    case QN_ONNX_DATA_PLAIN: return read_model(b, dst, t->n_bytes, t->span.off, err);
    case QN_ONNX_DATA_CODED:
        return qn_onnx_decode(t, read_model, b, b->source->files[b->file].n_bytes, 0, t->n_bytes, dst, err);
    case QN_ONNX_DATA_NONE: return QN_OK;
    case QN_ONNX_DATA_EXTERNAL:
    case QN_ONNX_DATA_STRINGS: break;
    }
    const qn_onnx_weight *w = weight_of(b, t);
    const uint64_t i = w ? qn_source_tensor_find(b->source, w->name) : UINT64_MAX;
    if (i == UINT64_MAX || b->source->tensors[i].n_bytes != t->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, t->off, "the data of tensor '%s' are not there", t->name);
    return qn_source_tensor_read(b->source, i, 0, t->n_bytes, dst, err);
}

/* Elements below a byte, the first in the lowest bits, as I8 or U8. */
static void unpack(const uint8_t *src, unsigned bits, bool is_signed, uint64_t n, uint8_t *dst)
{
    const unsigned per = 8 / bits, mask = (1u << bits) - 1, half = 1u << (bits - 1);
    for (uint64_t i = 0; i < n; i++) {
        const unsigned v = src[i / per] >> (i % per * bits) & mask;
        dst[i] = (uint8_t)(is_signed && v >= half ? v - 2 * half : v);
    }
}

static bool is_int(qn_dtype t)
{
    return qn_running_dtype(t) == t && t != QN_F32 && t != QN_F64;
}

qn_code qn_onnx_build_content(qn_onnx_build *b, qn_graph *g, const qn_onnx_tensor *t, qn_array *a, bool *there, qn_err *err)
{
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get(t->data_type);
    *there = info && qn_running_dtype(info->dtype) != QN_BYTES;
    if (!*there)
        return QN_OK;
    const bool is_signed = t->data_type == QN_ONNX_INT4 || t->data_type == QN_ONNX_INT2;
    const qn_dtype to = info->packed ? is_signed ? QN_I8 : QN_U8 : qn_running_dtype(info->dtype);
    int64_t dims[QN_ARRAY_RANK_MAX];
    if (t->rank > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, t->off, "tensor '%s' of rank %u; at most %u is supported", t->name, t->rank,
                       (unsigned)QN_ARRAY_RANK_MAX);
    for (unsigned k = 0; k < t->rank; k++)
        dims[k] = (int64_t)t->dims[k];
    QN_TRY(qn_array_wrap(a, to, dims, t->rank, NULL, err));
    if (a->n != t->n_elems || qn_array_bytes(a) > QN_ONNX_ATTR_BYTES)
        return QN_FAIL(err, QN_E_UNSUPPORTED, t->off, "tensor '%s' of %" PRIu64 " elements in an attribute", t->name, t->n_elems);
    a->data = qn_arena_get(&g->arena, qn_array_bytes(a) + 1, 64, err);
    if (!a->data)
        return QN_E_MEMORY;
    if (!info->packed && to == info->dtype)
        return raw_bytes(b, t, a->data, err);
    uint8_t *raw = qn_mem_get(b->env->alloc, t->n_bytes + 1, err);
    double *wide = qn_mem_get(b->env->alloc, (a->n + 1) * sizeof *wide, err);
    qn_code rc = raw && wide ? raw_bytes(b, t, raw, err) : QN_E_MEMORY;
    if (rc == QN_OK && info->packed)
        unpack(raw, info->bits, is_signed, a->n, a->data);
    else if (rc == QN_OK) {
        rc = a->n ? qn_widen(info->dtype, raw, a->n, wide, err) : QN_OK;
        for (uint64_t i = 0; i < a->n && rc == QN_OK; i++)
            ((float *)a->data)[i] = (float)wide[i];
    }
    qn_mem_put(b->env->alloc, raw);
    qn_mem_put(b->env->alloc, wide);
    return rc;
}

qn_code qn_onnx_build_name(qn_graph *g, const char *prefix, const char *name, const char **out, qn_err *err)
{
    const size_t n = strlen(prefix) + strlen(name) + 24;
    char *p = qn_arena_get(&g->arena, n, 1, err);
    if (!p)
        return QN_E_MEMORY;
    snprintf(p, n, "%s%s", prefix, name);
    for (uint32_t k = g->n_values; qn_graph_find(g, p) != QN_NO_VALUE; k++)
        snprintf(p, n, "%s%s#%" PRIu32, prefix, name, k);
    *out = p;
    return QN_OK;
}

bool qn_onnx_build_type(qn_graph *g, const qn_onnx_type *t, uint8_t *dtype, const int64_t **dims, unsigned *rank,
                        const char *const **symbols)
{
    *dtype = QN_BYTES;
    *dims = NULL;
    *rank = QN_RANK_UNKNOWN;
    *symbols = NULL;
    if (t->kind != QN_ONNX_KIND_TENSOR)
        return t->kind == QN_ONNX_KIND_NONE;
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get(t->elem_type);
    if (info)
        *dtype = (uint8_t)(info->packed ? t->elem_type == QN_ONNX_INT4 || t->elem_type == QN_ONNX_INT2 ? QN_I8 : QN_U8
                                        : qn_running_dtype(info->dtype));
    if (t->has_shape && t->rank <= QN_ARRAY_RANK_MAX) {
        int64_t *d = qn_arena_get(&g->arena, (t->rank + 1u) * sizeof *d, 8, NULL);
        const char **s = qn_arena_get(&g->arena, (t->rank + 1u) * sizeof *s, 8, NULL);
        for (unsigned k = 0; d && s && k < t->rank; k++) {
            d[k] = t->dims[k].value >= 0 ? t->dims[k].value : QN_DIM_UNKNOWN;
            s[k] = t->dims[k].param ? qn_arena_str(&g->arena, t->dims[k].param, strlen(t->dims[k].param), NULL) : NULL;
        }
        if (d && s) {
            *dims = d;
            *symbols = s;
            *rank = t->rank;
        }
    }
    return !t->elem_type || *dtype != QN_BYTES;
}

/* What the source lists as the bytes that hold the elements passes a node that takes them apart. */
static qn_code add_packed(qn_graph *g, const qn_onnx_tensor *t, const char *name, uint32_t *value, qn_err *err)
{
    int64_t dims[QN_RANK_MAX];
    uint32_t bytes;
    const char *out_name;
    for (unsigned k = 0; k < t->rank; k++)
        dims[k] = (int64_t)t->dims[k];
    QN_TRY(qn_graph_weight(g, name, &bytes, err));
    QN_TRY(qn_onnx_build_name(g, name, ":unpacked", &out_name, err));
    const qn_attr attrs[] = {{.name = "type", .type = QN_ATTR_INT, .v.i = t->data_type},
                             {.name = "shape", .type = QN_ATTR_INTS, .v.ints = dims, .n = t->rank}};
    return qn_graph_node(g, "quern", "Unpack", 0, out_name, &bytes, 1, attrs, 2, &out_name, value, 1, err);
}

/* What no graph can hold: there is a value of that name, and nobody can compute it. */
static qn_code add_opaque(qn_graph *g, const char *name, uint32_t *value, qn_err *err)
{
    const char *out_name;
    QN_TRY(qn_onnx_build_name(g, "", name, &out_name, err));
    return qn_graph_node(g, "", "Constant of strings or complex numbers", 0, out_name, NULL, 0, NULL, 0, &out_name, value, 1, err);
}

qn_code qn_onnx_build_tensor(qn_onnx_build *b, qn_graph *g, const qn_onnx_tensor *t, const char *name, uint32_t *value, qn_err *err)
{
    const qn_onnx_weight *w = weight_of(b, t);
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get(t->data_type);
    const uint64_t i = w ? qn_source_tensor_find(b->source, w->name) : UINT64_MAX;
    if (!info || qn_running_dtype(info->dtype) == QN_BYTES)
        return add_opaque(g, name, value, err);
    qn_array a;
    bool there;
    if (i == UINT64_MAX) { /* not listed by a container that keeps objects only */
        const char *as;
        QN_TRY(qn_onnx_build_content(b, g, t, &a, &there, err));
        QN_TRY(qn_onnx_build_name(g, "", w ? w->name : name, &as, err));
        return qn_graph_const(g, as, (qn_dtype)a.dtype, a.dims, a.rank, a.data, value, err);
    }
    const qn_source_tensor *st = &b->source->tensors[i];
    const bool odd = st->dtype == QN_U8 && (info->packed || info->dtype != QN_U8);
    if (odd)
        return add_packed(g, t, w->name, value, err);
    QN_TRY(qn_graph_weight(g, w->name, value, err));
    const uint64_t known = is_int(info->dtype) ? QN_ONNX_KNOWN_ELEMS : 16;
    if (g->values[*value].data.data || t->n_elems > known)
        return QN_OK;
    QN_TRY(qn_onnx_build_content(b, g, t, &a, &there, err));
    g->values[*value].data = a;
    return QN_OK;
}
