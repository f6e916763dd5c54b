/* grad_lm_linear.c: derivatives of Linear (y = x Wᵀ + b: dx = dy W, dW = dyᵀ x, db = Σ dy) and Embed (rows of dy added to the rows that were picked,
 * in the order of the tokens). */
#include "analysis/grad/backs.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

enum { COLUMNS = 64 };

qn_code qn_back_lm_linear(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                          qn_array *d_in, qn_err *err)
{
    (void)out;
    const bool in_out = !strcmp(qn_node_string(n, "layout", "out_in"), "in_out");
    const uint64_t n_in = (uint64_t)in[1].dims[in_out ? 0 : 1], n_out = (uint64_t)in[1].dims[in_out ? 1 : 0];
    const uint64_t rows = n_in ? in[0].n / n_in : 0;
    const float *dy = d_out[0].data, *xs = in[0].data;
    if (want[0]) {
        QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
        QN_TRY(qn_grad_gemm(x, false, in_out, rows, n_in, n_out, 1, dy, n_out, in[1].data, in_out ? n_out : n_in, 0, d_in[0].data, n_in, err));
    }
    if (want[1]) {
        QN_TRY(qn_grad_like(x, &in[1], false, &d_in[1], err));
        if (in_out)
            QN_TRY(qn_grad_gemm(x, true, false, n_in, n_out, rows, 1, xs, n_in, dy, n_out, 0, d_in[1].data, n_out, err));
        else
            QN_TRY(qn_grad_gemm(x, true, false, n_out, n_in, rows, 1, dy, n_out, xs, n_in, 0, d_in[1].data, n_in, err));
    }
    return n->n_in > 2 && want[2] ? qn_grad_reduce(x, &d_out[0], NULL, &in[2], &d_in[2], err) : QN_OK;
}

struct embed {
    const int64_t *ids;
    const float *dy;
    float *dw, scale;
    uint64_t n, width;
};

/* A range of columns of all rows: each sum has the order of the tokens. */
static qn_code scatter(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct embed *e = ctx;
    const uint64_t c0 = i * COLUMNS, c1 = qn_min_u64(e->width, c0 + COLUMNS);
    for (uint64_t t = 0; t < e->n; t++) {
        const float *dy = e->dy + t * e->width;
        float *to = e->dw + (uint64_t)e->ids[t] * e->width;
        for (uint64_t c = c0; c < c1; c++)
            to[c] += e->scale * dy[c];
    }
    return QN_OK;
}

qn_code qn_back_lm_embed(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                         qn_array *d_in, qn_err *err)
{
    (void)out;
    if (!want[1])
        return QN_OK;
    QN_TRY(qn_grad_like(x, &in[1], true, &d_in[1], err));
    struct embed e = {.ids = in[0].data, .dy = d_out[0].data, .dw = d_in[1].data, .scale = (float)qn_node_float(n, "scale", 1), .n = in[0].n,
                      .width = (uint64_t)in[1].dims[1]};
    return qn_exec_parts(x, qn_ceil_div(e.width, COLUMNS), e.n * e.width, scatter, &e, err);
}
