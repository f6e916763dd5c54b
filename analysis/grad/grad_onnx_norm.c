/* grad_onnx_norm.c: LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization; BatchNormalization with stored statistics is in
 * grad_onnx_batch_norm.c.
 *
 * For a row of n values with x̂ = (x − mean) · inv and g = dy · scale:  dx = inv · (g − mean(g) − x̂ · mean(g · x̂)), the middle term only where a mean was
 * taken off (Ba et al. 2016, Zhang and Sennrich 2019, differentiated).  dscale = Σ dy · x̂, dbias = Σ dy over everything that a parameter meets. */
#include "analysis/grad/backs.h"
#include "base/num.h"
#include <math.h>
#include <string.h>

typedef struct norm {
    uint64_t n_rows, n;       /* values of a row                                                               */
    uint64_t channels, inner; /* channels > 0: the parameter of element i of row r is that of channel (r · n + i) / inner % channels */
    uint64_t n_groups;        /* > 0: parameters by group, r % n_groups                                         */
    uint64_t n_scale;         /* else: of element i: i % n_scale                                                */
    double eps;
    bool rms;
    const float *x, *scale, *dy, *d_mean, *d_inv; /* d_mean, d_inv: LayerNormalization's other outputs, or NULL */
    float *dx;
    double *stats; /* (rows, 2): mean, inv */
} norm;

static inline float scale_of(const norm *b, uint64_t r, uint64_t i)
{
    if (b->n_groups)
        return b->scale[r % b->n_groups];
    return b->scale[b->channels ? (r * b->n + i) / b->inner % b->channels : b->n_scale == b->n ? i : i % b->n_scale];
}

static qn_code back_row(void *ctx, uint64_t r, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const norm *b = ctx;
    const float *x = b->x + r * b->n, *dy = b->dy ? b->dy + r * b->n : NULL;
    const double n = (double)b->n, mean = b->rms ? 0 : qn_grad_sum(x, b->n) / n;
    double var = 0;
    for (uint64_t i = 0; i < b->n; i++)
        var += ((double)x[i] - mean) * ((double)x[i] - mean);
    const double inv = 1 / sqrt(var / n + b->eps);
    b->stats[2 * r] = mean;
    b->stats[2 * r + 1] = inv;
    if (!b->dx)
        return QN_OK;
    float *dx = b->dx + r * b->n;
    double sum = 0, along = 0;
    for (uint64_t i = 0; i < b->n && dy; i++) {
        const float g = dy[i] * scale_of(b, r, i);
        dx[i] = g;
        sum += (double)g;
        along += (double)g * ((double)x[i] - mean);
    }
    sum = b->rms ? 0 : sum / n;
    along = along * inv / n;
    /* d mean / dx = 1 / n; d inv / dx = −inv² · x̂ / n */
    const double shift = b->d_mean ? (double)b->d_mean[r] / n : 0, tilt = b->d_inv ? (double)b->d_inv[r] * inv * inv / n : 0;
    for (uint64_t i = 0; i < b->n; i++) {
        const double hat = ((double)x[i] - mean) * inv, g = dy ? (double)dx[i] : 0;
        dx[i] = (float)(inv * (g - sum - hat * along) + shift - tilt * hat);
    }
    return QN_OK;
}

/* --- parameters --------------------------------------------------------------------------------------------------------------- */

typedef struct params {
    const norm *b;
    double *d_scale, *d_bias; /* one for each channel, or element of a row; NULL: not wanted */
} params;

/* Task: a channel, over all images in order. */
static qn_code param_channel(void *ctx, uint64_t ch, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const params *p = ctx;
    const norm *b = p->b;
    const uint64_t images = b->n_rows * b->n / (b->channels * b->inner);
    double scale = 0, bias = 0;
    for (uint64_t i = 0; i < images; i++) {
        const uint64_t at = (i * b->channels + ch) * b->inner;
        const double *s = b->stats + 2 * (at / b->n), sum = qn_grad_sum(b->dy + at, b->inner);
        bias += sum;
        scale += (qn_grad_dot(b->dy + at, b->x + at, b->inner) - s[0] * sum) * s[1];
    }
    if (p->d_scale)
        p->d_scale[ch] = scale;
    if (p->d_bias)
        p->d_bias[ch] = bias;
    return QN_OK;
}

enum { BLOCK = 128 };

/* Task: a block of a row's elements, over all rows in order. */
static qn_code param_block(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const params *p = ctx;
    const norm *b = p->b;
    const uint64_t from = i * BLOCK, n = qn_min_u64(BLOCK, b->n - from);
    double scale[BLOCK] = {0}, bias[BLOCK] = {0};
    for (uint64_t r = 0; r < b->n_rows; r++) {
        const float *x = b->x + r * b->n + from, *dy = b->dy + r * b->n + from;
        const double mean = b->stats[2 * r], inv = b->stats[2 * r + 1];
        for (uint64_t k = 0; k < n; k++) {
            scale[k] += (double)dy[k] * (((double)x[k] - mean) * inv);
            bias[k] += (double)dy[k];
        }
    }
    if (p->d_scale)
        memcpy(p->d_scale + from, scale, n * sizeof *scale);
    if (p->d_bias)
        memcpy(p->d_bias + from, bias, n * sizeof *bias);
    return QN_OK;
}

/* n sums → the parameter's elements: element i takes those whose index is i modulo its size (by element), or i in order (by group: runs). */
static qn_code give(qn_exec *x, const double *sums, uint64_t n, bool in_runs, const qn_array *like, qn_array *out, qn_err *err)
{
    QN_TRY(qn_grad_like(x, like, true, out, err));
    float *dst = out->data;
    for (uint64_t i = 0; i < like->n; i++) {
        double sum = 0;
        for (uint64_t k = 0; k < n / like->n; k++)
            sum += sums[in_runs ? i * (n / like->n) + k : i + k * like->n];
        dst[i] = (float)sum;
    }
    return QN_OK;
}

static qn_code run(qn_exec *x, norm *b, const qn_array *in, const qn_array *d_out, const bool *want, unsigned n_in, qn_array *d_in, qn_err *err)
{
    const bool by_channel = b->channels > 0, scale = want[1], bias = n_in > 2 && want[2];
    const uint64_t n_sums = by_channel ? b->channels : b->n;
    qn_array stats = {0}, sums = {0};
    if (want[0])
        QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
    b->x = in[0].data;
    b->scale = in[1].data;
    b->dy = d_out[0].data;
    b->dx = d_in[0].data;
    if (!in[0].n || (!b->dy && !b->dx)) {
        if (scale)
            QN_TRY(qn_grad_like(x, &in[1], true, &d_in[1], err));
        return bias ? qn_grad_like(x, &in[2], true, &d_in[2], err) : QN_OK;
    }
    qn_code rc = qn_exec_new(x, &stats, QN_F64, (const int64_t[]){(int64_t)b->n_rows, 2}, 2, err);
    b->stats = stats.data;
    if (rc == QN_OK)
        rc = qn_exec_parts(x, b->n_rows, in[0].n * 8, back_row, b, err);
    if (rc == QN_OK && b->dy && (scale || bias)) {
        rc = qn_exec_new(x, &sums, QN_F64, (const int64_t[]){2, (int64_t)n_sums}, 2, err);
        params p = {.b = b, .d_scale = sums.data, .d_bias = (double *)sums.data + n_sums};
        if (rc == QN_OK)
            rc = qn_exec_parts(x, by_channel ? n_sums : qn_ceil_div(n_sums, BLOCK), in[0].n * 2, by_channel ? param_channel : param_block, &p, err);
        if (rc == QN_OK && scale)
            rc = give(x, p.d_scale, n_sums, by_channel, &in[1], &d_in[1], err);
        if (rc == QN_OK && bias)
            rc = give(x, p.d_bias, n_sums, by_channel, &in[2], &d_in[2], err);
    }
    qn_array_release(&stats);
    qn_array_release(&sums);
    return rc;
}

/* --- the operators -------------------------------------------------------------------------------------------------------------- */

#define BACK(name)                                                                                                                       \
    qn_code qn_back_##name(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, \
                           qn_array *d_in, qn_err *err)

static qn_code layer_norm(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *d_out, const bool *want, bool rms, qn_array *d_in,
                          qn_err *err)
{
    unsigned axis;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", -1), in[0].rank, &axis, err));
    norm b = {.n_rows = qn_span(in[0].dims, 0, axis), .n = qn_span(in[0].dims, axis, in[0].rank), .n_scale = in[1].n,
              .eps = qn_node_float(n, "epsilon", 1e-5), .rms = rms};
    if (!rms && n->n_out > 1)
        b.d_mean = d_out[1].data;
    if (!rms && n->n_out > 2)
        b.d_inv = d_out[2].data;
    return run(x, &b, in, d_out, want, n->n_in, d_in, err);
}

BACK(layer_norm)
{
    (void)out;
    return layer_norm(x, n, in, d_out, want, false, d_in, err);
}

BACK(rms_norm)
{
    (void)out;
    return layer_norm(x, n, in, d_out, want, true, d_in, err);
}

BACK(instance_norm)
{
    (void)out;
    const uint64_t channels = (uint64_t)in[0].dims[1], inner = qn_span(in[0].dims, 2, in[0].rank);
    norm b = {.n_rows = (uint64_t)in[0].dims[0] * channels, .n = inner, .channels = channels, .inner = inner, .eps = qn_node_float(n, "epsilon", 1e-5)};
    return run(x, &b, in, d_out, want, n->n_in, d_in, err);
}

/* Version 18 has a scale for each group, version 21 for each channel. */
BACK(group_norm)
{
    (void)out;
    const uint64_t channels = (uint64_t)in[0].dims[1], groups = (uint64_t)qn_node_int(n, "num_groups", 0), inner = qn_span(in[0].dims, 2, in[0].rank);
    norm b = {.n_rows = (uint64_t)in[0].dims[0] * groups, .n = channels / groups * inner, .channels = channels, .inner = inner,
              .n_groups = n->version < 21 && in[1].n == groups ? groups : 0, .eps = qn_node_float(n, "epsilon", 1e-5)};
    return run(x, &b, in, d_out, want, n->n_in, d_in, err);
}
