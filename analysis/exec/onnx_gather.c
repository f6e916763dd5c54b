/* onnx_gather.c: operators that read or write at indices which are data: every index is checked against its axis. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Element i of an index tensor, negative ones from the end; bounds of the axis. */
static qn_code index_at(const qn_array *indices, uint64_t i, int64_t size, int64_t *out, qn_err *err)
{
    const int64_t v = qn_elem_int(indices, i);
    if (v < -size || v >= size)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "index %" PRId64 " for an axis of %" PRId64 " entries", v, size);
    *out = v < 0 ? v + size : v;
    return QN_OK;
}

static qn_code check_indices(const qn_array *indices, qn_err *err)
{
    return indices->dtype == QN_I64 || indices->dtype == QN_I32 ? QN_OK : qn_fail_dtype(indices, err);
}

/* ---- Gather ---- */

qn_code qn_onnx_gather_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    unsigned axis;
    out->dtype = in[0].dtype;
    if (!qn_info_ranked(&in[0]) || !qn_info_ranked(&in[1]))
        return QN_OK;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in[0].rank, &axis, err));
    if (in[0].rank - 1u + in[1].rank > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rank %u; at most %u is supported", in[0].rank - 1u + in[1].rank,
                       (unsigned)QN_ARRAY_RANK_MAX);
    unsigned rank = 0;
    for (unsigned k = 0; k < axis; k++)
        out->dims[rank++] = in[0].dims[k];
    for (unsigned k = 0; k < in[1].rank; k++)
        out->dims[rank++] = in[1].dims[k];
    for (unsigned k = axis + 1; k < in[0].rank; k++)
        out->dims[rank++] = in[0].dims[k];
    out->rank = (uint8_t)rank;
    return QN_OK;
}

struct gather {
    const qn_array *data, *indices;
    uint8_t *dst;
    uint64_t n_bytes, n_entries; /* of a slice; slices on the axis */
    uint64_t n_all, per_part;
};

static qn_code gather_part(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct gather *g = ctx;
    const uint64_t last = qn_min_u64(g->n_all, (part + 1) * g->per_part);
    for (uint64_t i = part * g->per_part; i < last; i++) {
        const uint64_t outer = i / g->indices->n;
        int64_t at = 0;
        QN_TRY(index_at(g->indices, i % g->indices->n, (int64_t)g->n_entries, &at, err));
        memcpy(g->dst + i * g->n_bytes, (const uint8_t *)g->data->data + (outer * g->n_entries + (uint64_t)at) * g->n_bytes, g->n_bytes);
    }
    return QN_OK;
}

qn_code qn_onnx_gather(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned axis;
    QN_TRY(check_indices(&in[1], err));
    QN_TRY(qn_plan_new(x, n, in, out, err));
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in[0].rank, &axis, err));
    struct gather g = {.data = &in[0], .indices = &in[1], .dst = out->data, .n_entries = (uint64_t)in[0].dims[axis]};
    g.n_bytes = qn_span(in[0].dims, axis + 1, in[0].rank) * qn_elem_bytes(in[0].dtype);
    g.n_all = qn_span(in[0].dims, 0, axis) * in[1].n;
    if (!out->n)
        return QN_OK;
    g.per_part = qn_max_u64(1, (1 << 16) / g.n_bytes);
    return qn_exec_parts(x, qn_ceil_div(g.n_all, g.per_part), out->n, gather_part, &g, err);
}

/* ---- GatherElements, ScatterElements: an odometer over the indices ---- */

/* Offset in `dims` of element i of `shape`, axis left out; and its coordinate there. */
static uint64_t place(const int64_t *shape, const int64_t *dims, unsigned rank, unsigned axis, uint64_t i, uint64_t *axis_step)
{
    uint64_t off = 0, step = 1;
    for (unsigned k = rank; k-- > 0;) {
        const uint64_t c = i % (uint64_t)shape[k];
        i /= (uint64_t)shape[k];
        if (k == axis)
            *axis_step = step;
        else
            off += c * step;
        step *= (uint64_t)dims[k];
    }
    return off;
}

static qn_code fits(const qn_array *data, const qn_array *indices, unsigned axis, qn_err *err)
{
    bool ok = indices->rank == data->rank;
    for (unsigned k = 0; ok && k < data->rank; k++)
        ok = k == axis || indices->dims[k] <= data->dims[k];
    char a[128], b[128];
    return ok ? QN_OK : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "indices %s for data %s", qn_array_text(indices, a), qn_array_text(data, b));
}

qn_code qn_onnx_gather_elements_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    qn_info_like(out, &in[1]);
    out->dtype = in[0].dtype;
    return QN_OK;
}

qn_code qn_onnx_gather_elements(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned axis;
    QN_TRY(check_indices(&in[1], err));
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in[0].rank, &axis, err));
    QN_TRY(fits(&in[0], &in[1], axis, err));
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const unsigned bytes = qn_elem_bytes(in[0].dtype);
    for (uint64_t i = 0; i < out->n; i++) {
        uint64_t step = 0;
        int64_t at = 0;
        const uint64_t off = place(in[1].dims, in[0].dims, in[0].rank, axis, i, &step);
        QN_TRY(index_at(&in[1], i, in[0].dims[axis], &at, err));
        memcpy((uint8_t *)out->data + i * bytes, (const uint8_t *)in[0].data + (off + (uint64_t)at * step) * bytes, bytes);
    }
    return QN_OK;
}

/* ---- GatherND ---- */

qn_code qn_onnx_gather_nd_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const int64_t b = qn_node_int(n, "batch_dims", 0);
    out->dtype = in[0].dtype;
    if (!qn_info_ranked(&in[0]) || !qn_info_ranked(&in[1]))
        return QN_OK;
    if (in[1].rank < 1 || b < 0 || b >= in[1].rank || b >= in[0].rank)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "batch_dims %" PRId64 " for ranks %u and %u", b, in[0].rank, in[1].rank);
    const int64_t depth = in[1].dims[in[1].rank - 1];
    if (depth == QN_DIM_UNKNOWN)
        return QN_OK;
    if (depth < 0 || depth > in[0].rank - b)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tuples of %" PRId64 " indices into rank %u", depth, in[0].rank);
    const unsigned rank = in[1].rank - 1u + in[0].rank - (unsigned)b - (unsigned)depth;
    if (rank > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rank %u; at most %u is supported", rank, (unsigned)QN_ARRAY_RANK_MAX);
    for (unsigned k = 0; k < in[1].rank - 1u; k++)
        out->dims[k] = in[1].dims[k];
    for (unsigned k = in[1].rank - 1u; k < rank; k++)
        out->dims[k] = in[0].dims[in[0].rank - (rank - k)];
    out->rank = (uint8_t)rank;
    return QN_OK;
}

/* Where tuple i of `depth` indices points: slice number within dims [from, from + depth). */
static qn_code tuple_at(const qn_array *indices, uint64_t i, const int64_t *dims, unsigned depth, uint64_t *out, qn_err *err)
{
    uint64_t at = 0;
    for (unsigned k = 0; k < depth; k++) {
        int64_t c = 0;
        QN_TRY(index_at(indices, i * depth + k, dims[k], &c, err));
        at = at * (uint64_t)dims[k] + (uint64_t)c;
    }
    *out = at;
    return QN_OK;
}

qn_code qn_onnx_gather_nd(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const unsigned b = (unsigned)qn_node_int(n, "batch_dims", 0);
    QN_TRY(check_indices(&in[1], err));
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const unsigned depth = (unsigned)in[1].dims[in[1].rank - 1];
    for (unsigned k = 0; k < b; k++)
        if (in[0].dims[k] != in[1].dims[k])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "batches of %" PRId64 " and of %" PRId64, in[0].dims[k], in[1].dims[k]);
    const uint64_t batches = qn_span(in[0].dims, 0, b), tuples = qn_span(in[1].dims, b, in[1].rank - 1u);
    const uint64_t slices = qn_span(in[0].dims, b, b + depth), n_bytes = qn_span(in[0].dims, b + depth, in[0].rank) * qn_elem_bytes(in[0].dtype);
    for (uint64_t i = 0; out->n && i < batches * tuples; i++) {
        uint64_t at = 0;
        QN_TRY(tuple_at(&in[1], i, in[0].dims + b, depth, &at, err));
        memcpy((uint8_t *)out->data + i * n_bytes, (const uint8_t *)in[0].data + (i / tuples * slices + at) * n_bytes, n_bytes);
    }
    return QN_OK;
}

/* ---- Scatter: into a copy ---- */

enum how { SET, ADD, MUL, LEAST, MOST };

static qn_code how_of(const qn_node *n, enum how *how, qn_err *err)
{
    const char *s = qn_node_string(n, "reduction", "none");
    *how = !strcmp(s, "add") ? ADD : !strcmp(s, "mul") ? MUL : !strcmp(s, "min") ? LEAST : !strcmp(s, "max") ? MOST : SET;
    return *how != SET || !strcmp(s, "none") ? QN_OK : QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "reduction '%s'", s);
}

#define COMBINE(T, W)                                                                     \
    for (uint64_t i = 0; i < n; i++) {                                                    \
        T *d = (T *)dst + i;                                                              \
        const T v = ((const T *)src)[i];                                                  \
        *d = how == ADD ? (T)((W)*d + (W)v) : how == MUL ? (T)((W)*d * (W)v) : how == LEAST ? (v < *d ? v : *d) : v > *d ? v : *d; \
    }                                                                                     \
    return QN_OK

static qn_code combine(const qn_array *t, enum how how, void *dst, const void *src, uint64_t n, qn_err *err)
{
    if (how == SET) {
        memcpy(dst, src, n * qn_elem_bytes(t->dtype));
        return QN_OK;
    }
    switch (t->dtype) {
    case QN_F32: COMBINE(float, float);
    case QN_F64: COMBINE(double, double);
    case QN_I64: COMBINE(int64_t, uint64_t);
    case QN_U64: COMBINE(uint64_t, uint64_t);
    case QN_I32: COMBINE(int32_t, uint64_t);
    case QN_U32: COMBINE(uint32_t, uint64_t);
    case QN_I16: COMBINE(int16_t, uint64_t);
    case QN_U16: COMBINE(uint16_t, uint64_t);
    case QN_I8: COMBINE(int8_t, uint64_t);
    case QN_U8: COMBINE(uint8_t, uint64_t);
    default: return qn_fail_dtype(t, err);
    }
}

static qn_code copy_of(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    if (qn_exec_spare(x, n, 0, in)) {
        qn_array_share(in, out);
        return QN_OK;
    }
    QN_TRY(qn_exec_new(x, out, (qn_dtype)in->dtype, in->dims, in->rank, err));
    if (in->n)
        memcpy(out->data, in->data, qn_array_bytes(in));
    return QN_OK;
}

qn_code qn_onnx_scatter_elements(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned axis;
    enum how how;
    QN_TRY(how_of(n, &how, err));
    QN_TRY(check_indices(&in[1], err));
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in[0].rank, &axis, err));
    QN_TRY(fits(&in[0], &in[1], axis, err));
    if (in[2].n != in[1].n || in[2].dtype != in[0].dtype)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " updates for %" PRIu64 " indices", in[2].n, in[1].n);
    QN_TRY(copy_of(x, n, in, out, err));
    const unsigned bytes = qn_elem_bytes(in[0].dtype);
    for (uint64_t i = 0; i < in[1].n; i++) {
        uint64_t step = 0;
        int64_t at = 0;
        const uint64_t off = place(in[1].dims, in[0].dims, in[0].rank, axis, i, &step);
        QN_TRY(index_at(&in[1], i, in[0].dims[axis], &at, err));
        QN_TRY(combine(&in[0], how, (uint8_t *)out->data + (off + (uint64_t)at * step) * bytes, (const uint8_t *)in[2].data + i * bytes, 1, err));
    }
    return QN_OK;
}

qn_code qn_onnx_scatter_nd(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    enum how how;
    QN_TRY(how_of(n, &how, err));
    QN_TRY(check_indices(&in[1], err));
    const int64_t deep = in[1].rank ? in[1].dims[in[1].rank - 1] : 0;
    if (in[1].rank < 1 || deep > in[0].rank || in[2].dtype != in[0].dtype)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tuples of %" PRId64 " indices into rank %u", deep, in[0].rank);
    const unsigned depth = (unsigned)deep;
    const uint64_t tuples = qn_span(in[1].dims, 0, in[1].rank - 1u), per = qn_span(in[0].dims, depth, in[0].rank);
    bool ovf = false;
    if (in[2].n != qn_mul(tuples, per, &ovf) || ovf)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " updates for %" PRIu64 " slices of %" PRIu64, in[2].n, tuples, per);
    QN_TRY(copy_of(x, n, in, out, err));
    const unsigned bytes = qn_elem_bytes(in[0].dtype);
    for (uint64_t i = 0; in[2].n && i < tuples; i++) {
        uint64_t at = 0;
        QN_TRY(tuple_at(&in[1], i, in[0].dims, depth, &at, err));
        QN_TRY(combine(&in[0], how, (uint8_t *)out->data + at * per * bytes, (const uint8_t *)in[2].data + i * per * bytes, per, err));
    }
    return QN_OK;
}

/* ---- OneHot ---- */

qn_code qn_onnx_one_hot_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    unsigned axis;
    out->dtype = in[2].dtype;
    if (!qn_info_ranked(&in[0]))
        return QN_OK;
    if (in[0].rank + 1 > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rank %u; at most %u is supported", in[0].rank + 1u, (unsigned)QN_ARRAY_RANK_MAX);
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", -1), in[0].rank + 1u, &axis, err));
    if (in[1].value && in[1].value->n != 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the depth must be one number");
    out->rank = (uint8_t)(in[0].rank + 1);
    for (unsigned k = 0, from = 0; k < out->rank; k++)
        out->dims[k] = k != axis ? in[0].dims[from++] : in[1].value ? qn_elem_int(in[1].value, 0) : QN_DIM_UNKNOWN;
    if (in[1].value && out->dims[axis] < 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a depth of %" PRId64, out->dims[axis]);
    return QN_OK;
}

/* An index past the depth lights nothing. */
qn_code qn_onnx_one_hot(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned axis;
    if (in[2].n != 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " values; off and on are needed", in[2].n);
    QN_TRY(qn_plan_new(x, n, in, out, err));
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", -1), out->rank, &axis, err));
    const unsigned bytes = qn_elem_bytes(out->dtype);
    const uint8_t *values = in[2].data;
    const uint64_t inner = qn_span(out->dims, axis + 1, out->rank);
    const int64_t depth = out->dims[axis];
    for (uint64_t i = 0; i < out->n; i++)
        memcpy((uint8_t *)out->data + i * bytes, values, bytes);
    for (uint64_t i = 0; out->n && i < in[0].n; i++) {
        const int64_t v = qn_elem_int(&in[0], i), at = v < 0 ? v + depth : v;
        if (at >= 0 && at < depth)
            memcpy((uint8_t *)out->data + ((i / inner * (uint64_t)depth + (uint64_t)at) * inner + i % inner) * bytes, values + bytes, bytes);
    }
    return QN_OK;
}

/* ---- Compress, NonZero: the shape depends on the data ---- */

static int64_t n_true(const qn_array *a, uint64_t most)
{
    int64_t n = 0;
    for (uint64_t i = 0; i < a->n && i < most; i++)
        n += ((const uint8_t *)a->data)[i] != 0;
    return n;
}

qn_code qn_onnx_compress_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const qn_attr *a = qn_node_attr(n, "axis");
    unsigned axis = 0;
    out->dtype = in->dtype;
    if (!qn_info_ranked(in))
        return QN_OK;
    if (a)
        QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in->rank, &axis, err));
    if (in[1].value && in[1].value->dtype != QN_BOOL)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the condition is not of dtype BOOL");
    qn_info_like(out, in);
    const int64_t size = a ? in->dims[axis] : qn_info_count(in);
    if (!a)
        out->rank = 1;
    out->dims[axis] = in[1].value && size >= 0 ? n_true(in[1].value, (uint64_t)size) : QN_DIM_UNKNOWN;
    return QN_OK;
}

qn_code qn_onnx_compress(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const qn_attr *a = qn_node_attr(n, "axis");
    unsigned axis = 0;
    QN_TRY(qn_plan_new(x, n, in, out, err));
    if (a)
        QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in->rank, &axis, err));
    const uint64_t size = a ? (uint64_t)in->dims[axis] : in->n;
    const uint64_t n_bytes = (a ? qn_span(in->dims, axis + 1, in->rank) : 1) * qn_elem_bytes(in->dtype);
    const uint64_t outer = a ? qn_span(in->dims, 0, axis) : 1;
    uint8_t *dst = out->data;
    for (uint64_t r = 0; out->n && r < outer; r++)
        for (uint64_t i = 0; i < size && i < in[1].n; i++)
            if (((const uint8_t *)in[1].data)[i]) {
                memcpy(dst, (const uint8_t *)in->data + (r * size + i) * n_bytes, n_bytes);
                dst += n_bytes;
            }
    return QN_OK;
}

static bool is_zero(const qn_array *a, uint64_t i)
{
    return qn_is_float(a->dtype) ? qn_elem_float(a, i) == 0 : qn_elem_int(a, i) == 0;
}

qn_code qn_onnx_non_zero_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    out->dtype = QN_I64;
    out->rank = 2;
    out->dims[0] = qn_info_ranked(in) ? in->rank : QN_DIM_UNKNOWN;
    out->dims[1] = QN_DIM_UNKNOWN;
    if (!in->value)
        return QN_OK;
    out->dims[1] = 0;
    for (uint64_t i = 0; i < in->value->n; i++)
        out->dims[1] += !is_zero(in->value, i);
    return QN_OK;
}

qn_code qn_onnx_non_zero(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const uint64_t count = (uint64_t)out->dims[1];
    for (uint64_t i = 0, at = 0; i < in->n && at < count; i++) {
        if (is_zero(in, i))
            continue;
        uint64_t rest = i;
        for (unsigned k = in->rank; k-- > 0; rest /= (uint64_t)in->dims[k])
            ((int64_t *)out->data)[k * count + at] = (int64_t)(rest % (uint64_t)in->dims[k]);
        at++;
    }
    return QN_OK;
}
