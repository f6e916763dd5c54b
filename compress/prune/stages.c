/* stages.c: the dense and the pruned model side by side, stage by stage: pairs of rows become moments.
 *
 * Each batch of a stage's block runs through the dense model, which goes on, and through the pruned one for a trial, since its weights are about to change.
 * Rows are thinned evenly, the same ones on both sides; nothing outlives a batch but sums. */
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/repair_impl.h"
#include <cblas.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    CHUNK = 1024,                 /* rows that become moments at a time */
    EXEC_LEAST = 16 << 20,        /* bytes that a model cannot run without */
    ROWS_LEAST = 16384, ROWS_PER_COLUMN = 16
};
#define HELD_OUT 0.2

static qn_code read_pruned(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    qn_stages *t = ctx;
    qn_overlay o = *t->overlay;
    return qn_overlay_read(&o, g == &t->plan->blocked ? t->plan->graph : g, value, first, n, dst, err);
}

static double held_out(const qn_stages *t)
{
    return t->o->held_out > 0 && t->o->held_out < 1 ? t->o->held_out : HELD_OUT;
}

/* Item i of an even share of all. */
static bool picked(uint64_t i, double share)
{
    return floor(((double)i + 1) * share) > floor((double)i * share);
}

static qn_code keep_rows(qn_unit *u, qn_unit_rows *r, const qn_alloc *a, const float *x, uint64_t rows, uint64_t ld, qn_err *err)
{
    for (uint64_t i = 0; i < rows; i++, r->seen++) {
        if (!picked(r->seen, u->rate))
            continue;
        float *grown = qn_mem_grow(a, r->x, r->n, &r->cap, r->n + 1, u->d * sizeof *grown, err);
        if (!grown)
            return QN_E_MEMORY;
        r->x = grown;
        memcpy(r->x + r->n++ * u->d, x + i * ld, u->d * sizeof *x);
    }
    return QN_OK;
}

static qn_code on_input(void *ctx, const qn_graph *g, uint32_t weight, uint32_t part, const float *x, uint64_t rows, uint64_t n, uint64_t ld,
                        qn_err *err)
{
    qn_stages *t = ctx;
    const qn_repair_plan *p = t->plan;
    if (g != &p->blocked || p->unit_of[weight] == UINT32_MAX || p->unit_of[weight] + part >= p->n_units)
        return QN_OK;
    qn_unit *u = &p->units[p->unit_of[weight] + part];
    if (u->weight != weight || u->d != n)
        return QN_OK;
    if (t->counting) {
        u->batch_rows += rows;
        return QN_OK;
    }
    if (u->stage != t->stage)
        return QN_OK;
    return keep_rows(u, &u->side[t->side], t->env->alloc, x, rows, ld, err);
}

static qn_code feed(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    qn_stages *t = ctx;
    if (t->feed->pool)
        *t->feed->pool = qn_exec_pool(t->exec[t->side]);
    return t->feed->feed(t->feed->ctx, batch, inputs, err);
}

/* What a stage takes beside the models: moments of all its units, and the work on one of them. */
static uint64_t stage_bytes(const qn_repair_plan *p, uint32_t stage, bool targets, const qn_unit **widest)
{
    uint64_t sum = 0, most = 0;
    for (uint32_t i = 0; i < p->n_units; i++) {
        const qn_unit *u = &p->units[i];
        if (u->stage != stage)
            continue;
        const uint64_t one = qn_moments_bytes(u->d, targets ? u->m : 0) * (targets ? 2 : 1) + 2 * (uint64_t)u->d * u->m * sizeof(float);
        const uint64_t work = qn_obs_bytes(u->d, u->m) + ((uint64_t)u->d * u->d + (uint64_t)u->d * u->m) * sizeof(double);
        sum += one;
        if (work > most) {
            most = work;
            *widest = u;
        }
    }
    return sum + most;
}

/* What is left of the limit for each model. */
static qn_code plan_memory(const qn_stages *t, uint64_t *each, qn_err *err)
{
    const uint64_t limit = t->o->memory_bytes, sides = t->overlay ? 2 : 1;
    uint64_t most = 0;
    const qn_unit *u = NULL, *widest = NULL;
    *each = 0;
    if (!limit)
        return QN_OK;
    for (uint32_t s = 0; s < t->plan->n_stages; s++) {
        const uint64_t n = stage_bytes(t->plan, s, t->overlay != NULL, &u);
        if (n > most || t->keeps_all) {
            most = t->keeps_all ? most + n : n;
            widest = u;
        }
    }
    const uint64_t need = most + t->beside_bytes + QN_EXEC_BESIDE_BYTES;
    if (need + sides * EXEC_LEAST > limit)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET,
                       "choosing and refitting takes about %" PRIu64 " MiB (most of it for the %" PRIu32 " inputs of '%s'), the limit is %" PRIu64
                       " MiB: allow more, or choose by magnitude without a refit",
                       (need + sides * EXEC_LEAST) >> 20, widest ? widest->d : 0, widest ? t->plan->graph->values[widest->weight].name : "",
                       limit >> 20);
    *each = (limit - need) / sides;
    return QN_OK;
}

/* One batch through the dense model: how many rows each unit sees. */
static qn_code count_rows(qn_stages *t, uint64_t each, qn_err *err)
{
    const qn_graph *g = &t->plan->blocked;
    qn_array *io = qn_mem_zeros(t->env->alloc, (uint64_t)g->n_inputs + g->n_outputs + 1, sizeof *io, err);
    if (!io)
        return QN_E_MEMORY;
    t->side = 0;
    t->counting = true;
    qn_code rc = feed(t, 0, io, err);
    if (rc == QN_OK)
        rc = qn_exec_run(t->exec[0], io, io + g->n_inputs, err);
    t->counting = false;
    for (uint32_t i = 0; i < g->n_inputs + g->n_outputs; i++)
        qn_array_release(&io[i]);
    qn_mem_put(t->env->alloc, io);
    for (uint32_t i = 0; i < t->plan->n_units && rc == QN_OK; i++) {
        qn_unit *u = &t->plan->units[i];
        const uint64_t most = t->o->rows_max ? t->o->rows_max : qn_max_u64(ROWS_LEAST, (uint64_t)u->d * ROWS_PER_COLUMN);
        const double all = (double)u->batch_rows * (double)t->feed->n_batches;
        u->rate = all > (double)most ? (double)most / all : 1;
        /* the rows of a batch are held on both sides */
        const double held = (double)u->batch_rows * u->rate * u->d * 2 * sizeof(float);
        if (each && held > (double)each / 8)
            u->rate *= (double)each / 8 / held;
    }
    return rc;
}

qn_code qn_stages_open(qn_stages *t, qn_err *err)
{
    uint64_t each = 0;
    QN_TRY(plan_memory(t, &each, err));
    QN_TRY(qn_team_open(t->env, t->env->n_threads, &t->team, err));
    const qn_stream s = {.n_batches = t->feed->n_batches, .feed = feed, .ctx = t};
    for (unsigned side = 0; side < (t->overlay ? 2 : 1); side++) {
        const qn_exec_options o = {.memory_bytes = each, .read = side ? read_pruned : NULL, .read_ctx = t, .on_input = on_input, .tap_ctx = t};
        QN_TRY(qn_exec_open(t->env, &t->plan->blocked, &o, &t->exec[side], err));
        QN_TRY(qn_streamer_open(t->exec[side], &s, &t->stream[side], err));
    }
    return count_rows(t, each, err);
}

/* --- a unit's weights and moments ------------------------------------------------------------------------------------------------ */

static qn_code read_unit(qn_stages *t, const qn_unit *u, const qn_overlay *o, float **out, qn_err *err)
{
    const qn_graph *g = t->plan->graph;
    const qn_value *v = &g->values[u->weight];
    const qn_alloc *a = t->env->alloc;
    float *all = qn_mem_get(a, (qn_value_elems(v) + 1) * sizeof *all, err);
    *out = all ? qn_mem_get(a, ((uint64_t)u->d * u->m + 1) * sizeof **out, err) : NULL;
    if (!*out) {
        qn_mem_put(a, all);
        return QN_E_MEMORY;
    }
    qn_overlay copy = o ? *o : (qn_overlay){0};
    const qn_code rc = o ? qn_overlay_read(&copy, g, u->weight, 0, (uint64_t)v->dims[0], all, err)
                         : qn_weight_from_source(t->env, g->source, g, u->weight, 0, (uint64_t)v->dims[0], all, err);
    for (uint64_t r = 0; r < u->m && rc == QN_OK; r++)
        for (uint64_t c = 0; c < u->d; c++)
            (*out)[r * u->d + c] = all[u->first + r * u->row_step + c * u->col_step];
    qn_mem_put(a, all);
    return rc;
}

/* Outputs that are gone have no targets. */
static void forget_gone_outputs(qn_unit *u)
{
    for (uint64_t r = 0; r < u->m; r++) {
        bool zero = true;
        for (uint64_t c = 0; c < u->d && zero; c++)
            zero = u->w[1][r * u->d + c] == 0;
        if (zero)
            memset(u->w[0] + r * u->d, 0, u->d * sizeof(float));
    }
}

static qn_code prepare(qn_stages *t, qn_unit *u, qn_err *err)
{
    const bool targets = t->overlay != NULL;
    QN_TRY(qn_moments_new(&u->fit, t->env->alloc, u->d, targets ? u->m : 0, err));
    QN_TRY(read_unit(t, u, NULL, &u->w[0], err));
    if (!targets)
        return QN_OK;
    QN_TRY(qn_moments_new(&u->hold, t->env->alloc, u->d, u->m, err));
    QN_TRY(read_unit(t, u, t->overlay, &u->w[1], err));
    forget_gone_outputs(u);
    return QN_OK;
}

void qn_unit_forget(qn_unit *u, const qn_alloc *a)
{
    for (unsigned i = 0; i < 2; i++) {
        qn_mem_put(a, u->side[i].x);
        qn_mem_put(a, u->w[i]);
        u->side[i] = (qn_unit_rows){0};
        u->w[i] = NULL;
    }
    qn_moments_release(&u->fit);
    qn_moments_release(&u->hold);
}

struct product {
    const float *x, *w;
    float *y;
    uint64_t rows, d, m;
};

enum { PRODUCT_ROWS = 128 };

static qn_code multiply(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct product *p = ctx;
    const uint64_t r = i * PRODUCT_ROWS, n = qn_min_u64(PRODUCT_ROWS, p->rows - r);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)p->m, (blasint)p->d, 1, p->x + r * p->d, (blasint)p->d, p->w,
                (blasint)p->d, 0, p->y + r * p->m, (blasint)p->m);
    return QN_OK;
}

/* x: rows of the pruned model, z: of the dense one. */
static qn_code add_chunk(qn_stages *t, qn_unit *u, qn_moments *to, const float *x, const float *z, float *y, uint64_t rows, qn_err *err)
{
    struct product p = {.x = z, .w = u->w[0], .y = y, .rows = rows, .d = u->d, .m = u->m};
    if (to->m)
        QN_TRY(qn_team_run(t->team, qn_ceil_div(rows, PRODUCT_ROWS), multiply, &p, err));
    return qn_moments_add(to, t->team, x, y, rows, err);
}

/* Rows of a batch, picked before: index of the first of them among all that were picked. */
static qn_code add_rows(qn_stages *t, qn_unit *u, qn_err *err)
{
    const qn_alloc *a = t->env->alloc;
    const bool targets = t->overlay != NULL;
    const qn_unit_rows *dense = &u->side[0], *x = targets && !u->routed ? &u->side[1] : dense;
    if (x->n != dense->n) {
        u->no_refit = "the pruned model feeds it other rows than the dense one";
        return QN_OK;
    }
    float *bx = qn_mem_get(a, (uint64_t)CHUNK * u->d * sizeof *bx, err), *bz = bx ? qn_mem_get(a, (uint64_t)CHUNK * u->d * sizeof *bz, err) : NULL;
    float *by = bz ? qn_mem_get(a, ((uint64_t)CHUNK * u->m + 1) * sizeof *by, err) : NULL;
    qn_code rc = by ? QN_OK : QN_E_MEMORY;
    /* With enough batches whole ones are held out: rows of one sequence or image resemble each other. */
    const double share = held_out(t);
    const bool by_batch = (double)t->feed->n_batches * share >= 2;
    for (unsigned hold = 0; hold < (targets ? 2 : 1) && rc == QN_OK; hold++) {
        qn_moments *to = hold ? &u->hold : &u->fit;
        uint64_t n = 0;
        for (uint64_t i = 0; i < x->n && rc == QN_OK; i++) {
            const bool held = targets && picked(by_batch ? t->batch : u->n_picked + i, share);
            if (held == (hold != 0)) {
                memcpy(bx + n * u->d, x->x + i * u->d, u->d * sizeof *bx);
                memcpy(bz + n++ * u->d, dense->x + i * u->d, u->d * sizeof *bz);
            }
            if (n == CHUNK || (n && i + 1 == x->n)) {
                rc = add_chunk(t, u, to, bx, bz, by, n, err);
                n = 0;
            }
        }
    }
    u->n_picked += x->n;
    u->side[0].n = u->side[1].n = 0;
    qn_mem_put(a, bx);
    qn_mem_put(a, bz);
    qn_mem_put(a, by);
    return rc;
}

static void drop_rows(qn_stages *t, qn_unit *u)
{
    for (unsigned i = 0; i < 2; i++) {
        qn_mem_put(t->env->alloc, u->side[i].x);
        u->side[i] = (qn_unit_rows){0};
    }
    if (!qn_moments_finite(&u->fit) || !u->fit.n)
        u->no_refit = u->fit.n ? "its inputs are not finite" : "it has seen no rows";
}

qn_code qn_stages_collect(qn_stages *t, qn_err *err)
{
    qn_repair_plan *p = t->plan;
    const bool last = t->stage + 1 == p->n_stages;
    for (uint32_t i = 0; i < p->n_units; i++)
        if (p->units[i].stage == t->stage)
            QN_TRY(prepare(t, &p->units[i], err));
    for (t->batch = 0; t->batch < t->feed->n_batches; t->batch++) {
        t->side = 0;
        QN_TRY(qn_streamer_try(t->stream[0], t->batch, !last, err));
        t->side = 1;
        if (t->overlay)
            QN_TRY(qn_streamer_try(t->stream[1], t->batch, false, err));
        for (uint32_t i = 0; i < p->n_units; i++)
            if (p->units[i].stage == t->stage)
                QN_TRY(add_rows(t, &p->units[i], err));
        if (t->env->progress)
            t->env->progress(t->env->progress_ctx, t->overlay ? "refit" : "measure", (uint64_t)t->stage * t->feed->n_batches + t->batch + 1,
                             (uint64_t)p->n_stages * t->feed->n_batches);
    }
    for (uint32_t i = 0; i < p->n_units; i++)
        if (p->units[i].stage == t->stage)
            drop_rows(t, &p->units[i]);
    return QN_OK;
}

qn_code qn_stages_next(qn_stages *t, qn_err *err)
{
    bool more;
    uint32_t block;
    qn_code rc = QN_OK;
    if (++t->stage == t->plan->n_stages)
        return QN_OK;
    qn_streamer_next(t->stream[0]);
    if (t->overlay) {
        t->side = 1;
        qn_exec_hush(t->exec[1], true);
        rc = qn_streamer_step(t->stream[1], &more, &block, err);
        qn_exec_hush(t->exec[1], false);
    }
    return rc;
}

void qn_stages_forget(qn_stages *t, uint32_t weight)
{
    if (t->exec[1])
        qn_exec_forget(t->exec[1], weight);
}

void qn_stages_close(qn_stages *t)
{
    for (unsigned i = 0; i < 2; i++) {
        qn_streamer_close(t->stream[i]);
        t->stream[i] = NULL;
    }
    if (t->feed && t->feed->pool)
        *t->feed->pool = NULL;
    for (unsigned i = 0; i < 2; i++) {
        qn_exec_close(t->exec[i]);
        t->exec[i] = NULL;
    }
    qn_team_close(t->team);
    t->team = NULL;
}
