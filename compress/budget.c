/* budget.c: see budget.h. */
#include "compress/budget.h"
#include "analysis/model_digest.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/spread.h"
#include <math.h>
#include <string.h>

enum { RUNS_MAX = 8 };
#define NEAR   0.002 /* this much of the budget may stay unused */
#define MOST   8.0   /* bits */
#define LEAST  0.25

static double weights_of(const qn_source *src)
{
    double sum = 0;
    for (uint64_t i = 0; i < src->n_objects; i++) {
        const qn_object *o = &src->objects[i];
        uint64_t n = 0, bytes = 0;
        if (o->kind == QN_OBJECT_TENSOR && qn_shape_bytes((qn_dtype)o->dtype, o->dims, o->rank, &n, &bytes))
            sum += (double)n;
    }
    return sum;
}

uint64_t qn_budget_bytes(const qn_recipe *r, const qn_source *src)
{
    return r->size_bytes ? r->size_bytes : (uint64_t)(r->bits_per_weight * weights_of(src) / 8);
}

struct search {
    const qn_budget *b;
    const qn_env *env;
    qn_recipe *r;
    const qn_digest *model;
    double follow; /* weights whose bits follow those for all */
    const double *more_bits;
};

static double weights_that_follow(const qn_lossy *l)
{
    double n = 0;
    for (uint64_t i = 0; i < qn_lossy_count(l); i++) {
        const qn_lossy_row r = qn_lossy_report(l, i);
        n += r.kept ? 0 : (double)r.rows * r.cols;
    }
    return n;
}

/* spread: also find what to add to whose bits, from the errors of this run. */
static qn_code run(struct search *s, double bits, bool spread, uint64_t *n_bytes, qn_err *err)
{
    qn_lossy *l = NULL;
    qn_pack_report report;
    qn_pack_options o = *s->b->pack;
    qn_recipe_forget_hits(s->r);
    s->r->all.set.bits = bits;
    const qn_lossy_options lo = {.recipe = s->r, .stats = s->b->stats, .more_bits = s->more_bits, .model = s->model};
    QN_TRY(qn_lossy_open(&l, s->env, s->b->src, s->b->graph, &lo, err));
    s->follow = weights_that_follow(l);
    o.lossy = l;
    o.dry_run = o.whole = true;
    qn_code rc = qn_pack(s->env, s->b->src, NULL, &o, &report, err);
    if (rc == QN_OK) {
        *n_bytes = report.packed_bytes;
        qn_pack_report_release(s->env, &report);
        if (spread)
            rc = qn_spread_find(l, s->b->src, s->b->stats, s->r->spread, s->b->arena, &s->more_bits, err);
    }
    if (rc == QN_OK) {
        if (s->b->tried)
            s->b->tried(s->b->ctx, bits, *n_bytes);
    }
    qn_lossy_close(l);
    return rc;
}

static bool whole_bits(const qn_recipe *r)
{
    return r->all.codec && strcmp(r->all.codec, "grid") == 0;
}

/* Of a codec whose bits are any number: a secant that never leaves the bracket. */
static qn_code find_any(struct search *s, double *best, uint64_t *least, qn_err *err)
{
    const double want = (double)s->b->n_bytes * (1 - NEAR / 2);
    double lo = LEAST, hi = MOST, at = 0;
    at = fmin(MOST, fmax(LEAST, 8 * want / fmax(1, s->follow)));
    for (unsigned i = 0; i < RUNS_MAX; i++) {
        uint64_t n = 0;
        at = rint(at * 1e4) / 1e4; /* as it is written in the recipe */
        QN_TRY(run(s, at, false, &n, err));
        *least = qn_min_u64(*least, n);
        if (n <= s->b->n_bytes) {
            *best = fmax(*best, at);
            lo = at;
            if ((double)n >= (double)s->b->n_bytes * (1 - NEAR) || at >= MOST)
                return QN_OK;
        } else {
            hi = at;
            if (at <= LEAST)
                return QN_OK;
        }
        const double next = at + 8 * (want - (double)n) / fmax(1, s->follow);
        const double inner = 0.02 * (hi - lo);
        at = next >= hi ? (hi >= MOST ? MOST : hi - inner) : next <= lo ? (lo <= LEAST && *best == 0 ? LEAST : lo + inner) : next;
        if (hi - lo < 0.001)
            return QN_OK;
    }
    return QN_OK;
}

static qn_code find_whole(struct search *s, double *best, uint64_t *least, qn_err *err)
{
    unsigned lo = 2, hi = 9; /* lo − 1 fits or nothing does; hi does not */
    while (lo < hi) {
        const unsigned mid = (lo + hi) / 2;
        uint64_t n = 0;
        if (mid > (unsigned)MOST)
            break;
        QN_TRY(run(s, mid, false, &n, err));
        *least = qn_min_u64(*least, n);
        if (n <= s->b->n_bytes) {
            *best = mid;
            lo = mid + 1;
        } else
            hi = mid;
    }
    return QN_OK;
}

qn_code qn_budget_find(const qn_budget *b, const qn_env *env, qn_recipe *r, qn_digest *model, const double **more_bits, qn_err *err)
{
    struct search s = {.b = b, .env = env, .r = r, .model = model};
    double best = 0;
    uint64_t least = UINT64_MAX;
    QN_TRY(qn_model_digest(env, b->src, model, err));
    s.follow = weights_of(b->src);
    if (qn_spread_applies(r, b->stats)) {
        uint64_t n = 0;
        const double at = b->n_bytes ? fmax(LEAST, fmin(MOST, 8.0 * (double)b->n_bytes / s.follow)) : r->all.set.bits > 0 ? r->all.set.bits : QN_RECIPE_BITS;
        QN_TRY(run(&s, at, true, &n, err));
    }
    *more_bits = s.more_bits;
    if (!b->n_bytes) {
        qn_recipe_forget_hits(r);
        return QN_OK;
    }
    QN_TRY(whole_bits(r) ? find_whole(&s, &best, &least, err) : find_any(&s, &best, &least, err));
    r->all.set.bits = best;
    qn_recipe_forget_hits(r);
    if (best > 0)
        return QN_OK;
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%llu bytes are too few: the least that was seen is %llu", (unsigned long long)b->n_bytes,
                   (unsigned long long)least);
}
