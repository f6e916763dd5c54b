/* onnx_reduce.c: Reduce*, ArgMax, ArgMin, CumSum. Floats are summed in double, always in the same order. */
#include "analysis/exec/onnx_help.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum kind { SUM, MEAN, MOST, LEAST, PROD, L1, L2, SQUARES, LOG_SUM, LOG_SUM_EXP };

qn_code qn_onnx_reduce_axes(const qn_node *n, const qn_info *in, uint32_t *mask, bool *known, qn_err *err)
{
    qn_ints axes;
    *known = false;
    QN_TRY(qn_ints_of(n, in, 1, "axes", &axes, err));
    if (axes.there && !axes.known)
        return QN_OK;
    *known = true;
    if (!axes.n) {
        *mask = qn_node_int(n, "noop_with_empty_axes", 0) ? 0 : in->rank >= 32 ? UINT32_MAX : (1u << in->rank) - 1;
        return QN_OK;
    }
    return qn_axes_mask(&axes, in->rank, mask, err);
}

qn_code qn_onnx_reduce_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const bool keep = qn_node_int(n, "keepdims", 1) != 0;
    uint32_t mask;
    bool known;
    out->dtype = in->dtype;
    if (!qn_info_ranked(in))
        return QN_OK;
    QN_TRY(qn_onnx_reduce_axes(n, in, &mask, &known, err));
    if (!known) {
        if (keep) {
            out->rank = in->rank;
            for (unsigned k = 0; k < in->rank; k++)
                out->dims[k] = QN_DIM_UNKNOWN;
        }
        return QN_OK;
    }
    unsigned rank = 0;
    for (unsigned k = 0; k < in->rank; k++)
        if (!(mask >> k & 1))
            out->dims[rank++] = in->dims[k];
        else if (keep)
            out->dims[rank++] = 1;
    out->rank = (uint8_t)rank;
    return QN_OK;
}

struct reduce {
    enum kind kind;
    const qn_array *in;
    qn_array *out;
    uint64_t mid, per_part, n_out;
    const uint64_t *steps; /* offset of each of the mid elements */
    const uint64_t *bases; /* of each output element */
};

static double start_of(enum kind k)
{
    return k == MOST || k == LOG_SUM_EXP ? -(double)INFINITY : k == LEAST ? (double)INFINITY : k == PROD ? 1 : 0;
}

static inline double step(enum kind k, double acc, double v)
{
    switch (k) {
    case MOST: return v > acc || v != v ? v : acc;
    case LEAST: return v < acc || v != v ? v : acc;
    case PROD: return acc * v;
    case L1: return acc + fabs(v);
    case L2:
    case SQUARES: return acc + v * v;
    default: return acc + v;
    }
}

static double finish(enum kind k, double acc, uint64_t n)
{
    return k == MEAN ? acc / (double)n : k == L2 ? sqrt(acc) : k == LOG_SUM ? log(acc) : acc;
}

/* log Σ exp(v) = m + log Σ exp(v − m) with the largest m. */
#define LOOP(T, body)                                      \
    for (uint64_t j = 0; j < r->mid; j++) {                \
        const double v = (double)((const T *)r->in->data)[base + r->steps[j]]; \
        body;                                              \
    }

#define FLOAT(T)                                                                                   \
    for (uint64_t i = first; i < last; i++) {                                                      \
        const uint64_t base = r->bases[i];                                                         \
        double acc = start_of(k);                                                                  \
        if (k == SUM || k == MEAN) {                                                               \
            LOOP(T, acc += v)                                                                      \
        } else if (k == LOG_SUM_EXP) {                                                             \
            LOOP(T, acc = step(MOST, acc, v))                                                      \
            double sum = 0;                                                                        \
            const double m = acc;                                                                  \
            if (isfinite(m)) {                                                                     \
                LOOP(T, sum += exp(v - m))                                                         \
                acc = m + log(sum);                                                                \
            }                                                                                      \
        } else                                                                                     \
            LOOP(T, acc = step(k, acc, v))                                                         \
        ((T *)r->out->data)[i] = (T)finish(k, acc, r->mid);                                        \
    }

static int64_t int_start(enum kind k, unsigned dtype)
{
    if (k == PROD)
        return 1;
    if (k != MOST && k != LEAST)
        return 0;
    switch (dtype) {
    case QN_I64: return k == MOST ? INT64_MIN : INT64_MAX;
    case QN_I32: return k == MOST ? INT32_MIN : INT32_MAX;
    case QN_I16: return k == MOST ? INT16_MIN : INT16_MAX;
    case QN_I8: return k == MOST ? INT8_MIN : INT8_MAX;
    case QN_U32: return k == MOST ? 0 : UINT32_MAX;
    case QN_U16: return k == MOST ? 0 : UINT16_MAX;
    case QN_BOOL: return k == MOST ? 0 : 1;
    default: return k == MOST ? 0 : UINT8_MAX;
    }
}

/* Integers wrap; U64 is compared as it is signed past 2^63, which no model has. */
static void ints(const struct reduce *r, uint64_t first, uint64_t last)
{
    const enum kind k = r->kind;
    qn_err ignored = {0};
    for (uint64_t i = first; i < last; i++) {
        uint64_t acc = (uint64_t)int_start(k, r->in->dtype);
        for (uint64_t j = 0; j < r->mid; j++) {
            const int64_t v = qn_elem_int(r->in, r->bases[i] + r->steps[j]);
            switch (k) {
            case MOST: acc = v > (int64_t)acc ? (uint64_t)v : acc; break;
            case LEAST: acc = v < (int64_t)acc ? (uint64_t)v : acc; break;
            case PROD: acc *= (uint64_t)v; break;
            case L1: acc += v < 0 ? 0 - (uint64_t)v : (uint64_t)v; break;
            case L2:
            case SQUARES: acc += (uint64_t)v * (uint64_t)v; break;
            default: acc += (uint64_t)v; break;
            }
        }
        if (k == MEAN && r->mid)
            acc = (uint64_t)((int64_t)acc / (int64_t)r->mid);
        if (k == L2 || k == LOG_SUM)
            acc = (uint64_t)(int64_t)(k == L2 ? sqrt((double)acc) : acc ? log((double)acc) : 0);
        QN_IGNORE(qn_convert(QN_I64, &acc, r->out->dtype, (uint8_t *)r->out->data + i * qn_elem_bytes(r->out->dtype), 1, &ignored));
    }
}

static qn_code part(void *ctx, uint64_t p, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct reduce *r = ctx;
    const enum kind k = r->kind;
    const uint64_t first = p * r->per_part, last = qn_min_u64(r->n_out, first + r->per_part);
    if (r->in->dtype == QN_F32)
        FLOAT(float)
    else if (r->in->dtype == QN_F64)
        FLOAT(double)
    else
        ints(r, first, last);
    return QN_OK;
}

/* Offsets of all combinations of the axes in (or not in) the mask. */
static void offsets(const qn_array *in, uint32_t mask, uint64_t *dst)
{
    uint64_t strides[QN_ARRAY_RANK_MAX], n = 1, s = 1;
    for (unsigned k = in->rank; k-- > 0;) {
        strides[k] = s;
        s *= (uint64_t)in->dims[k];
    }
    dst[0] = 0;
    for (unsigned k = in->rank; k-- > 0;) {
        if (!(mask >> k & 1))
            continue;
        for (uint64_t c = (uint64_t)in->dims[k]; c-- > 0;)
            for (uint64_t i = 0; i < n; i++)
                dst[c * n + i] = dst[i] + c * strides[k];
        n *= (uint64_t)in->dims[k];
    }
}

static qn_code reduce(qn_exec *x, const qn_node *n, enum kind kind, const qn_array *in, qn_array *out, qn_err *err)
{
    uint32_t mask;
    bool known;
    qn_info info[2] = {{.rank = in->rank, .dtype = in->dtype}};
    memcpy(info[0].dims, in->dims, sizeof in->dims);
    if (qn_node_has(n, 1))
        info[1].value = info[1].partly = &in[1];
    QN_TRY(qn_onnx_reduce_axes(n, info, &mask, &known, err));
    if (in->dtype == QN_U64 || (in->dtype == QN_BOOL && kind != MOST && kind != LEAST) || (kind == LOG_SUM_EXP && !qn_is_float(in->dtype)))
        return qn_fail_dtype(in, err);
    if (!mask && kind != L1 && kind != L2 && kind != SQUARES && kind != LOG_SUM) {
        qn_array_share(in, out);
        return QN_OK;
    }
    QN_TRY(qn_plan_new(x, n, in, out, err));
    uint64_t mid = 1, n_out = 1;
    for (unsigned k = 0; k < in->rank; k++)
        *(mask >> k & 1 ? &mid : &n_out) *= (uint64_t)in->dims[k];
    n_out = out->n;
    if (!n_out)
        return QN_OK;
    if (!mid && kind != SUM && kind != PROD && kind != L1 && kind != L2 && kind != SQUARES && kind != LOG_SUM)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "nothing to take a mean, a largest or a least of");
    uint64_t *room = qn_mem_get(qn_exec_env(x)->alloc, (mid + n_out + 2) * sizeof *room, err);
    if (!room)
        return QN_E_MEMORY;
    if (mid)
        offsets(in, mask, room);
    if (mid)
        offsets(in, ~mask, room + mid);
    else
        memset(room, 0, n_out * sizeof *room);
    struct reduce r = {.kind = kind, .in = in, .out = out, .mid = mid, .steps = room, .bases = room + mid, .n_out = n_out};
    r.per_part = qn_max_u64(1, (1 << 15) / (mid + 1));
    const qn_code rc = qn_exec_parts(x, qn_ceil_div(n_out, r.per_part), in->n, part, &r, err);
    qn_mem_put(qn_exec_env(x)->alloc, room);
    return rc;
}

#define REDUCE(name, kind)                                                                                     \
    qn_code qn_onnx_##name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)       \
    {                                                                                                          \
        return reduce(x, n, kind, in, out, err);                                                               \
    }
REDUCE(reduce_sum, SUM)
REDUCE(reduce_mean, MEAN)
REDUCE(reduce_max, MOST)
REDUCE(reduce_min, LEAST)
REDUCE(reduce_prod, PROD)
REDUCE(reduce_l1, L1)
REDUCE(reduce_l2, L2)
REDUCE(reduce_sum_square, SQUARES)
REDUCE(reduce_log_sum, LOG_SUM)
REDUCE(reduce_log_sum_exp, LOG_SUM_EXP)

/* ---- ArgMax, ArgMin ---- */

qn_code qn_onnx_arg_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    unsigned axis, rank = 0;
    out->dtype = QN_I64;
    if (!qn_info_ranked(in))
        return QN_OK;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in->rank, &axis, err));
    for (unsigned k = 0; k < in->rank; k++)
        if (k != axis)
            out->dims[rank++] = in->dims[k];
        else if (qn_node_int(n, "keepdims", 1))
            out->dims[rank++] = 1;
    out->rank = (uint8_t)rank;
    return QN_OK;
}

static qn_code arg(qn_exec *x, const qn_node *n, bool most, const qn_array *in, qn_array *out, qn_err *err)
{
    const bool last = qn_node_int(n, "select_last_index", 0) != 0, is_float = qn_is_float(in->dtype);
    unsigned axis;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in->rank, &axis, err));
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const uint64_t mid = (uint64_t)in->dims[axis], inner = qn_span(in->dims, axis + 1, in->rank);
    if (!mid && out->n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "an axis without entries");
    for (uint64_t i = 0; i < out->n; i++) {
        const uint64_t base = i / inner * mid * inner + i % inner;
        uint64_t best = 0;
        for (uint64_t j = 1; j < mid; j++) {
            const uint64_t a = base + j * inner, b = base + best * inner;
            int order; /* of a against b */
            if (is_float) {
                const double u = qn_elem_float(in, a), v = qn_elem_float(in, b);
                order = (u > v) - (u < v);
            } else {
                const int64_t u = qn_elem_int(in, a), v = qn_elem_int(in, b);
                order = (u > v) - (u < v);
            }
            if ((most ? order > 0 : order < 0) || (last && order == 0))
                best = j;
        }
        ((int64_t *)out->data)[i] = (int64_t)best;
    }
    return QN_OK;
}

qn_code qn_onnx_arg_max(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return arg(x, n, true, in, out, err);
}

qn_code qn_onnx_arg_min(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return arg(x, n, false, in, out, err);
}

/* ---- CumSum ---- */

#define RUNNING(T, A)                                                        \
    for (uint64_t o = 0; o < outer; o++)                                     \
        for (uint64_t i = 0; i < inner; i++) {                               \
            A acc = 0;                                                       \
            for (uint64_t s = 0; s < mid; s++) {                             \
                const uint64_t j = reverse ? mid - 1 - s : s;                \
                const uint64_t at = (o * mid + j) * inner + i;               \
                const A v = (A)((const T *)in->data)[at];                    \
                ((T *)out->data)[at] = (T)(exclusive ? acc : acc + v);       \
                acc += v;                                                    \
            }                                                                \
        }                                                                    \
    return QN_OK

qn_code qn_onnx_cum_sum(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const bool reverse = qn_node_int(n, "reverse", 0) != 0, exclusive = qn_node_int(n, "exclusive", 0) != 0;
    int64_t given;
    unsigned axis;
    QN_TRY(qn_array_int(&in[1], &given, err));
    QN_TRY(qn_axis_of(given, in->rank, &axis, err));
    QN_TRY(qn_exec_new(x, out, (qn_dtype)in->dtype, in->dims, in->rank, err));
    const uint64_t outer = in->n ? qn_span(in->dims, 0, axis) : 0, mid = (uint64_t)in->dims[axis], inner = qn_span(in->dims, axis + 1, in->rank);
    switch (in->dtype) {
    case QN_F32: RUNNING(float, double);
    case QN_F64: RUNNING(double, double);
    case QN_I64: RUNNING(int64_t, uint64_t);
    case QN_I32: RUNNING(int32_t, uint64_t);
    case QN_U64: RUNNING(uint64_t, uint64_t);
    case QN_U32: RUNNING(uint32_t, uint64_t);
    default: return qn_fail_dtype(in, err);
    }
}
