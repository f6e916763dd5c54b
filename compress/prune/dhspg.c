/* dhspg.c: the dual half-space projected gradient of OTOv2 (Chen et al. 2023, algorithm 2) for those who bring labels.
 *
 * After a first tenth of the steps the groups are divided once: those that go are the ones whose descent direction points to the origin and whose entries are
 * small on the mean. From then on, after each step of the optimizer from x to x − α d,
 *     x̂ = x − α d − α λ x / ‖x‖;   ⟨x̂, x⟩ < ε ‖x‖² → 0 for good, else x̂,
 * λ such that the norm shrinks and the step still descends. What has not reached the half-space when the first half of the steps is over goes there and
 * then, so that the budget is met. Departure from the paper: x are the columns that read the group (slices.h), not the rows that make it: also
 * groups behind activations with f(0) ≠ 0 can go. */
#include "base/err.h"
#include "compress/prune/recover_impl.h"
#include <math.h>
#include <string.h>

#define LAMBDA  1e-2
#define AMPLIFY 20.0
#define HAT     1e3
#define EPSILON 0.95

static uint32_t warm_up(const qn_train_view *v)
{
    return v->steps / 10;
}

static uint32_t deadline(const qn_recover_run *r)
{
    return r->periods * r->length;
}

static double *normed(double *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t g = 0; g < n; g++)
        sum += x[g] * x[g];
    for (uint32_t g = 0; g < n && sum > 0; g++)
        x[g] /= sqrt(sum);
    return x;
}

/* The division: score = ½ cos(−x, −∇) + ½ / mean size, each normalised over all groups; the largest go. */
static qn_code divide(qn_recover_run *r, qn_train_view *v, qn_err *err)
{
    const uint32_t n = r->slices.n;
    qn_slices_dot(&r->slices, v->w, v->w, r->xx);
    qn_slices_dot(&r->slices, v->w, v->g, r->xd);
    qn_slices_dot(&r->slices, v->g, v->g, r->dd);
    for (uint32_t g = 0; g < n; g++) {
        const double norm = sqrt(r->xx[g]), size = r->slices.elems[g] ? norm / (double)r->slices.elems[g] : 0;
        r->score[g] = norm > 0 && r->dd[g] > 0 ? r->xd[g] / norm / sqrt(r->dd[g]) : 0;
        r->by[g] = 1 / (size + 1e-6);
    }
    normed(r->score, n);
    normed(r->by, n);
    for (uint32_t g = 0; g < n; g++)
        r->score[g] = -0.5 * (r->score[g] + r->by[g]);
    return qn_recover_choose(r, 1, true, err);
}

/* Does some group of the weight shrink? */
static bool shrinks(const qn_recover_run *r, uint32_t value)
{
    const qn_groups *s = r->cut->groups;
    for (uint32_t f = 0; f < s->n_families; f++)
        for (uint32_t k = 0; k < s->families[f].n_members; k++)
            for (uint32_t g = r->slices.first[f]; s->families[f].members[k].value == value && g < r->slices.first[f + 1]; g++)
                if (r->state[g] == 2)
                    return true;
    return false;
}

qn_code qn_dhspg_before(void *ctx, qn_train_view *v, qn_err *err)
{
    qn_recover_run *r = ctx;
    if (v->step == warm_up(v))
        QN_TRY(divide(r, v, err));
    for (uint32_t i = 0; i < v->n_weights; i++) {
        const bool want = v->step >= warm_up(v) && v->step < deadline(r) && shrinks(r, v->values[i]);
        if (!want) {
            qn_mem_put(r->env->alloc, r->before[i]);
            r->before[i] = NULL;
            continue;
        }
        if (!r->before[i] && !(r->before[i] = qn_mem_get(r->env->alloc, (v->elems[i] + 1) * sizeof(float), err)))
            return QN_E_MEMORY;
        memcpy(r->before[i], v->w[i], v->elems[i] * sizeof(float));
    }
    return QN_OK;
}

/* λ of a group of norm x, ⟨x, d⟩ = xd and ‖d‖² = dd. */
static double push(double norm, double xd, double dd)
{
    if (xd >= 0)
        return LAMBDA;
    const double low = -xd / norm, high = -dd * norm / xd;
    const double lambda = fmin(fmax(AMPLIFY * low, LAMBDA), LAMBDA * HAT);
    return lambda >= high ? (low + high) / 2 : lambda;
}

/* Per group the factor c of x̂ = (x − α d) + c x, or that it goes. Needs ⟨x, x⟩, ⟨x, y⟩ and ⟨y, y⟩ with y = x − α d. */
static bool step_of(double xx, double xy, double yy, double rate, double *c)
{
    const double norm = sqrt(xx), xd = (xx - xy) / rate, dd = (xx - 2 * xy + yy) / (rate * rate);
    if (!(norm > 0))
        return true;
    *c = -rate * push(norm, xd, dd) / norm;
    return xy + *c * xx < EPSILON * xx;
}

qn_code qn_dhspg_after(void *ctx, qn_train_view *v, qn_err *err)
{
    qn_recover_run *r = ctx;
    bool some = false;
    if (v->step < warm_up(v) || v->step >= deadline(r))
        return QN_OK;
    qn_slices_dot(&r->slices, r->before, r->before, r->xx);
    qn_slices_dot(&r->slices, r->before, v->w, r->xd);
    qn_slices_dot(&r->slices, v->w, v->w, r->dd);
    for (uint32_t g = 0; g < r->slices.n; g++) {
        r->by[g] = 0;
        if (r->state[g] != 2)
            continue;
        if (step_of(r->xx[g], r->xd[g], r->dd[g], v->rate, &r->by[g]) || v->step + 1 == deadline(r)) {
            r->state[g] = 1;
            some = true;
        }
    }
    qn_slices_add(&r->slices, r->by, r->before, v->w);
    return some ? qn_recover_commit(r, v, err) : QN_OK;
}
