/* recover_score.c: what a group is worth, and which go next.
 *
 * Scored is what the loss would rise by if the group went: a second-order estimate along the direction in which its entries x shrink to 0,
 *     s = ½ xᵀ F x − xᵀ ∇L,   F the Fisher information: the mean of (x · ∇ ln q(c))² over rows and classes c that the model itself draws.
 * Near the dense model the gradient of a distillation loss is 0, so that criteria made of it (the five of HESSO, the Taylor score) see nothing there: the
 * curvature is all there is (LeCun, Denker and Solla 1989; Theis et al. 2018; Molchanov et al. 2019). It is in the loss's unit, so that families can be compared. */
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/recover_impl.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROBES = 96, PROBE_ROWS = 8 };

static qn_code add_square(void *ctx, qn_train_view *v, qn_err *err)
{
    (void)err;
    qn_recover_run *r = ctx;
    qn_slices_dot(&r->slices, v->w, v->g, r->xd);
    for (uint32_t g = 0; g < r->slices.n; g++)
        r->score[g] += r->xd[g] * r->xd[g];
    return QN_OK;
}

qn_code qn_recover_score(qn_recover_run *r, qn_train_view *v, qn_err *err)
{
    uint64_t rows = 0;
    memset(r->score, 0, r->slices.n * sizeof *r->score);
    QN_TRY(qn_train_probe(v, PROBES, PROBE_ROWS, add_square, r, &rows, err));
    for (uint32_t g = 0; g < r->slices.n; g++)
        r->score[g] *= 0.5 / (double)qn_max_u64(1, rows);
    return QN_OK;
}

/* --- choosing ---------------------------------------------------------------------------------------------------------- */

struct ranked {
    double score;
    uint32_t group;
};

static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return (x->group > y->group) - (x->group < y->group);
}

/* Groups that are still there, the cheapest a unit of cost first → r->order. */
static qn_code rank(qn_recover_run *r, uint32_t *n, qn_err *err)
{
    const qn_groups *s = r->cut->groups;
    struct ranked *all = qn_mem_get(r->env->alloc, ((uint64_t)r->slices.n + 1) * sizeof *all, err);
    if (!all)
        return QN_E_MEMORY;
    *n = 0;
    for (uint32_t g = 0; g < r->slices.n; g++) {
        const qn_family *f = &s->families[r->family_of[g]];
        const double cost = r->o->groups_share > 0 ? 1 : r->o->params_share > 0 ? (double)f->params_each : r->o->macs_share > 0 ? f->macs_each : 1;
        if (r->state[g] != 1)
            all[(*n)++] = (struct ranked){.score = r->score[g] / fmax(cost, 1), .group = g};
    }
    qsort(all, *n, sizeof *all, by_score);
    for (uint32_t i = 0; i < *n; i++)
        r->order[i] = all[i].group;
    qn_mem_put(r->env->alloc, all);
    return QN_OK;
}

static uint32_t least(const qn_recover_run *r, uint32_t f)
{
    const uint32_t n = r->cut->groups->families[f].n_groups;
    return r->o->keep ? (uint32_t)qn_min_u64(n, r->o->keep[f]) : 1;
}

/* The first k of the order that the families' least allows, beside what is gone, into a cut of its own. */
static void take(const qn_recover_run *r, uint32_t n, uint32_t k, qn_cut *c)
{
    qn_cut_copy(c, r->cut);
    for (uint32_t i = 0, taken = 0; i < n && taken < k; i++) {
        const uint32_t g = r->order[i], f = r->family_of[g];
        if (c->groups->families[f].n_groups - c->n_gone[f] <= least(r, f))
            continue;
        qn_cut_set(c, f, g - r->slices.first[f], true);
        taken++;
    }
}

/* Has `part` of the share gone? */
static qn_code enough(const qn_recover_run *r, const qn_cut *c, double part, bool *yes, qn_err *err)
{
    const qn_recover_options *o = r->o;
    qn_cost cost;
    if (o->groups_share > 0) {
        uint64_t gone = 0;
        for (uint32_t f = 0; f < c->groups->n_families; f++)
            gone += c->n_gone[f];
        *yes = (double)gone + 1e-6 >= floor(part * o->groups_share * (double)r->slices.n);
        return QN_OK;
    }
    QN_TRY(qn_cut_cost(c, &cost, err));
    if (o->params_share > 0)
        *yes = (double)cost.params <= (double)r->dense.params * (1 - part * o->params_share);
    else
        *yes = cost.macs <= r->dense.macs * (1 - part * o->macs_share);
    return QN_OK;
}

/* The fewest that are enough: costs fall with every group that goes. */
static qn_code take_enough(const qn_recover_run *r, uint32_t n, double part, qn_cut *c, qn_err *err)
{
    uint32_t low = 0, high = n;
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        bool yes;
        take(r, n, mid, c);
        QN_TRY(enough(r, c, part, &yes, err));
        if (yes)
            high = mid;
        else
            low = mid + 1;
    }
    take(r, n, low, c);
    return QN_OK;
}

/* As many of every family as its own budget says. */
static void take_each(const qn_recover_run *r, uint32_t n, double part, qn_cut *c)
{
    qn_cut_copy(c, r->cut);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t g = r->order[i], f = r->family_of[g], all = c->groups->families[f].n_groups;
        const uint32_t go = (uint32_t)lround(part * (double)(all - least(r, f)));
        if (c->n_gone[f] < go)
            qn_cut_set(c, f, g - r->slices.first[f], true);
    }
}

/* Lets the dearest of those that were taken stay until every family keeps a multiple. */
static void round_up(const qn_recover_run *r, uint32_t n, qn_cut *c)
{
    const uint32_t multiple = r->o->multiple;
    for (uint32_t i = n; multiple > 1 && i-- > 0;) {
        const uint32_t g = r->order[i], f = r->family_of[g], at = g - r->slices.first[f], all = c->groups->families[f].n_groups;
        if (all >= multiple && (all - c->n_gone[f]) % multiple && c->gone[f][at] && !r->cut->gone[f][at])
            qn_cut_set(c, f, at, false);
    }
}

qn_code qn_recover_choose(qn_recover_run *r, double part, bool last, qn_err *err)
{
    const qn_recover_options *o = r->o;
    const bool shares = o->groups_share > 0 || o->params_share > 0 || o->macs_share > 0;
    uint32_t n;
    qn_cut *c;
    QN_TRY(rank(r, &n, err));
    QN_TRY(qn_cut_new(r->env, r->cut->groups, &c, err));
    qn_code rc = QN_OK;
    if (shares)
        rc = take_enough(r, n, part, c, err);
    else
        take_each(r, n, part, c);
    if (rc == QN_OK && last && shares)
        round_up(r, n, c);
    for (uint32_t g = 0; g < r->slices.n && rc == QN_OK; g++) {
        const uint32_t f = r->family_of[g];
        if (r->state[g] != 1)
            r->state[g] = c->gone[f][g - r->slices.first[f]] ? 2 : 0;
    }
    qn_cut_free(c);
    return rc;
}

qn_code qn_recover_reached(const qn_recover_run *r, bool *yes, qn_err *err)
{
    const qn_recover_options *o = r->o;
    *yes = true;
    if (o->groups_share > 0 || o->params_share > 0 || o->macs_share > 0)
        return enough(r, r->cut, 1, yes, err);
    return QN_OK;
}
