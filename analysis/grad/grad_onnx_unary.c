/* grad_onnx_unary.c: operators of one operand, element by element. */
#include "analysis/grad/backs.h"

struct unary {
    const float *x, *y, *dy;
    float *dx;
};

static void relu(void *ctx, uint64_t from, uint64_t to)
{
    const struct unary *u = ctx;
    const float *y = u->y, *dy = u->dy;
    float *dx = u->dx;
    for (uint64_t i = from; i < to; i++)
        dx[i] = y[i] > 0 ? dy[i] : 0;
}

qn_code qn_back_relu(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                     qn_array *d_in, qn_err *err)
{
    (void)n;
    (void)in;
    (void)want;
    if (qn_array_is_only(&d_out[0]))
        qn_array_share(&d_out[0], &d_in[0]);
    else
        QN_TRY(qn_grad_like(x, &out[0], false, &d_in[0], err));
    struct unary u = {.y = out[0].data, .dy = d_out[0].data, .dx = d_in[0].data};
    return qn_grad_each(x, out[0].n, 1, relu, &u, err);
}
