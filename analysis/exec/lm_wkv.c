/* lm_wkv.c: RWKV-5.2's attention without softmax (Peng et al. 2024, "Eagle and Finch", section 4.1: matrix-valued states) and the
 * norm of each head that follows it. A part of Wkv5 is one head of one sequence; the state is (p, p): key × value. */
#include "analysis/exec/lm_scan.h"
#include "analysis/exec/ops_scan.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

qn_code qn_wkv5_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    qn_lm_like(&in[0], out);
    const int64_t width = qn_scan_last(&in[0]);
    for (unsigned i = 3; i < 5; i++) {
        if (in[i].rank != QN_RANK_UNKNOWN && in[i].rank < 2)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s has rank %u, at least 2 is expected", i == 3 ? "decay" : "bonus", in[i].rank);
        QN_TRY(qn_scan_info(&in[i], i == 3 ? "decay" : "bonus", width, err));
    }
    return QN_OK;
}

struct wkv {
    const float *r, *k, *v, *bonus;
    const float *w; /* (heads, p): what stays of the state */
    const int64_t *starts;
    float *s;       /* (slots, p, p) */
    float *y;
    uint64_t heads, p;
};

static qn_code wkv_part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)err;
    const struct wkv *c = ctx;
    const uint64_t seq = i / c->heads, head = i % c->heads, p = c->p;
    const float *w = c->w + head * p, *u = c->bonus + head * p;
    float *s = c->s + slot * p * p;
    memset(s, 0, p * p * sizeof *s);
    for (uint64_t t = (uint64_t)c->starts[seq]; t < (uint64_t)c->starts[seq + 1]; t++) {
        const uint64_t at = (t * c->heads + head) * p;
        const float *r = c->r + at, *k = c->k + at, *v = c->v + at;
        float *y = c->y + at;
        memset(y, 0, p * sizeof *y);
        for (uint64_t a = 0; a < p; a++) {
            float *row = s + a * p;
            const float ra = r[a], ka = k[a], uk = u[a] * ka, wa = w[a];
            for (uint64_t b = 0; b < p; b++) {
                y[b] += ra * (uk * v[b] + row[b]);
                row[b] = wa * row[b] + ka * v[b];
            }
        }
    }
    return QN_OK;
}

qn_code qn_wkv5_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    uint64_t n_tokens, n_seqs, width;
    struct wkv c = {.r = in[0].data, .k = in[1].data, .v = in[2].data, .bonus = in[4].data, .starts = in[5].data};
    QN_TRY(qn_scan_rows(&in[0], "r", &n_tokens, &width, err));
    QN_TRY(qn_scan_starts(&in[5], n_tokens, &n_seqs, err));
    QN_TRY(qn_scan_fits(&in[1], "k", in[0].n, err));
    QN_TRY(qn_scan_fits(&in[2], "v", in[0].n, err));
    QN_TRY(qn_scan_fits(&in[3], "decay", width, err));
    QN_TRY(qn_scan_fits(&in[4], "bonus", width, err));
    c.heads = in[3].rank >= 2 ? (uint64_t)in[3].dims[0] : 0;
    if (c.heads == 0 || width % c.heads)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " heads do not share %" PRIu64 " channels", c.heads, width);
    c.p = width / c.heads;
    qn_array w, s = {0};
    const int64_t w_dims[1] = {(int64_t)width}, s_dims[3] = {qn_exec_env(x)->n_threads, (int64_t)c.p, (int64_t)c.p};
    QN_TRY(qn_exec_new(x, &w, QN_F32, w_dims, 1, err));
    qn_code rc = qn_exec_new(x, &s, QN_F32, s_dims, 3, err);
    if (rc == QN_OK)
        rc = qn_exec_new(x, out, QN_F32, in[0].dims, 2, err);
    if (rc == QN_OK) {
        float *stay = w.data;
        memcpy(stay, in[3].data, width * sizeof *stay);
        if (qn_node_int(n, "raw", 0))
            for (uint64_t i = 0; i < width; i++)
                stay[i] = expf(-expf(stay[i]));
        c.w = stay;
        c.s = s.data;
        c.y = out->data;
        rc = qn_exec_parts(x, n_seqs * c.heads, in[0].n * (c.p + 1) * 4, wkv_part, &c, err);
        if (rc != QN_OK)
            qn_array_release(out);
    }
    qn_array_release(&w);
    qn_array_release(&s);
    return rc;
}

qn_code qn_group_norm_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_lm_like(&in[0], out);
    const int64_t width = qn_scan_last(&in[0]), groups = qn_node_int(n, "groups", 1);
    if (groups < 1 || (width != QN_DIM_UNKNOWN && width % groups))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " groups do not share %" PRId64 " channels", groups, width);
    if (width == QN_DIM_UNKNOWN || in[1].rank != 1)
        return QN_OK;
    const int64_t each = in[1].dims[0] == width / groups ? width / groups : width;
    QN_TRY(qn_scan_info(&in[1], "weight", each, err));
    return qn_scan_info(&in[2], "bias", each, err);
}

struct group_norm {
    const float *x, *w, *b;
    float *y;
    uint64_t groups, p;
    double eps;
    bool shared;
};

static void group_norm_rows(const void *ctx, uint64_t first, uint64_t n)
{
    const struct group_norm *c = ctx;
    const uint64_t p = c->p;
    for (uint64_t i = first * c->groups; i < (first + n) * c->groups; i++) {
        const uint64_t at = c->shared ? 0 : i % c->groups * p;
        const float *x = c->x + i * p, *w = c->w + at, *b = c->b + at;
        float *y = c->y + i * p;
        double sum = 0, sq = 0;
        for (uint64_t k = 0; k < p; k++)
            sum += (double)x[k];
        const double mean = sum / (double)p;
        for (uint64_t k = 0; k < p; k++)
            sq += ((double)x[k] - mean) * ((double)x[k] - mean);
        const double scale = 1 / sqrt(sq / (double)p + c->eps);
        for (uint64_t k = 0; k < p; k++)
            y[k] = (float)(((double)x[k] - mean) * scale) * w[k] + b[k];
    }
}

qn_code qn_group_norm_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    uint64_t n_tokens, width;
    const int64_t groups = qn_node_int(n, "groups", 1);
    QN_TRY(qn_scan_rows(&in[0], "x", &n_tokens, &width, err));
    if (groups < 1 || width % (uint64_t)groups)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " groups do not share %" PRIu64 " channels", groups, width);
    struct group_norm c = {.x = in[0].data, .w = in[1].data, .b = in[2].data, .groups = (uint64_t)groups,
                           .p = width / (uint64_t)groups, .eps = qn_node_float(n, "eps", 1e-5)};
    c.shared = in[1].n == c.p; /* for one group it is the same */
    QN_TRY(qn_scan_fits(&in[1], "weight", c.shared ? c.p : width, err));
    QN_TRY(qn_scan_fits(&in[2], "bias", c.shared ? c.p : width, err));
    QN_TRY(qn_exec_new(x, out, QN_F32, in[0].dims, 2, err));
    c.y = out->data;
    const qn_code rc = qn_lm_each_row(x, n_tokens, width * 4, group_norm_rows, &c, err);
    if (rc != QN_OK)
        qn_array_release(out);
    return rc;
}
