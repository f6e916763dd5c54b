/* grad_lm_norm.c: derivatives of RMSNorm, LayerNorm and GroupNorm. With x̂ = (x − μ) s, s = 1 / √(mean (x − μ)² + eps), y = x̂ · w + b and g = dy · w:
 * dx = s (g − mean g − x̂ · mean (g x̂)); RMSNorm has no μ and no mean g. dw = Σ dy x̂, db = Σ dy, over the groups that share them. */
#include "analysis/exec/lm_help.h"
#include "analysis/grad/backs.h"
#include "base/err.h"
#include "base/num.h"
#include <math.h>
#include <string.h>

enum { COLUMNS = 64 };

struct norm {
    const float *x, *dy, *weight; /* weight: (n_weight) or NULL                               */
    float *dx, *dw;
    double *stats;                /* per group: μ, s                                          */
    uint64_t m, n_weight, groups; /* values of a group; of the weight: m or a multiple; groups in all */
    double eps;
    float offset;
    bool centred;
};

static void measure(const void *ctx, uint64_t first, uint64_t n)
{
    const struct norm *g = ctx;
    for (uint64_t r = first; r < first + n; r++) {
        const float *x = g->x + r * g->m;
        double mean = 0, sq = 0;
        if (g->centred)
            for (uint64_t i = 0; i < g->m; i++)
                mean += (double)x[i];
        mean /= (double)g->m;
        for (uint64_t i = 0; i < g->m; i++)
            sq += ((double)x[i] - mean) * ((double)x[i] - mean);
        g->stats[2 * r] = mean;
        g->stats[2 * r + 1] = 1.0 / sqrt(sq / (double)g->m + g->eps);
    }
}

static const float *weight_of(const struct norm *g, uint64_t r)
{
    return g->weight ? g->weight + r % (g->n_weight / g->m) * g->m : NULL;
}

static void groups_x(const void *ctx, uint64_t first, uint64_t n)
{
    const struct norm *g = ctx;
    for (uint64_t r = first; r < first + n; r++) {
        const float *x = g->x + r * g->m, *dy = g->dy + r * g->m, *w = weight_of(g, r);
        float *dx = g->dx + r * g->m;
        const double mean = g->stats[2 * r], s = g->stats[2 * r + 1];
        double sum = 0, dot = 0;
        for (uint64_t i = 0; i < g->m; i++) {
            const double d = (double)dy[i] * (w ? (double)(g->offset + w[i]) : 1.0);
            sum += d;
            dot += d * ((double)x[i] - mean) * s;
        }
        sum = g->centred ? sum / (double)g->m : 0;
        dot /= (double)g->m;
        for (uint64_t i = 0; i < g->m; i++) {
            const double d = (double)dy[i] * (w ? (double)(g->offset + w[i]) : 1.0);
            dx[i] = (float)(s * (d - sum - ((double)x[i] - mean) * s * dot));
        }
    }
}

/* A range of the weight: each sum has the order of the groups. */
static qn_code weights(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct norm *g = ctx;
    const uint64_t kinds = g->n_weight / g->m, per = qn_ceil_div(g->m, COLUMNS), kind = part / per;
    const uint64_t c0 = part % per * COLUMNS, n = qn_min_u64(COLUMNS, g->m - c0);
    double acc[COLUMNS] = {0};
    for (uint64_t r = kind; r < g->groups; r += kinds) {
        const float *x = g->x + r * g->m + c0, *dy = g->dy + r * g->m + c0;
        const double mean = g->stats[2 * r], s = g->stats[2 * r + 1];
        for (uint64_t c = 0; c < n; c++)
            acc[c] += (double)dy[c] * ((double)x[c] - mean) * s;
    }
    for (uint64_t c = 0; c < n; c++)
        g->dw[kind * g->m + c0 + c] = (float)acc[c];
    return QN_OK;
}

static qn_code back(qn_exec *x, struct norm *g, const qn_node *n, const qn_array *in, const qn_array *d_out, const bool *want, qn_array *d_in,
                    qn_err *err)
{
    g->x = in[0].data;
    g->dy = d_out[0].data;
    g->groups = g->m ? in[0].n / g->m : 0;
    if (n->n_in > 1 && in[1].dtype != QN_BYTES) {
        g->weight = in[1].data;
        g->n_weight = in[1].n;
    }
    if (n->n_in > 2 && want[2]) {
        qn_array rows = {0};
        const int64_t shape[2] = {(int64_t)(in[0].n / qn_max_u64(1, in[2].n)), (int64_t)in[2].n};
        QN_TRY(qn_array_view(&d_out[0], &rows, shape, 2, err));
        const qn_code rc = qn_grad_reduce(x, &rows, NULL, &in[2], &d_in[2], err);
        qn_array_release(&rows);
        if (rc != QN_OK)
            return rc;
    }
    qn_array stats;
    const int64_t dims[2] = {(int64_t)g->groups, 2};
    QN_TRY(qn_exec_new(x, &stats, QN_F64, dims, 2, err));
    g->stats = stats.data;
    qn_code rc = qn_lm_each_row(x, g->groups, 4 * g->m, measure, g, err);
    if (rc == QN_OK && want[0] && (rc = qn_grad_like(x, &in[0], false, &d_in[0], err)) == QN_OK) {
        g->dx = d_in[0].data;
        rc = qn_lm_each_row(x, g->groups, 8 * g->m, groups_x, g, err);
    }
    if (rc == QN_OK && n->n_in > 1 && want[1] && (rc = qn_grad_like(x, &in[1], false, &d_in[1], err)) == QN_OK) {
        g->dw = d_in[1].data;
        rc = qn_exec_parts(x, g->n_weight / g->m * qn_ceil_div(g->m, COLUMNS), 2 * in[0].n, weights, g, err);
    }
    qn_array_release(&stats);
    return rc;
}

/* Of RMSNorm and LayerNorm: a weight is that of each group. */
static uint64_t group_size(const qn_node *n, const qn_array *in)
{
    if (n->n_in > 1 && in[1].dtype != QN_BYTES)
        return in[1].n;
    return (uint64_t)qn_node_int(n, "size", in[0].dims[in[0].rank - 1]);
}

qn_code qn_back_lm_rms_norm(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                            qn_array *d_in, qn_err *err)
{
    (void)out;
    struct norm g = {.m = group_size(n, in), .eps = qn_node_float(n, "eps", 0), .offset = (float)qn_node_int(n, "offset", 0)};
    return back(x, &g, n, in, d_out, want, d_in, err);
}

qn_code qn_back_lm_layer_norm(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                              qn_array *d_in, qn_err *err)
{
    (void)out;
    struct norm g = {.m = group_size(n, in), .eps = qn_node_float(n, "eps", 0), .centred = true};
    return back(x, &g, n, in, d_out, want, d_in, err);
}

qn_code qn_back_lm_group_norm(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                              qn_array *d_in, qn_err *err)
{
    (void)out;
    struct norm g = {.m = (uint64_t)(in[0].dims[in[0].rank - 1] / qn_node_int(n, "groups", 1)), .eps = qn_node_float(n, "eps", 1e-5), .centred = true};
    return back(x, &g, n, in, d_out, want, d_in, err);
}
