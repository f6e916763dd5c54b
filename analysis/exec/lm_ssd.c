/* lm_ssd.c: Mamba-2's scan (Dao and Gu 2024, "Transformers are SSMs", section 7: one decay per head, B and C shared by the heads
 * of a group). Computed token by token: the state is (m, p) per head, p side by side. A part is one head of one sequence. */
#include "analysis/exec/lm_scan.h"
#include "analysis/exec/ops_scan.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

qn_code qn_ssd_scan_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_lm_like(&in[0], out);
    const int64_t width = qn_scan_last(&in[0]), heads = qn_scan_last(&in[1]), states = qn_scan_last(&in[4]);
    const int64_t groups = qn_node_int(n, "groups", 1);
    if (groups < 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " groups", groups);
    if (heads != QN_DIM_UNKNOWN && (heads < 1 || heads % groups || (width != QN_DIM_UNKNOWN && width % heads)))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " heads do not share %" PRId64 " channels in %" PRId64 " groups", heads,
                       width, groups);
    if (states != QN_DIM_UNKNOWN && states % groups)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "B has %" PRId64 " values a token for %" PRId64 " groups", states, groups);
    QN_TRY(qn_scan_info(&in[2], "dt_bias", heads, err));
    QN_TRY(qn_scan_info(&in[3], "A_log", heads, err));
    return qn_scan_info(&in[6], "D", heads, err);
}

struct ssd {
    const float *x, *dt, *dt_bias, *a_log, *b, *c, *d;
    const int64_t *starts;
    float *h; /* (slots, m, p) */
    float *y;
    uint64_t heads, p, m, groups;
    float dt_min, dt_max;
};

static qn_code ssd_part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)err;
    const struct ssd *s = ctx;
    const uint64_t seq = i / s->heads, head = i % s->heads, group = head / (s->heads / s->groups), p = s->p, m = s->m;
    const float a = -expf(s->a_log[head]);
    float *h = s->h + slot * m * p;
    memset(h, 0, m * p * sizeof *h);
    for (uint64_t t = (uint64_t)s->starts[seq]; t < (uint64_t)s->starts[seq + 1]; t++) {
        const float *x = s->x + (t * s->heads + head) * p;
        const float *b = s->b + (t * s->groups + group) * m, *c = s->c + (t * s->groups + group) * m;
        float *y = s->y + (t * s->heads + head) * p;
        float dt = s->dt[t * s->heads + head] + s->dt_bias[head];
        dt = dt > 20 ? dt : log1pf(expf(dt));
        dt = dt < s->dt_min ? s->dt_min : dt > s->dt_max ? s->dt_max : dt;
        const float decay = expf(dt * a);
        for (uint64_t k = 0; k < p; k++)
            y[k] = s->d[head] * x[k];
        for (uint64_t j = 0; j < m; j++) {
            float *hj = h + j * p;
            const float in = dt * b[j], out = c[j];
            for (uint64_t k = 0; k < p; k++) {
                hj[k] = decay * hj[k] + in * x[k];
                y[k] += out * hj[k];
            }
        }
    }
    return QN_OK;
}

qn_code qn_ssd_scan_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    uint64_t n_tokens, n_seqs, width;
    const int64_t groups = qn_node_int(n, "groups", 1);
    struct ssd s = {.x = in[0].data, .dt = in[1].data, .dt_bias = in[2].data, .a_log = in[3].data, .b = in[4].data, .c = in[5].data,
                    .d = in[6].data, .starts = in[7].data, .groups = (uint64_t)groups,
                    .dt_min = (float)qn_node_float(n, "dt_min", 0), .dt_max = (float)qn_node_float(n, "dt_max", (double)INFINITY)};
    QN_TRY(qn_scan_rows(&in[0], "x", &n_tokens, &width, err));
    QN_TRY(qn_scan_starts(&in[7], n_tokens, &n_seqs, err));
    QN_TRY(qn_scan_rows(&in[1], "dt", &n_tokens, &s.heads, err));
    QN_TRY(qn_scan_rows(&in[4], "B", &n_tokens, &s.m, err));
    if (groups < 1 || s.m % s.groups || s.heads % s.groups || width % s.heads)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " channels, %" PRIu64 " heads, %" PRId64 " groups do not fit", width, s.heads,
                       groups);
    n_tokens = (uint64_t)in[0].dims[0];
    QN_TRY(qn_scan_fits(&in[1], "dt", n_tokens * s.heads, err));
    QN_TRY(qn_scan_fits(&in[2], "dt_bias", s.heads, err));
    QN_TRY(qn_scan_fits(&in[3], "A_log", s.heads, err));
    QN_TRY(qn_scan_fits(&in[4], "B", n_tokens * s.m, err));
    QN_TRY(qn_scan_fits(&in[5], "C", n_tokens * s.m, err));
    QN_TRY(qn_scan_fits(&in[6], "D", s.heads, err));
    s.p = width / s.heads;
    s.m /= s.groups;
    qn_array h;
    const int64_t h_dims[3] = {qn_exec_env(x)->n_threads, (int64_t)s.m, (int64_t)s.p};
    QN_TRY(qn_exec_new(x, &h, QN_F32, h_dims, 3, err));
    qn_code rc = qn_exec_new(x, out, QN_F32, in[0].dims, 2, err);
    if (rc == QN_OK) {
        s.h = h.data;
        s.y = out->data;
        rc = qn_exec_parts(x, n_seqs * s.heads, in[0].n * (s.m + 1) * 4, ssd_part, &s, err);
        if (rc != QN_OK)
            qn_array_release(out);
    }
    qn_array_release(&h);
    return rc;
}
