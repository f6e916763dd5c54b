/* allocate_table.c: the levels that lose least by the sensitivity table (SPDY, Frantar and Alistarh 2022: a knapsack over families × levels), and what is done about
 * the two things that the table does not know: costs are not additive, so the knapsack's target is raised until the cut as a whole
 * meets the budget; losses are not either, so the candidates are repaired as wholes and measured, one share for all among them. */
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/allocate_impl.h"
#include "compress/prune/knapsack.h"
#include <math.h>
#include <string.h>

enum { RAISES = 12, NARROWS = 6 };
#define STEEPER 2.0 /* slope beyond the last level, over that before it */

struct choice {
    qn_table *t;
    qn_knapsack_item *items;
    uint32_t *steps;
    uint8_t *levels, *best;
    double best_loss;  /* by the table; +∞: none meets the budget */
};

/* What each level saves when it is the only cut. */
static qn_code fill_items(struct choice *c, qn_err *err)
{
    qn_allocator *a = c->t->a;
    memset(c->levels, 0, a->n_units);
    for (uint32_t u = 0; u < a->n_units; u++) {
        qn_knapsack_item *it = &c->items[u];
        memset(it, 0, sizeof *it);
        it->n_levels = c->t->n_levels[u];
        for (uint32_t l = 1; l < it->n_levels; l++) {
            double cost;
            c->levels[u] = (uint8_t)l;
            QN_TRY(qn_levels_cost(c->t, c->levels, c->steps, &cost, err));
            it->loss[l] = c->t->levels[(uint64_t)u * QN_LEVELS_MAX + l].loss;
            it->saving[l] = fmax(0, a->dense - cost);
        }
        c->levels[u] = 0;
    }
    return QN_OK;
}

static qn_code solve(struct choice *c, double target, double *saved, bool *possible, qn_err *err)
{
    qn_allocator *a = c->t->a;
    double cost, loss = 0;
    QN_TRY(qn_knapsack(a->env->alloc, c->items, a->n_units, target, c->levels, possible, err));
    QN_TRY(qn_levels_cost(c->t, c->levels, c->steps, &cost, err));
    for (uint32_t u = 0; u < a->n_units; u++)
        loss += c->items[u].loss[c->levels[u]];
    if ((cost <= a->limit && loss < c->best_loss) || !*possible) {
        memcpy(c->best, c->levels, a->n_units);
        c->best_loss = cost <= a->limit ? loss : c->best_loss;
    }
    *saved = a->dense - cost;
    return QN_OK;
}

/* The smallest target of the knapsack at which the real cost meets the budget. */
static qn_code choose(struct choice *c, qn_err *err)
{
    qn_allocator *a = c->t->a;
    const double want = a->dense - a->limit;
    double lo = want, hi = 0, target = want, saved;
    bool possible = true;
    c->best_loss = (double)INFINITY;
    for (unsigned i = 0; i < RAISES && hi <= 0; i++) {
        QN_TRY(solve(c, target, &saved, &possible, err));
        if (!possible && isinf(c->best_loss))
            return QN_OK; /* best has the largest savings: the rest is up to single steps */
        if (saved >= want || !possible)
            hi = target;
        else {
            lo = target;
            target *= fmin(1.5, fmax(1.002, want / fmax(saved, want / 4)));
        }
    }
    for (unsigned i = 0; i < NARROWS && hi > lo; i++) {
        const double mid = (lo + hi) / 2;
        QN_TRY(solve(c, mid, &saved, &possible, err));
        if (saved >= want)
            hi = mid;
        else
            lo = mid;
    }
    if (isinf(c->best_loss)) /* none was found: the last one is near */
        memcpy(c->best, c->levels, a->n_units);
    return QN_OK;
}

/* Losses of all steps: straight lines between the levels that were measured. */
static void interpolate(const qn_table *t, double **loss)
{
    for (uint32_t u = 0; u < t->a->n_units; u++) {
        const qn_alloc_unit *x = &t->a->units[u];
        const qn_cut_level *l = &t->levels[(uint64_t)u * QN_LEVELS_MAX];
        for (uint32_t i = 1, k = 1; i < x->n_steps && t->n_levels[u] > 1; i++) {
            while (k + 1 < t->n_levels[u] && l[k].step < i)
                k++;
            const double at = (double)x->keep[l[k - 1].step] - x->keep[i], of = (double)x->keep[l[k - 1].step] - x->keep[l[k].step];
            const double rise = l[k].loss - l[k - 1].loss;
            loss[u][i] = i <= l[k].step ? l[k - 1].loss + rise * at / of : l[k].loss + STEEPER * fabs(rise) * (at / of - 1);
        }
    }
}

static qn_code to_steps(const qn_table *t, const uint8_t *levels, double *const *loss, uint32_t *at, qn_err *err)
{
    for (uint32_t u = 0; u < t->a->n_units; u++)
        at[u] = t->levels[(uint64_t)u * QN_LEVELS_MAX + levels[u]].step;
    return qn_allocator_descend(t->a, loss, at, err);
}

static qn_code judge(qn_allocator *a, const uint32_t *at, double *loss, qn_err *err)
{
    qn_cut *cut = NULL;
    qn_overlay *w = NULL;
    QN_TRY(qn_cut_new(a->env, a->groups, &cut, err));
    qn_code rc = qn_overlay_new(a->env, a->graph, &w, err);
    if (rc == QN_OK)
        rc = qn_allocator_try(a, at, cut, w, loss, err);
    qn_overlay_free(w);
    qn_cut_free(cut);
    return rc;
}

/* Of those that meet the budget, or all that do not, the one that loses least. */
static qn_code better(qn_allocator *a, const uint32_t *other, uint32_t *at, double *loss, qn_err *err)
{
    double l, ours, theirs;
    if (memcmp(at, other, a->n_units * sizeof *at) == 0)
        return QN_OK;
    QN_TRY(qn_allocator_cost(a, at, &ours, err));
    QN_TRY(qn_allocator_cost(a, other, &theirs, err));
    if (ours <= a->limit && theirs > a->limit)
        return QN_OK;
    QN_TRY(judge(a, other, &l, err));
    if (l < *loss || (ours > a->limit && theirs <= a->limit)) {
        memcpy(at, other, a->n_units * sizeof *at);
        *loss = l;
    }
    return QN_OK;
}

static qn_code with_table(qn_table *t, struct choice *c, const uint32_t *uniform, uint32_t *at, double *result, qn_err *err)
{
    qn_allocator *a = t->a;
    double **loss, fitness[2];
    uint32_t *other = qn_arena_get(&a->arena, (a->n_units + 1ull) * sizeof *other, 4, err);
    if (!other)
        return QN_E_MEMORY;
    QN_TRY(fill_items(c, err));
    QN_TRY(choose(c, err));
    QN_TRY(qn_allocator_losses(a, &loss, err));
    interpolate(t, loss);
    QN_TRY(to_steps(t, c->best, loss, at, err));
    QN_TRY(judge(a, at, result, err));
    QN_TRY(better(a, uniform, at, result, err));
    if (!t->keeps_pieces || isinf(c->best_loss))
        return QN_OK;
    QN_TRY(qn_allocate_evolve(t, c->best, fitness, err));
    QN_TRY(to_steps(t, c->best, loss, other, err));
    return better(a, other, at, result, err);
}

qn_code qn_allocate_table(qn_allocator *a, uint32_t *at, double *loss, qn_err *err)
{
    qn_table t = {0};
    struct choice c = {.t = &t};
    double share = 0;
    const uint64_t n = a->n_units + 1ull;
    uint32_t *uniform = qn_arena_get(&a->arena, 2 * n * sizeof *uniform, 4, err);
    c.items = uniform ? qn_arena_get(&a->arena, n * sizeof *c.items, 8, err) : NULL;
    c.levels = c.items ? qn_arena_get(&a->arena, 2 * n, 1, err) : NULL;
    if (!c.levels)
        return QN_E_MEMORY;
    c.steps = uniform + n;
    c.best = c.levels + n;
    memset(c.best, 0, n);
    QN_TRY(qn_allocate_uniform(a, uniform, err));
    for (uint32_t u = 0; u < a->n_units; u++)
        share = fmax(share, 1 - (double)a->units[u].keep[uniform[u]] / a->units[u].n);
    qn_code rc = qn_levels_make(&t, a, share, a->o->method == QN_ALLOCATE_EVOLVE, err);
    if (rc == QN_OK)
        rc = with_table(&t, &c, uniform, at, loss, err);
    qn_levels_release(&t);
    return rc;
}
