/* allocate.c: families as units with steps, what a choice costs, one share for all, and the last corrections that every method ends with. */
#include "base/err.h"
#include "compress/prune/allocate_impl.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MOST 0.9 /* of one family that may go, when nothing is said */

enum { CHUNKS = 32, GIVE_BACK_MAX = 64 };

/* --- units ---------------------------------------------------------------------------------------------------------- */

static bool same_class(const qn_allocate_options *o, uint32_t f, uint32_t k)
{
    return f == k || (o->class_of && o->class_of[f] != UINT32_MAX && o->class_of[f] == o->class_of[k]);
}

/* Which numbers may stay: all, and from there down to the least that every family allows. */
static qn_code make_steps(qn_allocator *a, qn_alloc_unit *u, qn_err *err)
{
    const qn_allocate_options *o = a->o;
    const double most = o->most > 0 ? fmin(o->most, 1) : MOST;
    const uint32_t multiple = o->multiple && u->n >= o->multiple ? o->multiple : 1;
    const uint32_t may_go = (uint32_t)(most * u->n + 1e-9);
    uint32_t least = u->n > may_go ? u->n - may_go : 1;
    for (uint32_t i = 0; o->least && i < u->n_families; i++)
        if (o->least[u->families[i]] > least)
            least = o->least[u->families[i]];
    uint32_t *keep = qn_arena_get(&a->arena, ((uint64_t)u->n + 1) * sizeof *keep, 4, err);
    if (!keep)
        return QN_E_MEMORY;
    keep[u->n_steps++] = u->n;
    for (uint32_t k = u->n; k-- > least;)
        if (k % multiple == 0 && k > 0)
            keep[u->n_steps++] = k;
    u->keep = keep;
    return QN_OK;
}

static qn_code make_units(qn_allocator *a, qn_err *err)
{
    const qn_groups *s = a->groups;
    a->units = qn_arena_get(&a->arena, ((uint64_t)s->n_families + 1) * sizeof *a->units, 8, err);
    a->at = a->units ? qn_arena_get(&a->arena, ((uint64_t)s->n_families + 1) * sizeof *a->at, 4, err) : NULL;
    uint32_t *members = a->at ? qn_arena_get(&a->arena, ((uint64_t)s->n_families + 1) * sizeof *members, 4, err) : NULL;
    if (!members)
        return QN_E_MEMORY;
    for (uint32_t f = 0; f < s->n_families; f++) {
        bool begun = false;
        for (uint32_t k = 0; k < f && !begun; k++)
            begun = same_class(a->o, f, k);
        if (begun)
            continue;
        qn_alloc_unit *u = &a->units[a->n_units];
        *u = (qn_alloc_unit){.families = members, .n = s->families[f].n_groups};
        for (uint32_t k = f; k < s->n_families; k++)
            if (same_class(a->o, f, k)) {
                if (s->families[k].n_groups != u->n)
                    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "'%.100s' and '%.100s' must keep equal numbers, but have %" PRIu32 " and %" PRIu32,
                                   s->families[f].name, s->families[k].name, u->n, s->families[k].n_groups);
                *members++ = k;
                u->n_families++;
            }
        a->at[a->n_units++] = 0;
        QN_TRY(make_steps(a, u, err));
    }
    return QN_OK;
}

uint32_t qn_alloc_unit_step(const qn_alloc_unit *u, double keep)
{
    uint32_t lo = 0, hi = u->n_steps; /* keep[lo] is enough, keep[hi] is not */
    while (hi - lo > 1) {
        const uint32_t mid = (lo + hi) / 2;
        if ((double)u->keep[mid] >= keep)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* The step nearest to that share; of two as near, the one that keeps more. */
static uint32_t nearest_step(const qn_alloc_unit *u, double share)
{
    const double want = u->n * (1 - share);
    const uint32_t i = qn_alloc_unit_step(u, want);
    if (i + 1 < u->n_steps && want - (double)u->keep[i + 1] < (double)u->keep[i] - want - 1e-9)
        return i + 1;
    return i;
}

/* --- cost ------------------------------------------------------------------------------------------------------------ */

static void put_step(qn_allocator *a, uint32_t unit, uint32_t step)
{
    const qn_alloc_unit *u = &a->units[unit];
    const uint32_t before = u->n - u->keep[a->at[unit]], after = u->n - u->keep[step];
    for (uint32_t i = 0; i < u->n_families; i++) {
        const uint32_t f = u->families[i];
        for (uint32_t k = before < after ? before : after; k < (before < after ? after : before); k++)
            qn_cut_set(a->cut, f, a->curves.order ? a->curves.order[f][k] : u->n - 1 - k, after > before);
    }
    a->at[unit] = step;
}

static double in_unit(const qn_allocator *a, const qn_cost *c)
{
    switch (a->o->unit) {
    case QN_BUDGET_PARAMS: return (double)c->params;
    case QN_BUDGET_BYTES: return (double)c->bytes;
    case QN_BUDGET_MACS: return c->macs;
    default: return 0;
    }
}

qn_code qn_allocator_cost(qn_allocator *a, const uint32_t *steps, double *cost, qn_err *err)
{
    *cost = 0;
    if (a->o->unit == QN_BUDGET_GROUPS) {
        for (uint32_t u = 0; u < a->n_units; u++)
            if (a->units[u].n_steps > 1)
                *cost += (double)a->units[u].keep[steps[u]] * a->units[u].n_families;
        return QN_OK;
    }
    if (a->latency) {
        *cost = qn_latency_of(a->latency, steps);
        return QN_OK;
    }
    qn_cost c;
    for (uint32_t u = 0; u < a->n_units; u++)
        if (steps[u] != a->at[u])
            put_step(a, u, steps[u]);
    QN_TRY(qn_cut_cost(a->cut, &c, err));
    *cost = in_unit(a, &c);
    return QN_OK;
}

/* --- one share for all ----------------------------------------------------------------------------------------------- */

static void share_steps(const qn_allocator *a, double share, uint32_t *at)
{
    for (uint32_t u = 0; u < a->n_units; u++)
        at[u] = nearest_step(&a->units[u], share);
}

qn_code qn_allocate_uniform(qn_allocator *a, uint32_t *at, qn_err *err)
{
    if (a->o->unit == QN_BUDGET_GROUPS) {
        share_steps(a, a->o->share, at);
        return QN_OK;
    }
    double lo = 0, hi = 1, cost = 0; /* lo does not meet the budget, hi does, or nothing does */
    uint32_t *more = qn_arena_get(&a->arena, (a->n_units + 1ull) * sizeof *more, 4, err);
    if (!more)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < 40; i++) {
        const double mid = (lo + hi) / 2;
        share_steps(a, mid, at);
        QN_TRY(qn_allocator_cost(a, at, &cost, err));
        if (cost > a->limit)
            lo = mid;
        else
            hi = mid;
    }
    share_steps(a, lo, at);
    share_steps(a, hi, more);
    /* Units of one size take their steps at the same share: only as many of them as are needed. */
    QN_TRY(qn_allocator_cost(a, at, &cost, err));
    for (uint32_t u = 0; u < a->n_units && cost > a->limit; u++)
        if (at[u] != more[u]) {
            at[u] = more[u];
            QN_TRY(qn_allocator_cost(a, at, &cost, err));
        }
    return qn_allocator_give_back(a, NULL, at, err);
}

/* --- corrections ----------------------------------------------------------------------------------------------------- */

qn_code qn_allocator_losses(qn_allocator *a, double ***loss, qn_err *err)
{
    double **all = qn_arena_get(&a->arena, (a->n_units + 1ull) * sizeof *all, 8, err);
    if (!all)
        return QN_E_MEMORY;
    for (uint32_t u = 0; u < a->n_units; u++) {
        const uint64_t n_bytes = a->units[u].n_steps * sizeof **all;
        if (!(all[u] = qn_arena_get(&a->arena, n_bytes, 8, err)))
            return QN_E_MEMORY;
        memset(all[u], 0, n_bytes);
    }
    *loss = all;
    return QN_OK;
}

/* The largest convex function of the groups that go which is nowhere above the losses. corners: room for n_steps. */
static void make_convex(const qn_alloc_unit *u, double *loss, uint32_t *corners)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < u->n_steps; i++) {
        if (!isfinite(loss[i]))
            continue;
        while (n >= 2) {
            const uint32_t p = corners[n - 2], q = corners[n - 1];
            if ((loss[q] - loss[p]) * ((double)u->keep[p] - u->keep[i]) < (loss[i] - loss[p]) * ((double)u->keep[p] - u->keep[q]))
                break;
            n--;
        }
        corners[n++] = i;
    }
    for (uint32_t k = 0; k + 1 < n; k++) {
        const uint32_t p = corners[k], q = corners[k + 1];
        for (uint32_t i = p + 1; i < q; i++)
            loss[i] = loss[p] + (loss[q] - loss[p]) * ((double)u->keep[p] - u->keep[i]) / ((double)u->keep[p] - u->keep[q]);
    }
}

struct descent {
    double *const *loss;
    uint32_t *at;
    double cost;
    double *rate;      /* per unit: loss for what its next steps save; a lower bound when stale */
    bool *fresh;
};

static uint32_t next_of(const qn_alloc_unit *u, uint32_t at)
{
    const uint32_t chunk = (u->n_steps - 1) / CHUNKS;
    const uint32_t next = at + (chunk ? chunk : 1);
    return next < u->n_steps ? next : u->n_steps - 1;
}

static qn_code rate_of(qn_allocator *a, struct descent *d, uint32_t unit, qn_err *err)
{
    const uint32_t at = d->at[unit], next = next_of(&a->units[unit], at);
    double cost;
    d->fresh[unit] = true;
    d->rate[unit] = (double)INFINITY;
    if (next == at)
        return QN_OK;
    d->at[unit] = next;
    const qn_code rc = qn_allocator_cost(a, d->at, &cost, err);
    d->at[unit] = at;
    if (rc == QN_OK && cost < d->cost && isfinite(d->loss[unit][next]))
        d->rate[unit] = fmax(0, d->loss[unit][next] - d->loss[unit][at]) / (d->cost - cost);
    return rc;
}

/* As far as its next steps go, or as the budget needs. */
static qn_code advance(qn_allocator *a, struct descent *d, uint32_t unit, qn_err *err)
{
    uint32_t lo = d->at[unit], hi = next_of(&a->units[unit], lo);
    double cost;
    d->at[unit] = hi;
    QN_TRY(qn_allocator_cost(a, d->at, &d->cost, err));
    while (d->cost <= a->limit && hi - lo > 1) {
        d->at[unit] = (lo + hi) / 2;
        QN_TRY(qn_allocator_cost(a, d->at, &cost, err));
        if (cost <= a->limit) {
            hi = d->at[unit];
            d->cost = cost;
        } else
            lo = d->at[unit];
    }
    d->at[unit] = hi;
    return QN_OK;
}

/* Savings shrink as others go, and convex losses rise: a rate that is out of date is too small, never too large, so only the smallest need be
 * computed anew (Minoux 1978). */
static qn_code descend(qn_allocator *a, struct descent *d, qn_err *err)
{
    QN_TRY(qn_allocator_cost(a, d->at, &d->cost, err));
    while (d->cost > a->limit) {
        uint32_t best = 0;
        for (uint32_t u = 1; u < a->n_units; u++)
            if (d->rate[u] < d->rate[best])
                best = u;
        if (!d->fresh[best]) {
            QN_TRY(rate_of(a, d, best, err));
            continue;
        }
        if (isinf(d->rate[best]))
            return QN_OK;
        QN_TRY(advance(a, d, best, err));
        memset(d->fresh, 0, a->n_units);
    }
    return QN_OK;
}

qn_code qn_allocator_descend(qn_allocator *a, double *const *loss, uint32_t *at, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(&a->arena);
    struct descent d = {.loss = loss, .at = at};
    uint64_t most = 1;
    for (uint32_t u = 0; u < a->n_units; u++)
        most = a->units[u].n_steps > most ? a->units[u].n_steps : most;
    uint32_t *corners = qn_arena_get(&a->arena, most * sizeof *corners, 4, err);
    d.rate = corners ? qn_arena_get(&a->arena, (a->n_units + 1ull) * sizeof *d.rate, 8, err) : NULL;
    d.fresh = d.rate ? qn_arena_get(&a->arena, a->n_units + 1ull, 1, err) : NULL;
    if (!d.fresh)
        return QN_E_MEMORY;
    memset(d.fresh, 0, a->n_units);
    for (uint32_t u = 0; u < a->n_units; u++) {
        make_convex(&a->units[u], loss[u], corners);
        d.rate[u] = 0;
    }
    const qn_code rc = a->n_units ? descend(a, &d, err) : QN_OK;
    qn_arena_rewind(&a->arena, mark);
    return rc == QN_OK ? qn_allocator_give_back(a, loss, at, err) : rc;
}

qn_code qn_allocator_give_back(qn_allocator *a, double *const *loss, uint32_t *at, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(&a->arena);
    bool *given = qn_arena_get(&a->arena, a->n_units + 1ull, 1, err);
    double cost, before;
    if (!given)
        return QN_E_MEMORY;
    memset(given, 0, a->n_units);
    qn_code rc = qn_allocator_cost(a, at, &before, err);
    for (uint32_t i = 0; i < a->n_units + GIVE_BACK_MAX && rc == QN_OK && before <= a->limit; i++) {
        uint32_t best = a->n_units;
        double most = 0, then = before;
        for (uint32_t u = 0; u < a->n_units && rc == QN_OK; u++) {
            const qn_alloc_unit *x = &a->units[u];
            if (!at[u] || given[u])
                continue;
            at[u]--;
            rc = qn_allocator_cost(a, at, &cost, err);
            at[u]++;
            const double worth = loss ? (loss[u][at[u]] - loss[u][at[u] - 1]) / fmax(cost - before, before * 1e-12) : 1 - (double)x->keep[at[u]] / x->n;
            if (rc == QN_OK && cost <= a->limit && worth > most) {
                best = u;
                most = worth;
                then = cost;
            }
        }
        if (best == a->n_units)
            break;
        at[best]--;
        given[best] = !loss;
        before = then;
    }
    qn_arena_rewind(&a->arena, mark);
    return rc;
}

/* --- the call -------------------------------------------------------------------------------------------------------- */

static qn_code finish(qn_allocator *a, const uint32_t *at, double loss, qn_allocated *out, qn_err *err)
{
    double cost;
    uint32_t n_seen = 0;
    QN_TRY(qn_allocator_cost(a, at, &cost, err));
    for (uint32_t u = 0; u < a->n_units; u++)
        if (at[u] != a->at[u])
            put_step(a, u, at[u]);
    QN_TRY(qn_cut_check(a->cut, err));
    QN_TRY(qn_cut_cost(a->cut, &out->cost, err));
    out->share = a->dense > 0 ? 1 - cost / a->dense : 0;
    out->reached = cost <= a->limit;
    /* One share of groups is rounded to the nearest step, up or down: it is missed where there was no step near it. */
    for (uint32_t u = 0; u < a->n_units && a->o->unit == QN_BUDGET_GROUPS; u++)
        if (a->units[u].n_steps > 1) {
            const double gap = (double)a->units[u].keep[at[u]] - a->units[u].n * (1 - a->o->share);
            out->reached = (n_seen++ == 0 || out->reached) && gap < (a->o->multiple > 1 ? a->o->multiple : 1);
        }
    out->loss = loss;
    out->keep = qn_mem_get(a->env->alloc, (a->groups->n_families + 1ull) * sizeof *out->keep, err);
    if (!out->keep)
        return QN_E_MEMORY;
    for (uint32_t u = 0; u < a->n_units; u++)
        for (uint32_t i = 0; i < a->units[u].n_families; i++)
            out->keep[a->units[u].families[i]] = a->units[u].keep[at[u]];
    return QN_OK;
}

qn_code qn_allocator_open(qn_allocator *a, qn_err *err)
{
    QN_TRY(make_units(a, err));
    QN_TRY(qn_cut_new(a->env, a->groups, &a->cut, err));
    if (a->o->unit == QN_BUDGET_LATENCY)
        QN_TRY(qn_latency_open(a, &a->latency, err));
    QN_TRY(qn_allocator_cost(a, a->at, &a->dense, err));
    a->limit = a->dense * (1 - a->o->share) * (1 + 1e-12);
    return QN_OK;
}

void qn_allocator_close(qn_allocator *a)
{
    qn_latency_close(a->latency);
    qn_curves_release(&a->curves);
    qn_cut_free(a->cut);
    qn_arena_release(&a->arena);
}

static qn_code run(qn_allocator *a, qn_allocated *out, qn_err *err)
{
    double loss = (double)NAN;
    QN_TRY(qn_allocator_open(a, err));
    uint32_t *at = qn_arena_get(&a->arena, (a->n_units + 1ull) * sizeof *at, 4, err);
    if (!at)
        return QN_E_MEMORY;
    memset(at, 0, a->n_units * sizeof *at);
    if (a->o->method == QN_ALLOCATE_UNIFORM || a->o->unit == QN_BUDGET_GROUPS)
        QN_TRY(qn_allocate_uniform(a, at, err));
    else if (a->o->method == QN_ALLOCATE_CURVES)
        QN_TRY(qn_allocate_curves(a, at, err));
    else
        QN_TRY(qn_allocate_table(a, at, &loss, err));
    return finish(a, at, loss, out, err);
}

qn_code qn_allocate(const qn_env *env, const qn_graph *g, const qn_groups *s, const qn_calibrate_feed *feed, qn_measure *m,
                    const qn_allocate_options *o, qn_allocated *out, qn_err *err)
{
    memset(out, 0, sizeof *out);
    if (!(o->share > 0 && o->share < 1))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the share that goes is %g; it must lie between 0 and 1", o->share);
    if ((o->method == QN_ALLOCATE_TABLE || o->method == QN_ALLOCATE_EVOLVE) && o->unit != QN_BUDGET_GROUPS && !m)
        return QN_BUG(err, "nothing to measure with");
    qn_allocator a = {.env = env, .graph = g, .groups = s, .feed = feed, .measure = m, .o = o};
    qn_arena_init(&a.arena, env->alloc);
    const qn_code rc = run(&a, out, err);
    qn_allocator_close(&a);
    return rc;
}
