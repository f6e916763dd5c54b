/* grad_onnx_softmax.c: Softmax: dx = y · (dy − Σ dy · y); LogSoftmax: dx = dy − exp(y) · Σ dy, over the row that was normalized. Up to version 12 that is
 * everything from `axis` (default 1) on; since 13 the axis (default −1) alone. */
#include "analysis/grad/backs.h"
#include <math.h>

typedef struct rows {
    bool logarithm;
    uint64_t n, inner;
    const float *y, *dy;
    float *dx;
} rows;

static qn_code back_row(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const rows *r = ctx;
    const uint64_t s = r->inner, at = i / s * r->n * s + i % s;
    const float *y = r->y + at, *dy = r->dy + at;
    float *dx = r->dx + at;
    double sum = 0;
    if (r->logarithm) {
        for (uint64_t k = 0; k < r->n; k++)
            sum += (double)dy[k * s];
        for (uint64_t k = 0; k < r->n; k++)
            dx[k * s] = dy[k * s] - expf(y[k * s]) * (float)sum;
        return QN_OK;
    }
    if (s == 1)
        sum = qn_grad_dot(dy, y, r->n);
    else
        for (uint64_t k = 0; k < r->n; k++)
            sum += (double)dy[k * s] * (double)y[k * s];
    for (uint64_t k = 0; k < r->n; k++)
        dx[k * s] = y[k * s] * (dy[k * s] - (float)sum);
    return QN_OK;
}

static qn_code run(qn_exec *x, const qn_node *n, const qn_array *out, const qn_array *d_out, bool logarithm, qn_array *d_in, qn_err *err)
{
    const bool flat = n->version && n->version < 13;
    const unsigned rank = out[0].rank;
    const int64_t a = qn_node_int(n, "axis", flat ? 1 : -1);
    unsigned axis = rank; /* rows of one */
    if (rank && !(flat && a == rank))
        QN_TRY(qn_axis_of(a, rank, &axis, err));
    if (qn_array_is_only(&d_out[0]))
        qn_array_share(&d_out[0], &d_in[0]);
    else
        QN_TRY(qn_grad_like(x, &out[0], false, &d_in[0], err));
    rows r = {.logarithm = logarithm, .n = 1, .inner = 1, .y = out[0].data, .dy = d_out[0].data, .dx = d_in[0].data};
    if (axis < rank) {
        r.n = flat ? qn_span(out[0].dims, axis, rank) : (uint64_t)out[0].dims[axis];
        r.inner = flat ? 1 : qn_span(out[0].dims, axis + 1, rank);
    }
    return out[0].n ? qn_exec_parts(x, out[0].n / r.n, out[0].n * (logarithm ? 16 : 4), back_row, &r, err) : QN_OK;
}

qn_code qn_back_softmax(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                        qn_array *d_in, qn_err *err)
{
    (void)in;
    (void)want;
    return run(x, n, out, d_out, false, d_in, err);
}

qn_code qn_back_log_softmax(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                            qn_array *d_in, qn_err *err)
{
    (void)in;
    (void)want;
    return run(x, n, out, d_out, true, d_in, err);
}
