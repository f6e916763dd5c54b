/* lm_selective.c: Mamba's selective scan (Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
 * algorithm 2 with the simplified discretisation of section 3.3). Channels are independent: a part is a run of them in one
 * sequence, worked on side by side. */
#include "analysis/exec/lm_scan.h"
#include "analysis/exec/ops_scan.h"
#include "analysis/exec/vmath.h"
#include "base/err.h"
#include "base/num.h"
#include <math.h>
#include <string.h>

enum { RUN = 32 };

qn_code qn_selective_scan_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    qn_lm_like(&in[0], out);
    const int64_t d = qn_scan_last(&in[0]), m = qn_scan_last(&in[3]);
    if (in[2].rank != QN_RANK_UNKNOWN && in[2].rank != 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "A_log has rank %u, not 2", in[2].rank);
    if (d != QN_DIM_UNKNOWN && m != QN_DIM_UNKNOWN && d < INT32_MAX && m < INT32_MAX)
        QN_TRY(qn_scan_info(&in[2], "A_log", d * m, err));
    return qn_scan_info(&in[5], "D", d, err);
}

struct scan {
    const float *x, *dt, *b, *c, *d;
    const float *a;  /* (m, runs · RUN): −exp A_log, transposed; 0 past d */
    const int64_t *starts;
    float *h;        /* (slots, m, RUN) */
    float *y;
    uint64_t n, m, n_runs;
};

static qn_code scan_part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)err;
    const struct scan *s = ctx;
    const uint64_t seq = i / s->n_runs, c0 = i % s->n_runs * RUN, w = qn_min_u64(RUN, s->n - c0);
    float *h = s->h + slot * s->m * RUN;
    memset(h, 0, s->m * RUN * sizeof *h);
    for (uint64_t t = (uint64_t)s->starts[seq]; t < (uint64_t)s->starts[seq + 1]; t++) {
        const float *x = s->x + t * s->n + c0, *raw = s->dt + t * s->n + c0;
        float dt[RUN] = {0}, dx[RUN] = {0}, y[RUN] = {0};
        for (uint64_t k = 0; k < w; k++) {
            dt[k] = raw[k] > 20 ? raw[k] : log1pf(expf(raw[k])); /* softplus; past 20 they are equal in f32 */
            dx[k] = dt[k] * x[k];
            y[k] = s->d[c0 + k] * x[k];
        }
        for (uint64_t j = 0; j < s->m; j++) {
            const float *a = s->a + j * s->n_runs * RUN + c0, b = s->b[t * s->m + j], c = s->c[t * s->m + j];
            float *hj = h + j * RUN;
            float stay[RUN];
            for (unsigned k = 0; k < RUN; k++) /* whole runs: A is padded, Δ is 0 past the end */
                stay[k] = qn_vexp(dt[k] * a[k]);
            for (unsigned k = 0; k < RUN; k++) {
                hj[k] = stay[k] * hj[k] + dx[k] * b;
                y[k] += hj[k] * c;
            }
        }
        memcpy(s->y + t * s->n + c0, y, w * sizeof *y);
    }
    return QN_OK;
}

qn_code qn_selective_scan_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)n;
    uint64_t n_tokens, n_seqs;
    struct scan s = {.x = in[0].data, .dt = in[1].data, .b = in[3].data, .c = in[4].data, .d = in[5].data, .starts = in[6].data};
    QN_TRY(qn_scan_rows(&in[0], "x", &n_tokens, &s.n, err));
    QN_TRY(qn_scan_starts(&in[6], n_tokens, &n_seqs, err));
    QN_TRY(qn_scan_fits(&in[1], "dt", in[0].n, err));
    s.m = in[3].rank == 2 ? (uint64_t)in[3].dims[1] : 0;
    QN_TRY(qn_scan_fits(&in[3], "B", n_tokens * s.m, err));
    QN_TRY(qn_scan_fits(&in[4], "C", n_tokens * s.m, err));
    if (in[2].rank != 2 || (uint64_t)in[2].dims[0] != s.n || (uint64_t)in[2].dims[1] != s.m || in[2].dtype != QN_F32) {
        char text[2][128];
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "A_log is %s, B is %s", qn_array_text(&in[2], text[0]), qn_array_text(&in[3], text[1]));
    }
    QN_TRY(qn_scan_fits(&in[5], "D", s.n, err));
    s.n_runs = qn_ceil_div(s.n, RUN);
    qn_array a, h = {0};
    const int64_t a_dims[2] = {(int64_t)s.m, (int64_t)(s.n_runs * RUN)};
    const int64_t h_dims[3] = {qn_exec_env(x)->n_threads, (int64_t)s.m, RUN};
    QN_TRY(qn_exec_new(x, &a, QN_F32, a_dims, 2, err));
    qn_code rc = qn_exec_new(x, &h, QN_F32, h_dims, 3, err);
    if (rc == QN_OK)
        rc = qn_exec_new(x, out, QN_F32, in[0].dims, 2, err);
    if (rc == QN_OK) {
        float *at = a.data;
        const float *log_a = in[2].data;
        memset(at, 0, qn_array_bytes(&a));
        for (uint64_t k = 0; k < s.n; k++)
            for (uint64_t j = 0; j < s.m; j++)
                at[j * s.n_runs * RUN + k] = -expf(log_a[k * s.m + j]);
        s.a = at;
        s.h = h.data;
        s.y = out->data;
        rc = qn_exec_parts(x, n_seqs * s.n_runs, in[0].n * (s.m + 4) * 4, scan_part, &s, err);
        if (rc != QN_OK)
            qn_array_release(out);
    }
    qn_array_release(&a);
    qn_array_release(&h);
    return rc;
}
