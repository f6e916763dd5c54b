/* onnx_unary.c: operators of one operand, element by element. Formulas: the ONNX operator specification. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

struct unary {
    const void *in;
    void *out;
    double p, q; /* the operator's parameters */
};

/* n elements from element `at`. */
typedef void (*unary_fn)(const struct unary *u, uint64_t at, uint64_t n);

#define KERNEL(name, T, R, expr)                                          \
    static void name(const struct unary *u, uint64_t at, uint64_t n)      \
    {                                                                     \
        const T *in = (const T *)u->in + at;                              \
        R *out = (R *)u->out + at;                                        \
        const T p = (T)u->p, q = (T)u->q;                                 \
        (void)p;                                                          \
        (void)q;                                                          \
        for (uint64_t i = 0; i < n; i++) {                                \
            const T x = in[i];                                            \
            out[i] = (R)(expr);                                           \
        }                                                                 \
    }
#define TABLE(n, ...) static const unary_fn n[QN_DTYPE_PLAIN] = {__VA_ARGS__};
#define FLOATS(name, e32, e64) \
    KERNEL(name##_f32, float, float, e32) KERNEL(name##_f64, double, double, e64) TABLE(name##s, [QN_F32] = name##_f32, [QN_F64] = name##_f64)
#define SIGNED(name, expr)                                                                          \
    KERNEL(name##_i8, int8_t, int8_t, expr) KERNEL(name##_i16, int16_t, int16_t, expr)              \
    KERNEL(name##_i32, int32_t, int32_t, expr) KERNEL(name##_i64, int64_t, int64_t, expr)
#define UNSIGNED(name, expr)                                                                        \
    KERNEL(name##_u8, uint8_t, uint8_t, expr) KERNEL(name##_u16, uint16_t, uint16_t, expr)          \
    KERNEL(name##_u32, uint32_t, uint32_t, expr) KERNEL(name##_u64, uint64_t, uint64_t, expr)
#define ROW_SIGNED(n) [QN_I8] = n##_i8, [QN_I16] = n##_i16, [QN_I32] = n##_i32, [QN_I64] = n##_i64
#define ROW_UNSIGNED(n) [QN_U8] = n##_u8, [QN_U16] = n##_u16, [QN_U32] = n##_u32, [QN_U64] = n##_u64
#define ROW_FLOATS(n) [QN_F32] = n##_f32, [QN_F64] = n##_f64
#define FLOAT_KERNELS(name, e32, e64) KERNEL(name##_f32, float, float, e32) KERNEL(name##_f64, double, double, e64)

FLOATS(exp, expf(x), exp(x))
FLOATS(log, logf(x), log(x))
FLOATS(sqrt, sqrtf(x), sqrt(x))
FLOATS(reciprocal, 1.0f / x, 1.0 / x)
FLOATS(floor, floorf(x), floor(x))
FLOATS(ceil, ceilf(x), ceil(x))
FLOATS(round, rintf(x), rint(x)) /* halves to even: the rounding mode is never changed */
FLOATS(erf, erff(x), erf(x))
FLOATS(sin, sinf(x), sin(x))
FLOATS(cos, cosf(x), cos(x))
FLOATS(tan, tanf(x), tan(x))
FLOATS(asin, asinf(x), asin(x))
FLOATS(acos, acosf(x), acos(x))
FLOATS(atan, atanf(x), atan(x))
FLOATS(sinh, sinhf(x), sinh(x))
FLOATS(cosh, coshf(x), cosh(x))
FLOATS(tanh, tanhf(x), tanh(x))
FLOATS(asinh, asinhf(x), asinh(x))
FLOATS(acosh, acoshf(x), acosh(x))
FLOATS(atanh, atanhf(x), atanh(x))
FLOATS(sigmoid, 1.0f / (1.0f + expf(-x)), 1.0 / (1.0 + exp(-x)))
FLOATS(softplus, (x > 0 ? x : 0) + log1pf(expf(-fabsf(x))), (x > 0 ? x : 0) + log1p(exp(-fabs(x))))
FLOATS(softsign, x / (1.0f + fabsf(x)), x / (1.0 + fabs(x)))
FLOATS(leaky, x < 0 ? p * x : x, x < 0 ? p * x : x)
FLOATS(elu, x < 0 ? p * expm1f(x) : x, x < 0 ? p * expm1(x) : x)
FLOATS(selu, x > 0 ? q * x : q * p * expm1f(x), x > 0 ? q * x : q * p * expm1(x))
FLOATS(celu, x > 0 ? x : p * expm1f(x / p), x > 0 ? x : p * expm1(x / p))
FLOATS(threshold, x > p ? x : 0, x > p ? x : 0)
FLOATS(hard_sigmoid, fmaxf(0.0f, fminf(1.0f, p * x + q)), fmax(0.0, fmin(1.0, p * x + q)))
FLOATS(hard_swish, x * fmaxf(0.0f, fminf(1.0f, x / 6.0f + 0.5f)), x * fmax(0.0, fmin(1.0, x / 6.0 + 0.5)))
FLOATS(mish, x * tanhf((x > 0 ? x : 0) + log1pf(expf(-fabsf(x)))), x * tanh((x > 0 ? x : 0) + log1p(exp(-fabs(x)))))
FLOATS(gelu, 0.5f * x * (1.0f + erff(x * 0.70710678f)), 0.5 * x * (1.0 + erf(x * 0.70710678118654752)))
FLOATS(gelu_tanh, 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x))),
       0.5 * x * (1.0 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x))))
FLOATS(quick_gelu, x / (1.0f + expf(-p * x)), x / (1.0 + exp(-p * x)))
FLOATS(shrink, x < -p ? x + q : x > p ? x - q : 0, x < -p ? x + q : x > p ? x - q : 0)

FLOAT_KERNELS(neg, -x, -x) SIGNED(neg, 0 - (uint64_t)x) TABLE(negs, ROW_FLOATS(neg), ROW_SIGNED(neg))
FLOAT_KERNELS(abs, fabsf(x), fabs(x)) SIGNED(abs, x < 0 ? 0 - (uint64_t)x : (uint64_t)x) UNSIGNED(abs, x)
TABLE(abss, ROW_FLOATS(abs), ROW_SIGNED(abs), ROW_UNSIGNED(abs))
FLOAT_KERNELS(sign, (x > 0) - (x < 0), (x > 0) - (x < 0)) SIGNED(sign, (x > 0) - (x < 0)) UNSIGNED(sign, x > 0)
TABLE(signs, ROW_FLOATS(sign), ROW_SIGNED(sign), ROW_UNSIGNED(sign))
/* NaN goes on. */
FLOAT_KERNELS(relu, x < 0 ? 0 : x, x < 0 ? 0 : x) SIGNED(relu, x < 0 ? 0 : x) TABLE(relus, ROW_FLOATS(relu), ROW_SIGNED(relu))
SIGNED(bit_not, ~(uint64_t)x) UNSIGNED(bit_not, ~(uint64_t)x) TABLE(bit_nots, ROW_SIGNED(bit_not), ROW_UNSIGNED(bit_not))
KERNEL(not_b, uint8_t, uint8_t, !x) TABLE(nots, [QN_BOOL] = not_b)
KERNEL(nan_f32, float, uint8_t, x != x) KERNEL(nan_f64, double, uint8_t, x != x) TABLE(nans, ROW_FLOATS(nan))
KERNEL(inf_f32, float, uint8_t, (p != 0 && x == INFINITY) || (q != 0 && x == -INFINITY))
KERNEL(inf_f64, double, uint8_t, (p != 0 && x == (double)INFINITY) || (q != 0 && x == -(double)INFINITY))
TABLE(infs, ROW_FLOATS(inf))

enum { PIECE = 1 << 14 };

struct job {
    struct unary u;
    unary_fn fn;
    uint64_t n;
};

static qn_code part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct job *j = ctx;
    const uint64_t at = i * PIECE, n = j->n - at < PIECE ? j->n - at : PIECE;
    j->fn(&j->u, at, n);
    return QN_OK;
}

static qn_code apply(qn_exec *x, const qn_node *n, const unary_fn *table, const qn_array *in, double p, double q, bool truth, qn_array *out,
                     qn_err *err)
{
    if (in->dtype >= QN_DTYPE_PLAIN || !table[in->dtype])
        return qn_fail_dtype(in, err);
    if ((!truth || in->dtype == QN_BOOL) && qn_exec_spare(x, n, 0, in))
        qn_array_share(in, out);
    else
        QN_TRY(qn_exec_new(x, out, truth ? QN_BOOL : (qn_dtype)in->dtype, in->dims, in->rank, err));
    struct job j = {.u = {.in = in->data, .out = out->data, .p = p, .q = q}, .fn = table[in->dtype], .n = in->n};
    return qn_exec_parts(x, (in->n + PIECE - 1) / PIECE, in->n * 4, part, &j, err);
}

#define PLAIN(name, table)                                                                                         \
    qn_code qn_onnx_##name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)          \
    {                                                                                                              \
        return apply(x, n, table, in, 0, 0, false, out, err);                                                      \
    }
/* With attributes and their defaults. */
#define WITH(name, table, a, da, b, db)                                                                            \
    qn_code qn_onnx_##name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)          \
    {                                                                                                              \
        return apply(x, n, table, in, qn_node_float(n, a, da), qn_node_float(n, b, db), false, out, err);          \
    }
PLAIN(abs, abss)
PLAIN(neg, negs)
PLAIN(exp, exps)
PLAIN(log, logs)
PLAIN(sqrt, sqrts)
PLAIN(reciprocal, reciprocals)
PLAIN(floor, floors)
PLAIN(ceil, ceils)
PLAIN(round, rounds)
PLAIN(sign, signs)
PLAIN(erf, erfs)
PLAIN(sin, sins)
PLAIN(cos, coss)
PLAIN(tan, tans)
PLAIN(asin, asins)
PLAIN(acos, acoss)
PLAIN(atan, atans)
PLAIN(sinh, sinhs)
PLAIN(cosh, coshs)
PLAIN(tanh, tanhs)
PLAIN(asinh, asinhs)
PLAIN(acosh, acoshs)
PLAIN(atanh, atanhs)
PLAIN(relu, relus)
PLAIN(sigmoid, sigmoids)
PLAIN(softplus, softpluss)
PLAIN(softsign, softsigns)
PLAIN(hard_swish, hard_swishs)
PLAIN(mish, mishs)
PLAIN(bit_not, bit_nots)
WITH(leaky_relu, leakys, "alpha", (double)0.01f, "", 0)
WITH(elu, elus, "alpha", 1, "", 0)
WITH(selu, selus, "alpha", 1.67326319217681884765625, "gamma", 1.05070102214813232421875)
WITH(celu, celus, "alpha", 1, "", 0)
WITH(thresholded_relu, thresholds, "alpha", 1, "", 0)
WITH(hard_sigmoid, hard_sigmoids, "alpha", (double)0.2f, "beta", 0.5)
WITH(shrink, shrinks, "lambd", 0.5, "bias", 0)
WITH(quick_gelu, quick_gelus, "alpha", 1.702, "", 0)

qn_code qn_onnx_gelu(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const bool tanh_form = !strcmp(qn_node_string(n, "approximate", "none"), "tanh");
    return apply(x, n, tanh_form ? gelu_tanhs : gelus, in, 0, 0, false, out, err);
}

qn_code qn_onnx_not(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return apply(x, n, nots, in, 0, 0, true, out, err);
}

qn_code qn_onnx_is_nan(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return apply(x, n, nans, in, 0, 0, true, out, err);
}

qn_code qn_onnx_is_inf(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return apply(x, n, infs, in, qn_node_int(n, "detect_positive", 1) ? 1 : 0, qn_node_int(n, "detect_negative", 1) ? 1 : 0, true, out, err);
}

/* ---- Clip: limits are attributes up to version 10, then inputs ---- */

FLOAT_KERNELS(clip, x < p ? p : x > q ? q : x, x < p ? p : x > q ? q : x)

/* Limits of integers are not exact in double: they are compared as integers. */
#define CLIP(T, W)                                                                              \
    for (uint64_t i = 0; i < in->n; i++) {                                                      \
        const W v = ((const T *)in->data)[i];                                                   \
        ((T *)out->data)[i] = (T)(has_least && v < (W)least ? (W)least : v);                    \
        if (has_most && (W)((const T *)out->data)[i] > (W)most)                                 \
            ((T *)out->data)[i] = (T)most;                                                      \
    }

qn_code qn_onnx_clip(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const bool has_least = qn_node_has(n, 1), has_most = qn_node_has(n, 2);
    for (unsigned i = 1; i < n->n_in; i++)
        if (qn_node_has(n, i) && (in[i].n != 1 || in[i].dtype != in[0].dtype))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a limit must be one number of the operand's dtype");
    if (qn_is_float(in->dtype)) {
        static const unary_fn table[QN_DTYPE_PLAIN] = {ROW_FLOATS(clip)};
        const double least = has_least ? qn_elem_float(&in[1], 0) : qn_node_float(n, "min", -(double)INFINITY);
        const double most = has_most ? qn_elem_float(&in[2], 0) : qn_node_float(n, "max", (double)INFINITY);
        return apply(x, n, table, in, least, most, false, out, err);
    }
    const int64_t least = has_least ? qn_elem_int(&in[1], 0) : 0, most = has_most ? qn_elem_int(&in[2], 0) : 0;
    QN_TRY(qn_exec_new(x, out, (qn_dtype)in->dtype, in->dims, in->rank, err));
    switch (in->dtype) {
    case QN_I64: CLIP(int64_t, int64_t) return QN_OK;
    case QN_U64: CLIP(uint64_t, uint64_t) return QN_OK;
    case QN_I32: CLIP(int32_t, int64_t) return QN_OK;
    case QN_U32: CLIP(uint32_t, int64_t) return QN_OK;
    case QN_I16: CLIP(int16_t, int64_t) return QN_OK;
    case QN_U16: CLIP(uint16_t, int64_t) return QN_OK;
    case QN_I8: CLIP(int8_t, int64_t) return QN_OK;
    case QN_U8: CLIP(uint8_t, int64_t) return QN_OK;
    default: return qn_fail_dtype(in, err);
    }
}

/* ---- PRelu: the slope is broadcast to x; up to version 6 it is one number for each channel ---- */

struct prelu {
    const qn_array *x, *slope;
    qn_array *out;
};

static qn_code prelu_run(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    (void)err;
    const struct prelu *p = ctx;
    const int64_t sx = w->strides[0][w->rank - 1], ss = w->strides[1][w->rank - 1];
#define RUN(T)                                                                                                      \
    do {                                                                                                            \
        const T *a = (const T *)p->x->data + off[0], *s = (const T *)p->slope->data + off[1];                       \
        T *o = (T *)p->out->data + at;                                                                              \
        for (uint64_t i = 0; i < n; i++) {                                                                          \
            const T v = a[(int64_t)i * sx];                                                                         \
            o[i] = v < 0 ? (T)(v * s[(int64_t)i * ss]) : v;                                                         \
        }                                                                                                           \
    } while (0)
    if (p->x->dtype == QN_F32)
        RUN(float);
    else
        RUN(double);
    return QN_OK;
}

static bool per_channel(const qn_node *n, unsigned rank, unsigned slope_rank)
{
    return n->version < 7 && slope_rank == 1 && rank > 1;
}

qn_code qn_onnx_prelu_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_info two[2] = {in[0], in[1]};
    out->dtype = in[0].dtype;
    if (qn_info_ranked(&two[0]) && per_channel(n, two[0].rank, two[1].rank))
        while (two[1].rank + 1u < two[0].rank)
            two[1].dims[two[1].rank++] = 1;
    return qn_info_broadcast(two, 2, out, err);
}

qn_code qn_onnx_prelu(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    if (!qn_is_float(in[0].dtype) || in[1].dtype != in[0].dtype)
        return qn_fail_dtype(&in[!qn_is_float(in[0].dtype) ? 0 : 1], err);
    qn_array slope = in[1];
    if (per_channel(n, in[0].rank, slope.rank))
        while (slope.rank + 1u < in[0].rank)
            slope.dims[slope.rank++] = 1;
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const qn_array *ops[] = {&in[0], &slope};
    qn_walk w;
    qn_walk_init(&w, out->dims, out->rank, ops, 2);
    struct prelu p = {.x = &in[0], .slope = &slope, .out = out};
    return qn_walk_run(x, &w, prelu_run, &p, err);
}

/* ---- com.microsoft: a bias before the activation ---- */

static qn_code biased(qn_exec *x, const qn_node *n, const unary_fn *table, const qn_array *in, qn_array *out, qn_err *err)
{
    if (!qn_node_has(n, 1))
        return apply(x, n, table, in, 0, 0, false, out, err);
    qn_array sum = {0};
    QN_TRY(qn_onnx_add(x, n, in, &sum, err));
    qn_node alone = *n; /* its input is not one of the graph's: apply shall not ask who else reads it */
    alone.n_in = 0;
    const qn_code rc = apply(x, &alone, table, &sum, 0, 0, false, out, err);
    qn_array_release(&sum);
    return rc;
}

qn_code qn_onnx_bias_gelu(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return biased(x, n, gelus, in, out, err);
}

qn_code qn_onnx_fast_gelu(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return biased(x, n, gelu_tanhs, in, out, err);
}

/* ---- shape rules ---- */

qn_code qn_onnx_same_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    qn_info_like(out, &in[0]);
    return QN_OK;
}

qn_code qn_onnx_same_truth_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    qn_info_like(out, &in[0]);
    out->dtype = QN_BOOL;
    return QN_OK;
}
