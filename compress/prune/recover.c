/* recover.c: see recover.h: the trainer with a cut held at zero. */
#include "compress/prune/recover.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/recover_impl.h"
#include <inttypes.h>
#include <string.h>

enum { STEPS = 400, STEPS_GRADUAL = 2000, PERIODS = 10 };
#define RATE         1e-3
#define RATE_GRADUAL 2e-3 /* more is to be learned, and over again after every period */
#define RATE_LM      1e-4

static qn_code mask_of(const qn_recover_run *r, uint32_t value, uint64_t n, uint8_t *keep, qn_err *err)
{
    float *ones = qn_mem_get(r->env->alloc, (n + 1) * sizeof *ones, err);
    if (!ones)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n; i++)
        ones[i] = 1;
    const qn_code rc = qn_cut_zero(r->cut, value, ones, err);
    for (uint64_t i = 0; i < n && rc == QN_OK; i++)
        keep[i] = ones[i] != 0;
    qn_mem_put(r->env->alloc, ones);
    return rc;
}

qn_code qn_recover_mask(qn_recover_run *r, qn_train_view *v, qn_err *err)
{
    r->masked = true;
    for (uint32_t i = 0; i < v->n_weights; i++) {
        if (!qn_cut_touches(r->cut, v->values[i]))
            continue;
        if (!v->keep[i] && !(v->keep[i] = qn_mem_get(r->env->alloc, v->elems[i] + 1, err)))
            return QN_E_MEMORY;
        QN_TRY(mask_of(r, v->values[i], v->elems[i], v->keep[i], err));
        for (uint64_t k = 0; k < v->elems[i]; k++)
            v->w[i][k] = v->keep[i][k] ? v->w[i][k] : 0;
    }
    return QN_OK;
}

static void state_to_cut(qn_recover_run *r)
{
    for (uint32_t f = 0, g = 0; f < r->cut->groups->n_families; f++)
        for (uint32_t i = 0; i < r->cut->groups->families[f].n_groups; i++, g++)
            qn_cut_set(r->cut, f, i, r->state[g] == 1);
}

qn_code qn_recover_commit(qn_recover_run *r, qn_train_view *v, qn_err *err)
{
    state_to_cut(r);
    return qn_recover_mask(r, v, err);
}

static qn_code begin(void *ctx, qn_train_view *v, qn_err *err)
{
    qn_recover_run *r = ctx;
    if (!r->masked)
        QN_TRY(qn_recover_mask(r, v, err));
    return r->o->gradual && !r->o->half_space ? qn_gradual_begin(ctx, v, err) : QN_OK;
}

static qn_code resumed(void *ctx, qn_train_view *v, qn_err *err)
{
    return qn_recover_commit(ctx, v, err);
}

/* Options that decide what the hooks do. */
static qn_digest key_of(const qn_recover_run *r)
{
    const qn_recover_options *o = r->o;
    const qn_groups *s = r->cut->groups;
    const double reals[] = {o->gradual, o->half_space, r->periods, o->groups_share, o->params_share, o->macs_share, o->multiple, s->n_families};
    qn_digest d[2] = {qn_hash128(reals, sizeof reals), qn_hash128(r->state, r->slices.n)};
    if (o->keep)
        for (uint32_t f = 0; f < s->n_families; f++) {
            uint8_t b[4];
            qn_store32(b, o->keep[f]);
            memcpy(d[1].b, b, sizeof b);
            d[0] = qn_hash128(d, sizeof d);
        }
    return qn_hash128(d, sizeof d);
}

static qn_code gradual_room(qn_recover_run *r, qn_err *err)
{
    const uint64_t n = (uint64_t)r->slices.n + 1;
    double **const all[] = {&r->score, &r->by, &r->xx, &r->xd, &r->dd};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (!(*all[i] = qn_mem_zeros(r->env->alloc, n, sizeof(double), err)))
            return QN_E_MEMORY;
    r->order = qn_mem_zeros(r->env->alloc, n, sizeof *r->order, err);
    r->family_of = r->order ? qn_mem_zeros(r->env->alloc, n, sizeof *r->family_of, err) : NULL;
    r->before = r->family_of ? qn_mem_zeros(r->env->alloc, (uint64_t)r->n_weights + 1, sizeof *r->before, err) : NULL;
    if (!r->before)
        return QN_E_MEMORY;
    for (uint32_t f = 0; f < r->cut->groups->n_families; f++)
        for (uint32_t g = r->slices.first[f]; g < r->slices.first[f + 1]; g++)
            r->family_of[g] = f;
    return QN_OK;
}

static qn_code prepare(qn_recover_run *r, uint32_t steps, qn_err *err)
{
    const qn_groups *s = r->cut->groups;
    const qn_alloc *a = r->env->alloc;
    r->weights = qn_mem_zeros(a, (uint64_t)r->graph->n_values + 1, sizeof *r->weights, err);
    if (!r->weights)
        return QN_E_MEMORY;
    QN_TRY(qn_train_reach(r->env, r->graph, r->weights, &r->n_weights, err));
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_weights; i++)
        if (!r->o->fixed || !r->o->fixed[r->weights[i]])
            r->weights[n++] = r->weights[i];
    r->n_weights = n;
    if (n == 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "no weight of the model can be trained: no derivative reaches one");
    QN_TRY(qn_slices_open(r->env, s, r->weights, n, &r->slices, err));
    r->state = qn_mem_zeros(a, (uint64_t)r->slices.n + 1, 1, err);
    if (!r->state)
        return QN_E_MEMORY;
    for (uint32_t f = 0; f < s->n_families; f++)
        for (uint32_t i = 0; i < s->families[f].n_groups; i++)
            r->state[r->slices.first[f] + i] = r->cut->gone[f][i];
    if (!r->o->gradual)
        return QN_OK;
    const bool shares = r->o->groups_share > 0 || r->o->params_share > 0 || r->o->macs_share > 0;
    if (!shares && !r->o->keep)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gradual pruning needs a budget");
    if (r->o->half_space && !r->o->labels)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "half-space pruning needs labels: without a loss of its own no group is pushed to zero");
    r->periods = r->o->periods ? r->o->periods : PERIODS;
    r->length = steps / 2 / r->periods;
    if (r->length == 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%" PRIu32 " steps are too few for %" PRIu32 " periods", steps, r->periods);
    return gradual_room(r, err);
}

static void release(qn_recover_run *r)
{
    const qn_alloc *a = r->env->alloc;
    for (uint32_t i = 0; r->before && i < r->n_weights; i++)
        qn_mem_put(a, r->before[i]);
    void *const all[] = {r->weights, r->state, r->score, r->by, r->order, r->family_of, r->before, r->xx, r->xd, r->dd};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qn_mem_put(a, all[i]);
    qn_slices_close(&r->slices);
}

/* What the shares are of: the model without any cut. */
static qn_code dense_cost(qn_recover_run *r, qn_err *err)
{
    qn_cut *none;
    QN_TRY(qn_cut_new(r->env, r->cut->groups, &none, err));
    const qn_code rc = qn_cut_cost(none, &r->dense, err);
    qn_cut_free(none);
    return rc;
}

static qn_code run(qn_recover_run *r, const qn_calibrate_feed *feed, qn_recovery *out, qn_err *err)
{
    const qn_recover_options *o = r->o;
    const uint32_t steps = o->steps ? o->steps : o->gradual ? STEPS_GRADUAL : STEPS;
    qn_trained t;
    QN_TRY(prepare(r, steps, err));
    if (o->gradual)
        QN_TRY(dense_cost(r, err));
    QN_TRY(qn_cut_zero_overlay(r->cut, r->w, err));
    const qn_train_options to = {
        .weights = r->weights, .n_weights = r->n_weights, .steps = steps, .batch = o->batch, .hold = o->gradual ? r->periods * r->length : 0,
        .rate = o->rate > 0 ? o->rate : r->graph->n_vocab ? RATE_LM : o->gradual ? RATE_GRADUAL : RATE,
        .weight_decay = o->weight_decay, .temperature = o->temperature, .labels = o->labels, .n_labels = o->n_labels,
        .judged_from = o->gradual ? r->periods * r->length : 0, .seed = o->seed, .memory_bytes = o->memory_bytes, .begin = begin,
        .before = o->gradual && o->half_space ? qn_dhspg_before : NULL,
        .after = !o->gradual ? NULL : o->half_space ? qn_dhspg_after : qn_gradual_after, .ctx = r, .on_step = o->on_step, .step_ctx = o->step_ctx,
        .checkpoint = o->checkpoint, .key = key_of(r), .state = r->state, .state_bytes = r->slices.n, .resumed = resumed};
    QN_TRY(qn_train(r->env, r->graph, feed, r->w, &to, &t, err));
    *out = (qn_recovery){.first_loss = t.first_loss, .last_loss = t.last_loss, .held_out_before = t.held_out_before, .held_out_after = t.held_out_after,
                         .steps = t.steps, .resumed = t.resumed, .reached = true};
    if (o->gradual) { /* before, as a whole or in part */
        state_to_cut(r);
        QN_TRY(qn_recover_reached(r, &out->reached, err));
    }
    return qn_cut_zero_overlay(r->cut, r->w, err);
}

qn_code qn_recover(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, qn_cut *cut, qn_overlay *w, const qn_recover_options *o,
                   qn_recovery *out, qn_err *err)
{
    qn_recover_run r = {.env = env, .graph = g, .o = o, .cut = cut, .w = w};
    memset(out, 0, sizeof *out);
    const qn_code rc = run(&r, feed, out, err);
    release(&r);
    return rc;
}
