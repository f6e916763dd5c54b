/* grad_onnx_batch_norm.c: BatchNormalization with stored statistics: y = (x − mean) · inv · scale + bias by channel, so an affine map: dx = dy · scale · inv;
 * the parameters' derivatives follow from Σ dy and Σ dy · x of a channel, summed in the order of the images. */
#include "analysis/grad/backs.h"
#include <math.h>
#include <string.h>

typedef struct batch_norm {
    uint64_t images, channels, inner;
    double eps;
    const float *x, *dy, *scale, *mean, *var;
    float *dx, *d_scale, *d_bias, *d_mean, *d_var; /* NULL: not wanted */
} batch_norm;

static qn_code back_channel(void *ctx, uint64_t c, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const batch_norm *b = ctx;
    const double mean = (double)b->mean[c], scale = (double)b->scale[c], inv = 1 / sqrt((double)b->var[c] + b->eps);
    const bool sums = b->d_scale || b->d_bias || b->d_mean || b->d_var;
    const float s = (float)(scale * inv);
    double sum = 0, dot = 0;
    for (uint64_t i = 0; i < b->images; i++) {
        const uint64_t at = (i * b->channels + c) * b->inner;
        const float *dy = b->dy + at;
        if (sums) {
            sum += qn_grad_sum(dy, b->inner);
            dot += qn_grad_dot(dy, b->x + at, b->inner);
        }
        if (b->dx)
            for (uint64_t k = 0; k < b->inner; k++)
                b->dx[at + k] = dy[k] * s;
    }
    const double centred = dot - mean * sum;
    if (b->d_scale)
        b->d_scale[c] = (float)(centred * inv);
    if (b->d_bias)
        b->d_bias[c] = (float)sum;
    if (b->d_mean)
        b->d_mean[c] = (float)(-sum * scale * inv);
    if (b->d_var)
        b->d_var[c] = (float)(-0.5 * centred * scale * inv * inv * inv);
    return QN_OK;
}

qn_code qn_back_batch_norm(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                           qn_array *d_in, qn_err *err)
{
    (void)out;
    for (unsigned i = 0; i < 5; i++)
        if (want[i] && !i && qn_array_is_only(&d_out[0]))
            qn_array_share(&d_out[0], &d_in[0]);
        else if (want[i])
            QN_TRY(qn_grad_like(x, &in[i], !in[0].n, &d_in[i], err));
    const bool flat = in[0].rank == 1; /* (N): one channel */
    batch_norm b = {.images = flat ? 1 : (uint64_t)in[0].dims[0], .channels = flat ? 1 : (uint64_t)in[0].dims[1], .eps = qn_node_float(n, "epsilon", 1e-5),
                    .inner = flat ? in[0].n : qn_span(in[0].dims, 2, in[0].rank), .x = in[0].data, .dy = d_out[0].data, .scale = in[1].data,
                    .mean = in[3].data, .var = in[4].data, .dx = d_in[0].data, .d_scale = d_in[1].data, .d_bias = d_in[2].data,
                    .d_mean = d_in[3].data, .d_var = d_in[4].data};
    return in[0].n ? qn_exec_parts(x, b.channels, in[0].n * 3, back_channel, &b, err) : QN_OK;
}
