/* grad_onnx_lrn.c: LRN: y_c = x_c · d_c^−β with d_c = bias + α / size · Σ x² over the channels around c. x_c stands in the sums of all channels k that see c:
 *     dx_c = dy_c · d_c^−β − 2 · α / size · β · x_c · Σ_k dy_k · x_k · d_k^(−β − 1) */
#include "analysis/grad/backs.h"
#include <math.h>

typedef struct lrn {
    int64_t channels, before, after;
    uint64_t inner;
    double alpha, beta, bias;
    const float *x, *dy;
    float *dx;
    double *room; /* (images, channels, 2): of one place: d^−β, and the summand of channel k */
} lrn;

/* Task: one image. A channel sees `before` channels in front of it and `after` behind: it is seen by those the other way round. */
static qn_code back_image(void *ctx, uint64_t image, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const lrn *l = ctx;
    const uint64_t at = image * (uint64_t)l->channels * l->inner;
    const float *x = l->x + at, *dy = l->dy + at;
    double *room = l->room + 2 * image * (uint64_t)l->channels;
    for (uint64_t p = 0; p < l->inner; p++) {
        for (int64_t c = 0; c < l->channels; c++) {
            double sum = 0;
            for (int64_t k = c > l->before ? c - l->before : 0; k < l->channels && k - c <= l->after; k++)
                sum += (double)x[(uint64_t)k * l->inner + p] * (double)x[(uint64_t)k * l->inner + p];
            const uint64_t i = (uint64_t)c * l->inner + p;
            const double d = l->bias + l->alpha * sum;
            room[2 * c] = pow(d, -l->beta);
            room[2 * c + 1] = (double)dy[i] * (double)x[i] * room[2 * c] / d;
        }
        for (int64_t c = 0; c < l->channels; c++) {
            double sum = 0;
            for (int64_t k = c > l->after ? c - l->after : 0; k < l->channels && k - c <= l->before; k++)
                sum += room[2 * k + 1];
            const uint64_t i = (uint64_t)c * l->inner + p;
            l->dx[at + i] = (float)((double)dy[i] * room[2 * c] - 2 * l->alpha * l->beta * (double)x[i] * sum);
        }
    }
    return QN_OK;
}

qn_code qn_back_lrn(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                    qn_array *d_in, qn_err *err)
{
    (void)out;
    (void)want;
    const int64_t size = qn_node_int(n, "size", 0);
    QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
    if (!in[0].n)
        return QN_OK;
    qn_array room;
    QN_TRY(qn_exec_new(x, &room, QN_F64, (const int64_t[]){in[0].dims[0], in[0].dims[1], 2}, 3, err));
    lrn l = {.channels = in[0].dims[1], .before = (size - 1) / 2, .after = size / 2, .inner = qn_span(in[0].dims, 2, in[0].rank),
             .alpha = qn_node_float(n, "alpha", 1e-4) / (double)size, .beta = qn_node_float(n, "beta", 0.75), .bias = qn_node_float(n, "bias", 1),
             .x = in[0].data, .dy = d_out[0].data, .dx = d_in[0].data, .room = room.data};
    const qn_code rc = qn_exec_parts(x, (uint64_t)in[0].dims[0], in[0].n * 64, back_image, &l, err);
    qn_array_release(&room);
    return rc;
}
