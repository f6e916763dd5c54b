/* onnx_quant.c: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.  x ≈ (q − zero point) · scale, with one scale for the tensor, for each
 * index of an axis, or for each block along an axis. */
#include "analysis/exec/onnx_quant.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Where an element's scale stands. */
typedef struct scaling {
    uint64_t outer, len, inner; /* the tensor around the axis                       */
    uint64_t step, per_outer;   /* scale index = outer · per_outer + (axis index / block) · step (+ inner when blocked) */
    uint64_t block;
    bool by_inner;
} scaling;

static qn_code read_scaling(scaling *s, const qn_node *n, const qn_array *x, const qn_array *scale, const qn_array *zero, qn_err *err)
{
    char a[128], b[128];
    const int64_t block = qn_node_int(n, "block_size", 0);
    *s = (scaling){.outer = 1, .len = x->n, .inner = 1, .block = 1};
    if (zero && zero->n != scale->n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " scales and %" PRIu64 " zero points", scale->n, zero->n);
    if (scale->dtype != QN_F32)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the scale is %s; floats are needed", qn_array_text(scale, a));
    if (scale->n == 1 && scale->rank <= 1)
        return QN_OK;
    unsigned axis;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 1), x->rank, &axis, err));
    s->outer = qn_span(x->dims, 0, axis);
    s->len = (uint64_t)x->dims[axis];
    s->inner = qn_span(x->dims, axis + 1, x->rank);
    if (scale->rank == 1 && !block && scale->n == s->len) {
        s->step = 1;
        return QN_OK;
    }
    bool fits = block >= 0 && scale->rank == x->rank;
    uint64_t size = (uint64_t)block;
    for (unsigned i = 0; fits && i < x->rank; i++)
        if (i != axis)
            fits = scale->dims[i] == x->dims[i];
    if (fits && !size) /* not said (0): as the shapes have it */
        size = scale->dims[axis] ? (s->len + (uint64_t)scale->dims[axis] - 1) / (uint64_t)scale->dims[axis] : 0;
    if (!fits || !size || (s->len + size - 1) / size != (uint64_t)scale->dims[axis])
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a scale of %s along axis %u of %s", qn_array_text(scale, a), axis,
                       qn_array_text(x, b));
    s->block = size;
    s->by_inner = true;
    s->step = s->inner;
    s->per_outer = (uint64_t)scale->dims[axis] * s->inner;
    return QN_OK;
}

static inline uint64_t scale_at(const scaling *s, uint64_t i)
{
    const uint64_t in = i % s->inner, rest = i / s->inner;
    return rest / s->len * s->per_outer + rest % s->len / s->block * s->step + (s->by_inner ? in : 0);
}

static const struct {
    qn_dtype dtype;
    double least, most;
} ranges[] = {{QN_U8, 0, 255}, {QN_I8, -128, 127}, {QN_U16, 0, 65535}, {QN_I16, -32768, 32767}};

static double held(qn_dtype t, double v)
{
    for (unsigned i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (ranges[i].dtype == t)
            return v > ranges[i].least ? (v < ranges[i].most ? v : ranges[i].most) : ranges[i].least;
    return 0;
}

static void put(const qn_array *t, uint64_t i, double v)
{
    switch (t->dtype) {
    case QN_U8: ((uint8_t *)t->data)[i] = (uint8_t)v; break;
    case QN_I8: ((int8_t *)t->data)[i] = (int8_t)v; break;
    case QN_U16: ((uint16_t *)t->data)[i] = (uint16_t)v; break;
    default: ((int16_t *)t->data)[i] = (int16_t)v; break;
    }
}

/* To the nearest whole number, halves to the even one; then into the range. */
void qn_onnx_put_quantized(const qn_array *t, uint64_t i, double scaled, double zero)
{
    put(t, i, held((qn_dtype)t->dtype, rint(scaled) + zero));
}

static qn_dtype output_dtype(const qn_node *n, bool given, unsigned zero)
{
    switch (given ? 0 : qn_node_int(n, "output_dtype", 0)) {
    case 3: return QN_I8;
    case 4: return QN_U16;
    case 5: return QN_I16;
    case 2: return QN_U8;
    case 0: return given ? (qn_dtype)zero : QN_U8;
    default: return QN_BYTES;
    }
}

qn_code qn_onnx_quantize_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)err;
    const bool given = n->n_in > 2 && n->in[2] != QN_NO_VALUE;
    qn_info_set(out, output_dtype(n, given, given ? in[2].dtype : 0), in[0].dims, in[0].rank);
    return QN_OK;
}

qn_code qn_onnx_quantize(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    scaling s;
    char text[128];
    const qn_array *zero = qn_onnx_has(n, in, 2) ? &in[2] : NULL;
    const qn_dtype t = output_dtype(n, zero != NULL, zero ? zero->dtype : 0);
    if (t != QN_U8 && t != QN_I8 && t != QN_U16 && t != QN_I16)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "QuantizeLinear to another dtype than 8- and 16-bit integers");
    if (in[0].dtype != QN_F32 && in[0].dtype != QN_I32)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "QuantizeLinear of %s; f32 or i32 is needed", qn_array_text(&in[0], text));
    QN_TRY(read_scaling(&s, n, &in[0], &in[1], zero, err));
    QN_TRY(qn_exec_new(x, &out[0], t, in[0].dims, in[0].rank, err));
    for (uint64_t i = 0; i < in[0].n; i++) {
        const uint64_t k = scale_at(&s, i);
        /* the quotient as f32: the stock runtimes' */
        const float v = (float)qn_elem_float(&in[0], i) / ((const float *)in[1].data)[k];
        qn_onnx_put_quantized(&out[0], i, (double)v, zero ? (double)qn_elem_int(zero, k) : 0);
    }
    return QN_OK;
}

qn_code qn_onnx_dequantize_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    qn_info_set(out, QN_F32, in[0].dims, in[0].rank);
    return QN_OK;
}

qn_code qn_onnx_dequantize(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    scaling s;
    char text[128];
    const qn_array *zero = qn_onnx_has(n, in, 2) ? &in[2] : NULL;
    if (in[0].dtype == QN_F64 || in[0].dtype == QN_I64 || in[0].dtype == QN_U64 || in[0].dtype == QN_BOOL)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "DequantizeLinear of %s", qn_array_text(&in[0], text));
    QN_TRY(read_scaling(&s, n, &in[0], &in[1], zero, err));
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, in[0].dims, in[0].rank, err));
    for (uint64_t i = 0; i < in[0].n; i++) {
        const uint64_t k = scale_at(&s, i);
        const double v = qn_elem_float(&in[0], i) - (zero ? qn_elem_float(zero, k) : 0);
        ((float *)out[0].data)[i] = (float)v * ((const float *)in[1].data)[k];
    }
    return QN_OK;
}

qn_code qn_onnx_dynamic_quantize_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)err;
    qn_info_set(&out[0], QN_U8, in[0].dims, in[0].rank);
    for (unsigned i = 1; i < n->n_out && i < 3; i++)
        qn_info_set(&out[i], i == 1 ? QN_F32 : QN_U8, NULL, 0);
    return QN_OK;
}

qn_code qn_onnx_dynamic_quantize(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    const float *v = in[0].data;
    float lo = 0, hi = 0;
    for (uint64_t i = 0; i < in[0].n; i++) {
        lo = v[i] < lo ? v[i] : lo;
        hi = v[i] > hi ? v[i] : hi;
    }
    const float scale = hi == lo ? 1.0f : (hi - lo) / 255.0f;
    const double zero = held(QN_U8, rint((double)(0 - lo / scale)));
    QN_TRY(qn_exec_new(x, &out[0], QN_U8, in[0].dims, in[0].rank, err));
    for (uint64_t i = 0; i < in[0].n; i++)
        qn_onnx_put_quantized(&out[0], i, (double)(v[i] / scale), zero);
    for (unsigned i = 1; i < n->n_out && i < 3; i++)
        QN_TRY(qn_exec_new(x, &out[i], i == 1 ? QN_F32 : QN_U8, NULL, 0, err));
    if (n->n_out > 1)
        *(float *)out[1].data = scale;
    if (n->n_out > 2)
        *(uint8_t *)out[2].data = (uint8_t)zero;
    return QN_OK;
}
