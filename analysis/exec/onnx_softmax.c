/* onnx_softmax.c: Softmax, LogSoftmax, Hardmax. Up to version 12 everything from `axis` (default 1) on is one row; since 13 the axis
 * (default −1) alone. */
#include "analysis/exec/onnx_help.h"
#include <math.h>

typedef enum softmax_kind { SOFT, LOG_SOFT, HARD } softmax_kind;

typedef struct rows {
    softmax_kind kind;
    uint64_t n, inner;
    const void *x;
    void *y;
} rows;

#define ROW_OF(NAME, X, EXP, LOG)                                                          \
    static qn_code NAME(void *ctx, uint64_t i, unsigned slot, qn_err *err)                 \
    {                                                                                      \
        (void)slot;                                                                        \
        (void)err;                                                                         \
        const rows *r = ctx;                                                               \
        const uint64_t s = r->inner, at = i / s * r->n * s + i % s;                        \
        const X *x = (const X *)r->x + at;                                                 \
        X *y = (X *)r->y + at;                                                             \
        uint64_t best = 0;                                                                 \
        for (uint64_t k = 1; k < r->n; k++)                                                \
            if (x[k * s] > x[best * s])                                                    \
                best = k;                                                                  \
        const X most = x[best * s];                                                        \
        if (r->kind == HARD) {                                                             \
            for (uint64_t k = 0; k < r->n; k++)                                            \
                y[k * s] = k == best;                                                      \
            return QN_OK;                                                                  \
        }                                                                                  \
        double sum = 0;                                                                    \
        for (uint64_t k = 0; k < r->n; k++) {                                              \
            const X e = EXP(x[k * s] - most);                                              \
            y[k * s] = e;                                                                  \
            sum += (double)e;                                                              \
        }                                                                                  \
        const X part = (X)(1 / sum), down = (X)LOG(sum);                                   \
        for (uint64_t k = 0; k < r->n; k++)                                                \
            y[k * s] = r->kind == SOFT ? y[k * s] * part : x[k * s] - most - down;         \
        return QN_OK;                                                                      \
    }
ROW_OF(row_f32, float, expf, log)
ROW_OF(row_f64, double, exp, log)

static qn_code run(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, softmax_kind kind, qn_err *err)
{
    const bool flat = n->version && n->version < 13;
    unsigned axis;
    char text[128];
    if (in[0].dtype != QN_F32 && in[0].dtype != QN_F64)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s; floats are needed", qn_array_text(&in[0], text));
    const int64_t a = qn_node_int(n, "axis", flat ? 1 : -1);
    if (in[0].rank == 0 || (flat && a == in[0].rank))
        axis = in[0].rank; /* rows of one */
    else
        QN_TRY(qn_axis_of(a, in[0].rank, &axis, err));
    QN_TRY(qn_exec_new(x, &out[0], (qn_dtype)in[0].dtype, in[0].dims, in[0].rank, err));
    rows r = {.kind = kind, .x = in[0].data, .y = out[0].data, .n = 1, .inner = 1};
    if (axis < in[0].rank) {
        r.n = flat ? qn_span(in[0].dims, axis, in[0].rank) : (uint64_t)in[0].dims[axis];
        r.inner = flat ? 1 : qn_span(in[0].dims, axis + 1, in[0].rank);
    }
    if (!in[0].n)
        return QN_OK;
    return qn_exec_parts(x, in[0].n / r.n, in[0].n * 16, in[0].dtype == QN_F32 ? row_f32 : row_f64, &r, err);
}

qn_code qn_onnx_softmax(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return run(x, n, in, out, SOFT, err);
}

qn_code qn_onnx_log_softmax(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return run(x, n, in, out, LOG_SOFT, err);
}

qn_code qn_onnx_hardmax(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return run(x, n, in, out, HARD, err);
}
