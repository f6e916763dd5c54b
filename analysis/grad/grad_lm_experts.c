/* grad_lm_experts.c: derivative of Experts. Which experts are chosen is taken as given; what flows back to the router goes through the chosen
 * probabilities. With G = x Wgᵀ, U = x Wuᵀ, H = f(G) · U, M = H Wdᵀ of an expert's tokens and p their shares:
 *     dp = dy · M;  dM = p dy;  dWd = dMᵀ H;  dH = dM Wd;  dG = f'(G) · U · dH;  dU = f(G) · dH;  dx += dG Wg + dU Wu
 * and for the logits l, with p_k = e^{l_k} / Z, Z over the chosen (norm 1) or over all (norm 0): dl_e = [e chosen] p_e dp_e − (e^{l_e} / Z) Σ p_k dp_k. */
#include "analysis/exec/lm_parts.h"
#include "analysis/grad/backs.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

struct back {
    qn_lm_moe m;
    qn_exec *x;
    const qn_node *n;
    const qn_array *in;
    qn_array *d_in;
    const float *xs, *dy;
    float *dx, *d_share, *d_logits; /* d_share: (rows, top_k)      */
    qn_array chosen, share, dp, place, rows, gate, up, h, made, dm, dh, dg, du, dr, weight;
    uint64_t n_rows, ld;            /* of the expert; ld: of gate and up and their derivatives */
};

static void rows_logits(const void *ctx, uint64_t first, uint64_t n)
{
    const struct back *b = ctx;
    const qn_lm_moe *m = &b->m;
    for (uint64_t r = first; r < first + n; r++) {
        const float *l = m->logits + r * m->n, *dp = b->d_share + r * m->top_k, *p = m->share + r * m->top_k;
        const int64_t *chosen = m->chosen + r * m->top_k;
        float *dl = b->d_logits + r * m->n;
        double sum = 0, most = (double)l[0], all = 0;
        for (uint64_t k = 0; k < m->top_k; k++)
            sum += (double)p[k] * (double)dp[k];
        memset(dl, 0, m->n * sizeof *dl);
        if (!m->norm) {
            for (uint64_t e = 1; e < m->n; e++)
                most = fmax(most, (double)l[e]);
            for (uint64_t e = 0; e < m->n; e++)
                all += exp((double)l[e] - most);
            for (uint64_t e = 0; e < m->n; e++)
                dl[e] = (float)(-exp((double)l[e] - most) / all * sum);
        }
        for (uint64_t k = 0; k < m->top_k; k++)
            dl[chosen[k]] += (float)((double)p[k] * ((double)dp[k] - (m->norm ? sum : 0)));
    }
}

static void rows_gather(const void *ctx, uint64_t first, uint64_t n)
{
    const struct back *b = ctx;
    const uint64_t cols = b->m.cols;
    const int64_t *place = b->place.data;
    for (uint64_t i = first; i < first + n; i++) {
        const uint64_t token = (uint64_t)place[i] / b->m.top_k;
        memcpy((float *)b->rows.data + i * cols, b->xs + token * cols, cols * sizeof(float));
    }
}

static void rows_inside(const void *ctx, uint64_t first, uint64_t n)
{
    const struct back *b = ctx;
    const uint64_t ffn = b->m.ffn;
    for (uint64_t i = first; i < first + n; i++)
        b->m.act->gated((const float *)b->gate.data + i * b->ld, (const float *)b->up.data + i * b->ld, (float *)b->h.data + i * ffn, ffn);
}

/* dp and dM of the expert's tokens. */
static void rows_out(const void *ctx, uint64_t first, uint64_t n)
{
    const struct back *b = ctx;
    const uint64_t cols = b->m.cols;
    const int64_t *place = b->place.data;
    for (uint64_t i = first; i < first + n; i++) {
        const float *dy = b->dy + (uint64_t)place[i] / b->m.top_k * cols, *made = (const float *)b->made.data + i * cols, p = b->m.share[place[i]];
        float *dm = (float *)b->dm.data + i * cols;
        double sum = 0;
        for (uint64_t c = 0; c < cols; c++) {
            sum += (double)dy[c] * (double)made[c];
            dm[c] = p * dy[c];
        }
        b->d_share[place[i]] = (float)sum;
    }
}

static void rows_within(const void *ctx, uint64_t first, uint64_t n)
{
    const struct back *b = ctx;
    const uint64_t ffn = b->m.ffn;
    for (uint64_t i = first; i < first + n; i++) {
        const float *gate = (const float *)b->gate.data + i * b->ld, *up = (const float *)b->up.data + i * b->ld, *dh = (const float *)b->dh.data + i * ffn;
        float *dg = (float *)b->dg.data + i * b->ld, *du = (float *)b->du.data + i * b->ld;
        for (uint64_t k = 0; k < ffn; k++)
            dg[k] = up[k] * dh[k];
        b->m.act->back(gate, dg, dg, ffn);
        b->m.act->gated(gate, dh, du, ffn);
    }
}

/* Σ of the expert's parts of dx into the tokens' rows. */
static void rows_scatter(const void *ctx, uint64_t first, uint64_t n)
{
    const struct back *b = ctx;
    const uint64_t cols = b->m.cols;
    const int64_t *place = b->place.data;
    for (uint64_t i = first; i < first + n; i++) {
        const float *from = (const float *)b->dr.data + i * cols;
        float *to = b->dx + (uint64_t)place[i] / b->m.top_k * cols;
        for (uint64_t c = 0; c < cols; c++)
            to[c] += from[c];
    }
}

static qn_code weight(struct back *b, unsigned role, uint64_t e, const float **w, qn_err *err)
{
    return qn_lm_moe_weight(b->x, b->n, &b->m, b->in, role, e, &b->weight, w, err);
}

/* Where the derivative of an expert's weight goes, or NULL. */
static float *d_weight(const struct back *b, unsigned role, uint64_t e)
{
    const qn_array *d = &b->d_in[qn_lm_moe_input(&b->m, role, e)];
    if (d->dtype != QN_F32)
        return NULL;
    return (float *)d->data + (b->m.layout == QN_MOE_SEPARATE ? 0 : e * (d->n / b->m.n));
}

/* y (n_rows, out) of the expert's rows and the weight of a role. */
static qn_code times(struct back *b, unsigned role, uint64_t e, const float *rows, float *y, qn_err *err)
{
    const qn_lm_moe *m = &b->m;
    const uint64_t cols = role == 2 ? m->ffn : m->cols, out = role == 2 ? m->cols : b->ld;
    const float *w;
    QN_TRY(weight(b, role, e, &w, err));
    return qn_gemm(b->x, true, b->n_rows, out, cols, rows, cols, w, cols, 0, y, out, err);
}

/* From d (n_rows, out): derivative of the weight, and rows' part d_rows (n_rows, cols), which is beta times itself before. */
static qn_code back_times(struct back *b, unsigned role, uint64_t e, const float *rows, const float *d, float beta, float *d_rows, qn_err *err)
{
    const qn_lm_moe *m = &b->m;
    const uint64_t cols = role == 2 ? m->ffn : m->cols, out = role == 2 ? m->cols : b->ld;
    float *dw = d_weight(b, role, e);
    const float *w;
    if (dw)
        QN_TRY(qn_grad_gemm(b->x, true, false, out, cols, b->n_rows, 1, d, out, rows, cols, 0, dw, cols, err));
    if (!d_rows)
        return QN_OK;
    QN_TRY(weight(b, role, e, &w, err));
    return qn_gemm(b->x, false, b->n_rows, cols, out, d, out, w, cols, beta, d_rows, cols, err);
}

static qn_code back_expert(struct back *b, uint64_t e, qn_err *err)
{
    const qn_lm_moe *m = &b->m;
    b->n_rows = qn_lm_moe_places(m, e, b->place.data);
    if (!b->n_rows)
        return QN_OK;
    float *dr = b->dx ? b->dr.data : NULL;
    QN_TRY(qn_lm_each_row(b->x, b->n_rows, m->cols, rows_gather, b, err));
    QN_TRY(times(b, 0, e, b->rows.data, b->gate.data, err));
    if (m->layout != QN_MOE_FUSED)
        QN_TRY(times(b, 1, e, b->rows.data, b->up.data, err));
    QN_TRY(qn_lm_each_row(b->x, b->n_rows, 16 * m->ffn, rows_inside, b, err));
    QN_TRY(times(b, 2, e, b->h.data, b->made.data, err));
    QN_TRY(qn_lm_each_row(b->x, b->n_rows, 2 * m->cols, rows_out, b, err));
    QN_TRY(back_times(b, 2, e, b->h.data, b->dm.data, 0, b->dh.data, err));
    QN_TRY(qn_lm_each_row(b->x, b->n_rows, 32 * m->ffn, rows_within, b, err));
    QN_TRY(back_times(b, 0, e, b->rows.data, b->dg.data, 0, dr, err));
    if (m->layout != QN_MOE_FUSED)
        QN_TRY(back_times(b, 1, e, b->rows.data, b->du.data, 1, dr, err));
    return b->dx ? qn_lm_each_row(b->x, b->n_rows, m->cols, rows_scatter, b, err) : QN_OK;
}

static qn_code floats(struct back *b, qn_array *a, uint64_t rows, uint64_t cols, qn_err *err)
{
    const int64_t dims[2] = {(int64_t)rows, (int64_t)cols};
    return qn_exec_new(b->x, a, QN_F32, dims, 2, err);
}

/* Fused: gate and up, and their derivatives, lie side by side in a row. */
static qn_code halves(struct back *b, qn_array *first, qn_array *second, uint64_t rows, qn_err *err)
{
    QN_TRY(floats(b, first, rows, b->ld, err));
    if (b->m.layout != QN_MOE_FUSED)
        return floats(b, second, rows, b->ld, err);
    qn_array_share(first, second);
    second->data = (float *)first->data + b->m.ffn;
    return QN_OK;
}

static qn_code run(struct back *b, qn_err *err)
{
    qn_lm_moe *m = &b->m;
    QN_TRY(qn_lm_moe_route(b->x, m, &b->chosen, &b->share, err));
    const uint64_t most = qn_lm_moe_most(m);
    const int64_t list[1] = {(int64_t)most};
    m->ffn = m->ffn_most;
    b->ld = m->layout == QN_MOE_FUSED ? 2 * m->ffn : m->ffn;
    QN_TRY(qn_exec_new(b->x, &b->place, QN_I64, list, 1, err));
    QN_TRY(floats(b, &b->dp, m->rows, m->top_k, err));
    b->d_share = b->dp.data;
    qn_array *const wide[] = {&b->rows, &b->made, &b->dm, &b->dr};
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++)
        QN_TRY(floats(b, wide[i], most, m->cols, err));
    QN_TRY(floats(b, &b->h, most, m->ffn, err));
    QN_TRY(floats(b, &b->dh, most, m->ffn, err));
    QN_TRY(halves(b, &b->gate, &b->up, most, err));
    QN_TRY(halves(b, &b->dg, &b->du, most, err));
    for (uint64_t e = 0; e < m->n; e++) {
        m->ffn = qn_lm_moe_ffn(m, b->in, e);
        b->ld = m->layout == QN_MOE_FUSED ? 2 * m->ffn : m->ffn;
        QN_TRY(back_expert(b, e, err));
    }
    return b->d_logits ? qn_lm_each_row(b->x, m->rows, 20 * m->n, rows_logits, b, err) : QN_OK;
}

qn_code qn_back_lm_experts(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                           qn_array *d_in, qn_err *err)
{
    (void)out;
    struct back b = {.x = x, .n = n, .in = in, .d_in = d_in, .xs = in[0].data, .dy = d_out[0].data};
    QN_TRY(qn_lm_moe_get(n, in, &b.m, err));
    for (unsigned i = 0; i < n->n_in; i++)
        if (want[i])
            QN_TRY(qn_grad_like(x, &in[i], true, &d_in[i], err));
    b.dx = want[0] ? d_in[0].data : NULL;
    b.d_logits = want[1] ? d_in[1].data : NULL;
    const qn_code rc = run(&b, err);
    qn_array *const all[] = {&b.chosen, &b.share, &b.dp, &b.place, &b.rows, &b.gate, &b.up,     &b.h,
                             &b.made,   &b.dm,    &b.dh, &b.dg,    &b.du,   &b.dr,   &b.weight};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qn_array_release(all[i]);
    return rc;
}
