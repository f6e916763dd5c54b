/* lm_norm.c: RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over groups along the last axis. Sums are f64 in four lanes,
 * always in the same order. */
#include "analysis/exec/lm_help.h"
#include "base/err.h"
#include <inttypes.h>
#include <math.h>

struct norm {
    const float *x, *weight, *bias; /* weight, bias: (m) or NULL */
    float *y;
    uint64_t m; /* of a group */
    double eps;
    float offset;
};

static double sum_squares(const float *x, uint64_t n, double mean)
{
    double s[4] = {0};
    uint64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (unsigned k = 0; k < 4; k++)
            s[k] += ((double)x[i + k] - mean) * ((double)x[i + k] - mean);
    for (; i < n; i++)
        s[i & 3] += ((double)x[i] - mean) * ((double)x[i] - mean);
    return (s[0] + s[2]) + (s[1] + s[3]);
}

static double sum(const float *x, uint64_t n)
{
    double s[4] = {0};
    uint64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (unsigned k = 0; k < 4; k++)
            s[k] += (double)x[i + k];
    for (; i < n; i++)
        s[i & 3] += (double)x[i];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

static void groups_rms(const void *ctx, uint64_t first, uint64_t n)
{
    const struct norm *g = ctx;
    for (uint64_t r = first; r < first + n; r++) {
        const float *x = g->x + r * g->m;
        float *y = g->y + r * g->m;
        const float scale = (float)(1.0 / sqrt(sum_squares(x, g->m, 0) / (double)g->m + g->eps));
        if (g->weight)
            for (uint64_t i = 0; i < g->m; i++)
                y[i] = x[i] * scale * (g->offset + g->weight[i]);
        else
            for (uint64_t i = 0; i < g->m; i++)
                y[i] = x[i] * scale;
    }
}

static void groups_layer(const void *ctx, uint64_t first, uint64_t n)
{
    const struct norm *g = ctx;
    for (uint64_t r = first; r < first + n; r++) {
        const float *x = g->x + r * g->m;
        float *y = g->y + r * g->m;
        const double mean = sum(x, g->m) / (double)g->m;
        const double scale = 1.0 / sqrt(sum_squares(x, g->m, mean) / (double)g->m + g->eps);
        for (uint64_t i = 0; i < g->m; i++)
            y[i] = (float)(((double)x[i] - mean) * scale);
        if (g->weight)
            for (uint64_t i = 0; i < g->m; i++)
                y[i] *= g->weight[i];
        if (g->bias)
            for (uint64_t i = 0; i < g->m; i++)
                y[i] += g->bias[i];
    }
}

static qn_code shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_lm_like(in, out);
    if (!(qn_node_float(n, "eps", 0) >= 0))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "eps is %g: it must not be negative", qn_node_float(n, "eps", 0));
    for (unsigned k = 1; k < n->n_in; k++)
        if (n->in[k] != QN_NO_VALUE && in[k].rank != QN_RANK_UNKNOWN && in[k].rank != 1)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "weight and bias must have rank 1, not %u", in[k].rank);
    if (n->n_in < 2 || n->in[1] == QN_NO_VALUE || in[0].rank == QN_RANK_UNKNOWN || in[1].rank == QN_RANK_UNKNOWN)
        return QN_OK;
    const int64_t cols = in[0].rank ? in[0].dims[in[0].rank - 1] : 1, m = in[1].dims[0];
    if (m == 0 || (cols != QN_DIM_UNKNOWN && m != QN_DIM_UNKNOWN && cols % m))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rows of %" PRId64 " values cannot be normalised in groups of %" PRId64, cols, m);
    return QN_OK;
}

static qn_code forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, void (*fn)(const void *, uint64_t, uint64_t),
                       qn_err *err)
{
    struct norm g = {.eps = qn_node_float(n, "eps", 0), .offset = (float)qn_node_int(n, "offset", 0)};
    QN_TRY(qn_lm_floats(&in[0], "x", err));
    const uint64_t cols = (uint64_t)in[0].dims[in[0].rank - 1];
    g.m = (uint64_t)qn_node_int(n, "size", (int64_t)cols);
    for (unsigned k = 1; k < n->n_in; k++) {
        if (in[k].dtype == QN_BYTES)
            continue;
        QN_TRY(qn_lm_floats(&in[k], k == 1 ? "weight" : "bias", err));
        *(k == 1 ? &g.weight : &g.bias) = in[k].data;
        if (k == 1)
            g.m = in[k].n;
        if (in[k].n != g.m)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the bias has %" PRIu64 " values, groups have %" PRIu64, in[k].n, g.m);
    }
    if (cols && (!g.m || cols % g.m))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rows of %" PRIu64 " values cannot be normalised in groups of %" PRIu64, cols, g.m);
    QN_TRY(qn_exec_new(x, out, QN_F32, in[0].dims, in[0].rank, err));
    g.x = in[0].data;
    g.y = out->data;
    const qn_code rc = qn_lm_each_row(x, g.m ? in[0].n / g.m : 0, 4 * g.m, fn, &g, err);
    if (rc != QN_OK)
        qn_array_release(out);
    return rc;
}

qn_code qn_rms_norm_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return shape(n, in, out, err);
}

qn_code qn_rms_norm_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return forward(x, n, in, out, groups_rms, err);
}

qn_code qn_layer_norm_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return shape(n, in, out, err);
}

qn_code qn_layer_norm_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return forward(x, n, in, out, groups_layer, err);
}
