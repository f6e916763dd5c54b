/* onnx_shape.c: operators that ask for a shape or give the same data another one, and those that make data from a shape. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include "formats/onnx/model.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- Shape, Size ---- */

static void shape_range(const qn_node *n, unsigned rank, unsigned *from, unsigned *to)
{
    int64_t a = qn_node_int(n, "start", 0), b = qn_node_int(n, "end", (int64_t)rank);
    const int64_t r = (int64_t)rank;
    a = a < 0 ? a + r : a;
    b = b < 0 ? b + r : b;
    a = a < 0 ? 0 : a > r ? r : a;
    b = b < a ? a : b > r ? r : b;
    *from = (unsigned)a;
    *to = (unsigned)b;
}

qn_code qn_onnx_shape_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    unsigned from, to;
    (void)err;
    out->dtype = QN_I64;
    out->rank = 1;
    out->dims[0] = QN_DIM_UNKNOWN;
    if (!qn_info_ranked(in))
        return QN_OK;
    shape_range(n, in->rank, &from, &to);
    out->dims[0] = (int64_t)to - (int64_t)from;
    return QN_OK;
}

qn_code qn_onnx_shape(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned from, to;
    shape_range(n, in->rank, &from, &to);
    const int64_t count = (int64_t)to - (int64_t)from;
    QN_TRY(qn_exec_new(x, out, QN_I64, &count, 1, err));
    for (unsigned k = from; k < to; k++)
        ((int64_t *)out->data)[k - from] = in->dims[k];
    return QN_OK;
}

qn_code qn_onnx_size_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)in;
    (void)err;
    out->dtype = QN_I64;
    out->rank = 0;
    return QN_OK;
}

qn_code qn_onnx_size(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)n;
    QN_TRY(qn_exec_new(x, out, QN_I64, NULL, 0, err));
    *(int64_t *)out->data = (int64_t)in->n;
    return QN_OK;
}

/* ---- the same data ---- */

qn_code qn_onnx_identity(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)x;
    (void)n;
    (void)err;
    qn_array_share(in, out);
    return QN_OK;
}

/* Training mode drops at random, which no result can be compared with: it is refused. */
qn_code qn_onnx_dropout(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    int64_t training = 0;
    if (qn_node_has(n, 2))
        QN_TRY(qn_array_int(&in[2], &training, err));
    const double ratio = qn_node_has(n, 1) && in[1].n == 1 ? qn_elem_float(&in[1], 0) : qn_node_float(n, "ratio", 0.5);
    if (training && ratio != 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "training_mode draws random numbers");
    qn_array_share(in, out);
    if (n->n_out > 1 && n->out[1] != QN_NO_VALUE) {
        QN_TRY(qn_exec_new(x, &out[1], QN_BOOL, in->dims, in->rank, err));
        memset(out[1].data, 1, out[1].n);
    }
    return QN_OK;
}

qn_code qn_onnx_dropout_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)err;
    qn_info_like(&out[0], in);
    if (n->n_out > 1) {
        qn_info_like(&out[1], in);
        out[1].dtype = QN_BOOL;
    }
    return QN_OK;
}

/* The shape rule's shape over the input's data: Reshape, Flatten, Squeeze, Unsqueeze. */
qn_code qn_onnx_view(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)x;
    qn_info info;
    QN_TRY(qn_plan(n, in, &info, err));
    if (!qn_info_full(&info))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the shape is not determined");
    return qn_array_view(in, out, info.dims, info.rank, err);
}

qn_code qn_onnx_reshape_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const bool zero_is_zero = qn_node_int(n, "allowzero", 0) != 0;
    qn_ints want;
    out->dtype = in->dtype;
    QN_TRY(qn_ints_of(n, in, 1, "shape", &want, err));
    if (!want.sized) {
        if (n->n_in > 1 && qn_info_ranked(&in[1]) && in[1].rank == 1 && in[1].dims[0] >= 0 && in[1].dims[0] <= QN_ARRAY_RANK_MAX) {
            out->rank = (uint8_t)in[1].dims[0];
            for (unsigned k = 0; k < out->rank; k++)
                out->dims[k] = QN_DIM_UNKNOWN;
        }
        return QN_OK;
    }
    if (want.n > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a shape of rank %u; at most %u is supported", want.n, (unsigned)QN_ARRAY_RANK_MAX);
    int64_t dims[QN_ARRAY_RANK_MAX], rest = 1, same = 1;
    unsigned n_open = 0, open = 0;
    bool carried = qn_info_ranked(in); /* every unknown dimension of the input stands again, unchanged, in the output */
    for (unsigned k = 0; k < want.n; k++) {
        dims[k] = want.v[k];
        if (dims[k] == 0 && !zero_is_zero) {
            if (!qn_info_ranked(in)) {
                dims[k] = QN_DIM_UNKNOWN;
                carried = false;
                continue;
            }
            if (k >= in->rank)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dimension %u shall be taken over from a tensor of rank %u", k, in->rank);
            dims[k] = in->dims[k];
            if (dims[k] == QN_DIM_UNKNOWN)
                continue;
        } else if (dims[k] == -1) {
            n_open++;
            open = k;
            continue;
        } else if (dims[k] == QN_INT_UNKNOWN) {
            /* Almost always the batch size, read off with Shape: then it is the one that stands at this place. */
            carried = carried && k < in->rank && in->dims[k] == QN_DIM_UNKNOWN;
            dims[k] = QN_DIM_UNKNOWN;
            continue;
        } else if (dims[k] < 0)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a shape with a dimension of %" PRId64, dims[k]);
        if (__builtin_mul_overflow(rest, dims[k], &rest))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a shape whose product overflows");
    }
    if (n_open > 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a shape with %u dimensions of -1", n_open);
    unsigned n_in_open = 0, n_out_open = 0;
    for (unsigned k = 0; qn_info_ranked(in) && k < in->rank; k++) {
        n_in_open += in->dims[k] == QN_DIM_UNKNOWN;
        if (in->dims[k] != QN_DIM_UNKNOWN && __builtin_mul_overflow(same, in->dims[k], &same))
            return QN_OK;
    }
    for (unsigned k = 0; k < want.n; k++)
        n_out_open += dims[k] == QN_DIM_UNKNOWN && !(n_open && k == open);
    const bool whole = qn_info_full(in) && n_out_open == 0;
    if (n_open) {
        dims[open] = QN_DIM_UNKNOWN;
        if (whole || (carried && n_in_open == n_out_open && n_in_open > 0)) {
            if (rest == 0 ? same != 0 : same % rest != 0) {
                qn_info o = {.rank = (uint8_t)want.n};
                memcpy(o.dims, dims, sizeof dims);
                return whole ? qn_fail_shapes(in, &o, err) : QN_OK;
            }
            dims[open] = rest ? same / rest : 0;
        }
    } else if (whole && rest != same) {
        qn_info o = {.rank = (uint8_t)want.n};
        memcpy(o.dims, dims, sizeof dims);
        return qn_fail_shapes(in, &o, err);
    }
    out->rank = (uint8_t)want.n;
    memcpy(out->dims, dims, sizeof dims);
    return QN_OK;
}

qn_code qn_onnx_flatten_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    out->dtype = in->dtype;
    out->rank = 2;
    out->dims[0] = out->dims[1] = QN_DIM_UNKNOWN;
    if (!qn_info_ranked(in))
        return QN_OK;
    int64_t axis = qn_node_int(n, "axis", 1);
    axis = axis < 0 ? axis + in->rank : axis;
    if (axis < 0 || axis > in->rank)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "axis %" PRId64 " of a tensor of rank %u", axis, in->rank);
    qn_info half = *in;
    half.rank = (uint8_t)axis;
    out->dims[0] = qn_info_count(&half);
    half.rank = (uint8_t)(in->rank - axis);
    memmove(half.dims, in->dims + axis, half.rank * sizeof half.dims[0]);
    out->dims[1] = qn_info_count(&half);
    return QN_OK;
}

qn_code qn_onnx_squeeze_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_ints axes;
    uint32_t mask = 0;
    out->dtype = in->dtype;
    QN_TRY(qn_ints_of(n, in, 1, "axes", &axes, err));
    if (!qn_info_ranked(in) || (axes.there && !axes.known))
        return QN_OK;
    if (axes.there)
        QN_TRY(qn_axes_mask(&axes, in->rank, &mask, err));
    unsigned rank = 0;
    for (unsigned k = 0; k < in->rank; k++) {
        const int64_t d = in->dims[k];
        if (!axes.there && d == QN_DIM_UNKNOWN)
            return QN_OK; /* goes or stays: nobody knows */
        if (axes.there && (mask >> k & 1) && d != 1 && d != QN_DIM_UNKNOWN)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "axis %u shall vanish and has %" PRId64 " entries", k, d);
        if (axes.there ? !(mask >> k & 1) : d != 1)
            out->dims[rank++] = d;
    }
    out->rank = (uint8_t)rank;
    return QN_OK;
}

qn_code qn_onnx_unsqueeze_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_ints axes;
    uint32_t mask;
    out->dtype = in->dtype;
    QN_TRY(qn_ints_of(n, in, 1, "axes", &axes, err));
    if (!axes.there)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "axes are not given");
    if (!qn_info_ranked(in) || !axes.known)
        return QN_OK;
    const unsigned rank = in->rank + axes.n;
    if (rank > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rank %u; at most %u is supported", rank, (unsigned)QN_ARRAY_RANK_MAX);
    QN_TRY(qn_axes_mask(&axes, rank, &mask, err));
    for (unsigned k = 0, from = 0; k < rank; k++)
        out->dims[k] = mask >> k & 1 ? 1 : in->dims[from++];
    out->rank = (uint8_t)rank;
    return QN_OK;
}

/* ---- data from a shape ---- */

/* out->dims from a list of sizes. */
static qn_code take_sizes(const qn_ints *s, qn_info *out, qn_err *err)
{
    if (!s->sized)
        return QN_OK;
    if (s->n > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a shape of rank %u; at most %u is supported", s->n, (unsigned)QN_ARRAY_RANK_MAX);
    out->rank = (uint8_t)s->n;
    for (unsigned k = 0; k < s->n; k++) {
        out->dims[k] = s->v[k] == QN_INT_UNKNOWN && !s->known ? QN_DIM_UNKNOWN : s->v[k];
        if (out->dims[k] < 0 && out->dims[k] != QN_DIM_UNKNOWN)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a shape with a dimension of %" PRId64, s->v[k]);
        if (s->v[k] == -1)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a shape with a dimension of -1");
    }
    return QN_OK;
}

qn_code qn_onnx_constant_of_shape_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const qn_attr *v = qn_node_attr(n, "value");
    qn_ints sizes;
    out->dtype = v && v->type == QN_ATTR_TENSOR ? v->v.tensor->dtype : QN_F32;
    QN_TRY(qn_ints_of(n, in, 0, NULL, &sizes, err));
    return take_sizes(&sizes, out, err);
}

qn_code qn_onnx_constant_of_shape(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    static const uint64_t zero;
    const qn_attr *v = qn_node_attr(n, "value");
    const qn_array *t = v && v->type == QN_ATTR_TENSOR ? v->v.tensor : NULL;
    if (t && t->n != 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "value has %" PRIu64 " elements; it must have one", t->n);
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const int64_t dims = (int64_t)out->n, step = 0;
    const int64_t strides[1][QN_ARRAY_RANK_MAX] = {{step}};
    qn_walk w;
    qn_walk_strides(&w, &dims, 1, strides, 1);
    return qn_walk_copy(x, &w, qn_elem_bytes(out->dtype), t ? t->data : &zero, out->data, err);
}

/* Elements of Range, or −1 when there would be too many. */
static int64_t range_count(const qn_array *a, const qn_array *b, const qn_array *step)
{
    if (qn_is_float(a->dtype)) {
        const double n = ceil((qn_elem_float(b, 0) - qn_elem_float(a, 0)) / qn_elem_float(step, 0));
        return !(n > 0) ? 0 : n < 9007199254740992.0 ? (int64_t)n : -1;
    }
    const int64_t from = qn_elem_int(a, 0), to = qn_elem_int(b, 0), by = qn_elem_int(step, 0);
    if (by == 0)
        return -1;
    if (by > 0 ? from >= to : from <= to)
        return 0;
    const uint64_t way = by > 0 ? (uint64_t)to - (uint64_t)from : (uint64_t)from - (uint64_t)to, size = by > 0 ? (uint64_t)by : 0 - (uint64_t)by;
    const uint64_t n = way / size + (way % size != 0);
    return n > INT64_MAX ? -1 : (int64_t)n;
}

qn_code qn_onnx_range_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    out->dtype = in[0].dtype;
    out->rank = 1;
    out->dims[0] = QN_DIM_UNKNOWN;
    for (unsigned i = 0; i < 3; i++) {
        if (!in[i].value)
            return QN_OK;
        if (in[i].value->n != 1 || in[i].dtype != in[0].dtype)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "start, limit and delta must be one number each, of one dtype");
    }
    const int64_t count = range_count(in[0].value, in[1].value, in[2].value);
    if (count < 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a range without an end");
    out->dims[0] = count;
    return QN_OK;
}

qn_code qn_onnx_range(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const uint64_t from = (uint64_t)qn_elem_int(&in[0], 0), by = (uint64_t)qn_elem_int(&in[2], 0);
    const double f = qn_elem_float(&in[0], 0), d = qn_elem_float(&in[2], 0);
    for (uint64_t i = 0; i < out->n; i++)
        switch (out->dtype) {
        case QN_I64: ((int64_t *)out->data)[i] = (int64_t)(from + i * by); break;
        case QN_I32: ((int32_t *)out->data)[i] = (int32_t)(from + i * by); break;
        case QN_I16: ((int16_t *)out->data)[i] = (int16_t)(from + i * by); break;
        case QN_F32: ((float *)out->data)[i] = (float)(f + (double)i * d); break;
        case QN_F64: ((double *)out->data)[i] = f + (double)i * d; break;
        default: return qn_fail_dtype(in, err);
        }
    return QN_OK;
}

qn_code qn_onnx_eye_like_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const int64_t dtype = qn_node_int(n, "dtype", 0);
    qn_info_like(out, in);
    if (qn_info_ranked(in) && in->rank != 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a tensor of rank %u; 2 is needed", in->rank);
    if (dtype)
        out->dtype = (uint8_t)qn_dtype_of_onnx(dtype);
    if (dtype && out->dtype == QN_BYTES)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "data_type %" PRId64, dtype);
    return QN_OK;
}

qn_code qn_onnx_eye_like(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const int64_t k = qn_node_int(n, "k", 0);
    const int64_t one = 1;
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const unsigned bytes = qn_elem_bytes(out->dtype);
    memset(out->data, 0, out->n * bytes);
    for (int64_t i = 0; i < out->dims[0]; i++) {
        int64_t j;
        if (!__builtin_add_overflow(i, k, &j) && j >= 0 && j < out->dims[1])
            QN_TRY(qn_convert(QN_I64, &one, out->dtype, (uint8_t *)out->data + (uint64_t)(i * out->dims[1] + j) * bytes, 1, err));
    }
    return QN_OK;
}

/* ---- elements below a byte: ours, made by the builder ---- */

qn_code qn_onnx_unpack_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    unsigned rank;
    const int64_t *dims = qn_node_ints(n, "shape", &rank);
    (void)in;
    if (rank > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rank %u; at most %u is supported", rank, (unsigned)QN_ARRAY_RANK_MAX);
    out->dtype = (uint8_t)qn_dtype_of_onnx(qn_node_int(n, "type", 0));
    out->rank = (uint8_t)rank;
    for (unsigned k = 0; k < rank; k++)
        out->dims[k] = dims[k];
    return QN_OK;
}

qn_code qn_onnx_unpack(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const int64_t type = qn_node_int(n, "type", 0);
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get((uint64_t)type);
    QN_TRY(qn_plan_new(x, n, in, out, err));
    if (!info || info->bits >= 8 || out->dtype == QN_F32)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "elements of data_type %" PRId64, type);
    const unsigned per = 8u / info->bits, mask = (1u << info->bits) - 1, half = 1u << (info->bits - 1);
    if (out->n > in->n * per)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " elements in %" PRIu64 " bytes", out->n, in->n);
    const bool is_signed = out->dtype == QN_I8;
    for (uint64_t i = 0; i < out->n; i++) {
        const unsigned v = ((const uint8_t *)in->data)[i / per] >> (i % per * info->bits) & mask;
        ((uint8_t *)out->data)[i] = (uint8_t)(is_signed && v >= half ? v - 2 * half : v);
    }
    return QN_OK;
}
