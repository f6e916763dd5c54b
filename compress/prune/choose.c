/* choose.c: which groups of one family go, in what order, and what that costs. */
#include "base/err.h"
#include "compress/prune/repair_impl.h"
#include <string.h>

#define RIDGE_FEW  1e-2  /* up to ROWS_FEW rows; falls to RIDGE_MANY at ROWS_MANY */
#define RIDGE_MANY 1e-3
enum { ROWS_FEW = 1024, ROWS_MANY = 8192 };

double qn_unit_delta(const qn_repair_options *o, uint64_t rows)
{
    if (o->ridge > 0)
        return o->ridge;
    if (rows <= ROWS_FEW)
        return RIDGE_FEW;
    if (rows >= ROWS_MANY)
        return RIDGE_MANY;
    /* 1e-2 · 1024 / rows would be 1.25e-3 at 8192: nearly the same, without a table */
    return RIDGE_FEW * ROWS_FEW / (double)rows;
}

struct choice {
    const qn_env *env;
    const qn_groups *s;
    qn_repair_plan *p;
    const qn_repair_options *o;
    const qn_overlay *w;
    uint32_t family, n_groups;
    qn_arena arena;            /* columns and flags: small */
    qn_obs_reader *readers;
    double **owned;            /* two matrices per reader */
    uint32_t n_readers;
    uint8_t *free;             /* per group */
};

/* Columns that take part: the family's own, and what else has not gone. */
static uint32_t live_columns(const qn_unit *u, const uint32_t *cols, uint32_t n_cols, uint32_t *live, uint32_t *place)
{
    const float *w = u->w[1] ? u->w[1] : u->w[0];
    uint32_t n = 0;
    for (uint32_t j = 0; j < u->d; j++)
        place[j] = 0;
    for (uint32_t i = 0; i < n_cols; i++)
        place[cols[i]] = 1;
    for (uint32_t j = 0; j < u->d; j++) {
        bool used = place[j] != 0;
        for (uint64_t r = 0; r < u->m && !used; r++)
            used = w[r * u->d + j] != 0;
        place[j] = n;
        if (used)
            live[n++] = j;
    }
    return n;
}

/* The best weights over all live columns, which removals start from: of the dense model alone its own. */
static qn_code start_weights(const qn_unit *u, const qn_ridge *ridge, double *h, double *w, double *energy, qn_err *err)
{
    const uint64_t n = ridge->n_cols;
    const double rows = (double)u->fit.n + (ridge->b ? (double)ridge->b->n : 0);
    if (u->fit.m) {
        double *t = qn_mem_get(u->fit.alloc, ((uint64_t)u->m + 1) * sizeof *t, err);
        if (!t)
            return QN_E_MEMORY;
        const qn_code rc = qn_ridge_solve(ridge, h, w, t, err);
        qn_mem_put(u->fit.alloc, t);
        QN_TRY(rc);
        qn_ridge_matrix(ridge, h);
        *energy = qn_moments_energy(&u->fit, ridge->b, ridge->centred) / rows;
        return QN_OK;
    }
    *energy = 0;
    for (uint64_t r = 0; r < u->m; r++) {
        double *row = w + r * n;
        for (uint64_t j = 0; j < n; j++)
            row[j] = (double)u->w[0][r * u->d + ridge->cols[j]];
        for (uint64_t j = 0; j < n; j++) {
            double sum = 0;
            for (uint64_t k = 0; k < n; k++)
                sum += row[k] * h[j * n + k];
            *energy += row[j] * sum;
        }
    }
    return QN_OK;
}

static qn_code add_reader(struct choice *c, const qn_unit_link *l, qn_err *err)
{
    const qn_unit *u = &c->p->units[l->unit];
    const qn_alloc *a = c->env->alloc;
    const qn_moments *hold = u->hold.g ? &u->hold : NULL;
    uint32_t *start, *cols;
    if (!u->fit.g || !u->fit.n || !qn_moments_finite(&u->fit))
        return QN_OK;
    uint8_t *dead = qn_arena_get(&c->arena, u->d, 8, err);
    uint32_t *live = dead ? qn_arena_get(&c->arena, u->d * sizeof *live, 8, err) : NULL;
    uint32_t *place = live ? qn_arena_get(&c->arena, u->d * sizeof *place, 8, err) : NULL;
    if (!place)
        return QN_E_MEMORY;
    QN_TRY(qn_unit_columns(c->s, u, l, &c->arena, &start, &cols, err));
    const uint64_t rows = u->fit.n + (hold ? hold->n : 0);
    qn_ridge r = {.a = &u->fit, .b = hold, .centred = qn_unit_centred(u), .cols = live, .old = u->w[1] ? u->w[1] : u->w[0]};
    r.lambda = qn_ridge_lambda(&u->fit, hold, r.centred, qn_unit_delta(c->o, rows), dead);
    for (uint32_t g = 0; g < c->n_groups; g++)
        for (uint32_t k = start[g]; k < start[g + 1]; k++)
            c->free[g] = c->free[g] && dead[cols[k]];
    if (!(r.lambda > 0))
        return QN_OK; /* nothing ever comes in: all are free here */
    const uint32_t n = r.n_cols = live_columns(u, cols, start[c->n_groups], live, place);
    double *h = c->owned[2 * c->n_readers] = qn_mem_get(a, ((uint64_t)n * n + 1) * sizeof *h, err);
    double *w = c->owned[2 * c->n_readers + 1] = h ? qn_mem_get(a, ((uint64_t)n * u->m + 1) * sizeof *w, err) : NULL;
    double energy = 0;
    c->n_readers++;
    if (!w)
        return QN_E_MEMORY;
    qn_ridge_matrix(&r, h);
    QN_TRY(start_weights(u, &r, h, w, &energy, err));
    for (uint32_t i = 0; i < start[c->n_groups]; i++)
        cols[i] = place[cols[i]];
    c->readers[c->n_readers - 1] =
        (qn_obs_reader){.d = n, .m = u->m, .h = h, .w = w, .weight = energy > 0 ? 1 / energy : 0, .start = start, .cols = cols};
    return QN_OK;
}

/* Lowest scores first, those of `gone` before all others, equal ones by number. Few thousand groups: a plain heap would only be longer. */
static void sort_groups(const double *score, const uint8_t *gone, uint32_t n, uint32_t *all, uint32_t *room)
{
    for (uint32_t i = 0; i < n; i++)
        all[i] = i;
    for (uint32_t width = 1; width < n; width *= 2) { /* merges keep the order of equals */
        for (uint32_t lo = 0; lo < n; lo += 2 * width) {
            const uint32_t mid = lo + width < n ? lo + width : n, hi = lo + 2 * width < n ? lo + 2 * width : n;
            for (uint32_t i = lo, j = mid, k = lo; k < hi; k++) {
                bool left = j >= hi;
                if (i < mid && j < hi) {
                    const bool gi = gone && gone[all[i]], gj = gone && gone[all[j]];
                    left = gi != gj ? gi : score[all[i]] <= score[all[j]];
                }
                room[k] = left ? all[i++] : all[j++];
            }
        }
        memcpy(all, room, n * sizeof *all);
    }
}

static qn_code by_score(struct choice *c, const uint8_t *gone, uint32_t n_remove, uint32_t *order, double *error, qn_err *err)
{
    const uint32_t n = c->n_groups;
    double *score = qn_arena_get(&c->arena, ((uint64_t)n + 1) * sizeof *score, 8, err);
    uint32_t *all = score ? qn_arena_get(&c->arena, 2 * ((uint64_t)n + 1) * sizeof *all, 8, err) : NULL;
    if (!all)
        return QN_E_MEMORY;
    QN_TRY(qn_saliency_score(c->env, c->s, c->p, c->o, c->w, c->family, score, err));
    sort_groups(score, gone, n, all, all + n + 1);
    double sum = 0, total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += score[i];
    for (uint32_t i = 0; i < n_remove; i++) {
        order[i] = all[i];
        sum += score[all[i]];
        error[i] = total > 0 ? sum / total : 0;
    }
    return QN_OK;
}

static qn_code choose(struct choice *c, const uint8_t *gone, uint32_t n_remove, bool costs, uint32_t *order, double *error, qn_err *err)
{
    const bool obs = c->o->saliency == QN_SALIENCY_OBS;
    const uint32_t n_links = c->p ? c->p->first_link[c->family + 1] - c->p->first_link[c->family] : 0;
    c->free = qn_arena_get(&c->arena, (uint64_t)c->n_groups + 1, 8, err);
    c->readers = c->free ? qn_arena_get(&c->arena, ((uint64_t)n_links + 1) * sizeof *c->readers, 8, err) : NULL;
    c->owned = c->readers ? qn_arena_get(&c->arena, 2 * ((uint64_t)n_links + 1) * sizeof *c->owned, 8, err) : NULL;
    if (!c->owned)
        return QN_E_MEMORY;
    memset(c->owned, 0, 2 * ((uint64_t)n_links + 1) * sizeof *c->owned);
    memset(c->free, n_links > 0, c->n_groups);
    for (uint32_t l = 0; l < n_links && (obs || costs); l++)
        QN_TRY(add_reader(c, &c->p->links[c->p->first_link[c->family] + l], err));
    if (!obs || !c->n_readers)
        QN_TRY(by_score(c, gone, n_remove, order, error, err));
    if (!c->n_readers)
        return QN_OK;
    qn_obs_job job = {.env = c->env, .readers = c->readers, .n_readers = c->n_readers, .n_groups = c->n_groups, .first = gone, .free = c->free,
                      .n_remove = n_remove};
    uint32_t *forced = NULL;
    if (!obs) {
        forced = qn_arena_get(&c->arena, ((uint64_t)n_remove + 1) * sizeof *forced, 8, err);
        if (!forced)
            return QN_E_MEMORY;
        memcpy(forced, order, n_remove * sizeof *forced);
        job.forced = forced;
    }
    return qn_obs_run(&job, order, error, err);
}

qn_code qn_choose(const qn_env *env, const qn_groups *s, qn_repair_plan *p, const qn_repair_options *o, const qn_overlay *w, uint32_t family,
                  const uint8_t *gone, uint32_t n_remove, bool costs, uint32_t *order, double *error, qn_err *err)
{
    struct choice c = {.env = env, .s = s, .p = p, .o = o, .w = w, .family = family, .n_groups = s->families[family].n_groups};
    qn_arena_init(&c.arena, env->alloc);
    const qn_code rc = choose(&c, gone, n_remove, costs, order, error, err);
    for (uint32_t i = 0; i < 2 * c.n_readers; i++)
        qn_mem_put(env->alloc, c.owned[i]);
    qn_arena_release(&c.arena);
    return rc;
}
