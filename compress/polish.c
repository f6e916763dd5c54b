/* polish.c: sweeps over a segment that has been quantized: coordinate descent on tr(E H' Eᵀ), a column at a time.
 *
 * With all other columns as they are, the loss as a function of column j is H'_jj |t_j − ŵ_j|² + a constant, where
 *     t_j = ŵ_j + (E H')_j / H'_jj,
 * so a column is quantized again to the target t_j: error feedback looks ahead only, this looks both ways (the V step of
 * PV-Tuning, Malinovskii et al. 2024, for one layer; QuIP#, Tseng et al. 2024). G = E H' is kept by columns like everything
 * else and brought up to date by one product for each block of columns.
 *
 * Quantizers that trade bits for error may give a column more loss and fewer bits, so a sweep is judged as a whole, by
 * ½ log2(loss) + bits per weight: at a fixed rate a bit is a factor of four in the loss. */
#include "base/err.h"
#include "base/num.h"
#include "compress/feedback_impl.h"
#include <cblas.h>
#include <math.h>
#include <string.h>

struct sweep {
    qn_feedback_walk *k;
    const float *h;  /* (n, n) by visit                              */
    float *g;        /* (n, rows): E H'                              */
    float *delta;    /* (block, rows): how far its columns moved     */
    float *t, *best; /* (rows) targets, or (block, rows) gradients; (n, rows) the best so far */
    uint32_t block;
    bool groups;
};

static void gradient(const struct sweep *s)
{
    const qn_feedback_walk *k = s->k;
    for (size_t i = 0; i < (size_t)k->n * k->rows; i++)
        k->t[i] = k->w[i] - k->r[i];
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)k->n, (blasint)k->rows, (blasint)k->n, 1, s->h, (blasint)k->n,
                k->t, (blasint)k->rows, 0, s->g, (blasint)k->rows);
}

/* Column of visit v, v0 … v − 1 of its block have moved by delta, which g does not know yet. */
static qn_code one_column(const struct sweep *s, uint32_t v0, uint32_t v, qn_err *err)
{
    qn_feedback_walk *k = s->k;
    const qn_ldl *l = k->j->ldl;
    const uint32_t j = l->visit[v], m = k->rows;
    const float own = s->h[(size_t)v * k->n + v];
    float *r = k->r + (size_t)v * m, *d = s->delta + (size_t)(v - v0) * m;
    memcpy(s->t, s->g + (size_t)v * m, m * sizeof *s->t);
    memset(d, 0, m * sizeof *d);
    if (!(l->weight[j] > 0 && own > 0)) /* never seen: nothing is known that would be better */
        return QN_OK;
    for (uint32_t a = v0; a < v; a++) {
        const float c = s->h[(size_t)v * k->n + a], *x = s->delta + (size_t)(a - v0) * m;
        for (uint32_t i = 0; i < m; i++)
            s->t[i] -= c * x[i];
    }
    const float inverse = 1 / own;
    for (uint32_t i = 0; i < m; i++) {
        s->t[i] = r[i] + s->t[i] * inverse;
        d[i] = r[i];
    }
    QN_TRY(k->j->q->again(k->state, j, l->weight[j] / (double)own, s->t, r, err));
    qn_feedback_round(k->j->layer->dtype, r, m);
    for (uint32_t i = 0; i < m; i++)
        d[i] = r[i] - d[i];
    return QN_OK;
}

/* Group g, whole inside the block that begins at v0. */
static qn_code one_group(const struct sweep *s, uint32_t v0, uint32_t g, qn_err *err)
{
    qn_feedback_walk *k = s->k;
    const qn_ldl *l = k->j->ldl;
    const uint32_t v = l->begins[g], n = l->begins[g + 1] - v;
    const size_t m = k->rows, from = v * m;
    float *r = k->r + from, *d = s->delta + (v - v0) * m;
    memcpy(s->t, s->g + from, n * m * sizeof *s->t);
    if (v > v0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)n, (blasint)m, (blasint)(v - v0), -1,
                    s->h + (size_t)v * k->n + v0, (blasint)k->n, s->delta, (blasint)m, 1, s->t, (blasint)m);
    memcpy(d, r, n * m * sizeof *d);
    QN_TRY(k->j->q->group_again(k->state, l->visit + v, n, s->h + (size_t)v * k->n + v, k->n, s->t, r, m, err));
    qn_feedback_round(k->j->layer->dtype, r, n * m);
    for (size_t i = 0; i < n * m; i++)
        d[i] = r[i] - d[i];
    return QN_OK;
}

static void spread(const struct sweep *s, uint32_t v0, uint32_t v1)
{
    const qn_feedback_walk *k = s->k;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)k->n, (blasint)k->rows, (blasint)(v1 - v0), -1, s->h + v0,
                (blasint)k->n, s->delta, (blasint)k->rows, 1, s->g, (blasint)k->rows);
}

static qn_code by_columns(const struct sweep *s, qn_err *err)
{
    const uint32_t n = s->k->n;
    for (uint32_t v0 = 0; v0 < n; v0 += s->block) {
        const uint32_t v1 = n - v0 < s->block ? n : v0 + s->block;
        for (uint32_t v = v0; v < v1; v++)
            QN_TRY(one_column(s, v0, v, err));
        spread(s, v0, v1);
    }
    return QN_OK;
}

static qn_code by_groups(const struct sweep *s, qn_err *err)
{
    const qn_ldl *l = s->k->j->ldl;
    for (uint32_t g = 0; g < l->n_groups;) {
        const uint32_t v0 = l->begins[g];
        for (; g < l->n_groups && l->begins[g + 1] - v0 <= s->block; g++)
            QN_TRY(one_group(s, v0, g, err));
        spread(s, v0, l->begins[g]);
    }
    return QN_OK;
}

static double score(const qn_feedback_walk *k, double loss, size_t n_bytes)
{
    return 0.5 * log2(loss) + 8.0 * (double)n_bytes / ((double)k->n * k->rows);
}

static qn_code sweeps(struct sweep *s, uint8_t *payload, uint8_t *room, size_t cap, size_t *n_out, double *loss, qn_arena *scratch,
                      qn_err *err)
{
    qn_feedback_walk *k = s->k;
    const size_t bytes = (size_t)k->n * k->rows * sizeof *k->r;
    gradient(s);
    memcpy(s->best, k->r, bytes);
    for (uint32_t i = 0; i < k->j->sweeps && *loss > 0; i++) {
        const qn_arena_mark mark = qn_arena_tell(scratch);
        double now;
        size_t n_now = 0;
        QN_TRY(s->groups ? by_groups(s, err) : by_columns(s, err));
        k->way = QN_FEEDBACK_GIVEN;
        QN_TRY(qn_feedback_run(k, &now, err));
        QN_TRY(k->j->q->ops->finish(k->state, room, cap, &n_now, err));
        qn_arena_rewind(scratch, mark);
        if (!n_now || !isfinite(now) || !(score(k, now, n_now) < score(k, *loss, *n_out)))
            break;
        memcpy(payload, room, n_now);
        memcpy(s->best, k->r, bytes);
        *n_out = n_now;
        *loss = now;
    }
    memcpy(k->r, s->best, bytes);
    return QN_OK;
}

static bool groups_fit(const qn_feedback_walk *k, uint32_t block)
{
    const qn_ldl *l = k->j->ldl;
    for (uint32_t g = 0; g < l->n_groups; g++)
        if (l->begins[g + 1] - l->begins[g] > block)
            return false;
    return k->j->q->group_again != NULL;
}

qn_code qn_feedback_polish(qn_feedback_walk *k, uint8_t *payload, size_t cap, size_t *n_out, double *loss, qn_arena *scratch,
                           qn_err *err)
{
    const uint64_t column = (uint64_t)k->rows * sizeof(float);
    const uint32_t block = k->j->block ? k->j->block : QN_FEEDBACK_BLOCK;
    struct sweep s = {.k = k, .h = k->j->ldl->moment, .block = block < k->n ? block : k->n, .groups = groups_fit(k, block)};
    if (!s.h || !k->j->q->again || !*n_out)
        return QN_OK;
    s.g = qn_arena_get(scratch, k->n * column, 64, err);
    s.best = s.g ? qn_arena_get(scratch, k->n * column, 64, err) : NULL;
    s.delta = s.best ? qn_arena_get(scratch, s.block * column, 64, err) : NULL;
    s.t = s.delta ? qn_arena_get(scratch, s.block * column, 64, err) : NULL;
    uint8_t *room = s.t ? qn_arena_get(scratch, cap, 64, err) : NULL;
    return room ? sweeps(&s, payload, room, cap, n_out, loss, scratch, err) : QN_E_MEMORY;
}
