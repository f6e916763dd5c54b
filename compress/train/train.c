/* train.c: the loop of train.h. What a step does follows from its number and the state alone, so that a resumed run goes on as if nothing had been. */
#include "compress/train/train.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/train/adamw.h"
#include "compress/train/batches.h"
#include "compress/train/order.h"
#include "compress/train/state.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { ROWS_A_STEP = 64, HELD_OUT_ROWS = 1024, JUDGEMENTS = 20, INPUTS_MAX = 64, PART = 1 << 14, LARGE_BYTES = 256 << 20 };
#define UNLIMITED_KEEPS (1ull << 30) /* bytes of dense outputs that are kept when no limit is given */

struct qn_train_run {
    const qn_env *env;
    const qn_graph *graph;
    const qn_calibrate_feed *feed;
    const qn_train_options *o;
    qn_grad *grad;
    qn_teacher teacher;
    qn_train_order order;
    qn_train_state s;
    qn_batches batches;
    uint64_t *list;        /* batches of a run */
    uint64_t rows;         /* of the first batch */
    uint32_t batch, interval;
    float **g;
    uint8_t **keep;
    qn_digest key;
    bool between;          /* the state is that of the end of a step: worth saving */
};

static qn_train_view view_of(struct qn_train_run *r, double rate)
{
    return (qn_train_view){.step = r->s.step, .steps = r->o->steps, .n_weights = r->s.n_weights, .values = r->s.values, .elems = r->s.elems,
                           .w = r->s.w, .g = r->g, .keep = r->keep, .rate = rate, .run = r};
}

static double rate_at(const qn_train_options *o, uint32_t step)
{
    return step < o->hold ? o->rate : o->rate * (double)(o->steps - step) / (double)(o->steps - o->hold);
}

/* --- judging ------------------------------------------------------------------------------------------------------------ */

static void weights_changed(struct qn_train_run *r)
{
    for (uint32_t i = 0; i < r->s.n_weights; i++)
        qn_exec_forget(qn_grad_exec(r->grad), r->s.values[i]);
}

/* Batches from a place of the order on, in runs of at most r->batch. */
static qn_code run_from(struct qn_train_run *r, uint64_t place, uint32_t n, qn_batches_mode mode, double *loss, uint64_t *rows, qn_err *err)
{
    for (uint32_t i = 0; i < n; i++)
        QN_TRY(qn_train_order_at(&r->order, place + i, &r->list[i], err));
    return qn_batches_run(&r->batches, r->list, n, mode, loss, rows, err);
}

qn_code qn_train_probe(qn_train_view *v, uint64_t n_runs, uint64_t n_rows, qn_code (*each)(void *ctx, qn_train_view *v, qn_err *err), void *ctx,
                       uint64_t *rows, qn_err *err)
{
    struct qn_train_run *r = v->run;
    double loss = 0;
    const uint32_t n = r->batches.together ? (uint32_t)qn_min_u64(r->batch, qn_max_u64(1, n_rows / r->rows)) : 1;
    *rows = 0;
    for (uint64_t i = 0; i < n_runs; i++) {
        const uint64_t place = (uint64_t)r->s.step * r->batch + i * n;
        r->batches.seed = r->o->seed + place;
        qn_grad_clear(r->grad);
        QN_TRY(run_from(r, place, n, QN_BATCHES_DRAW, &loss, rows, err));
        QN_TRY(each(ctx, v, err));
    }
    return QN_OK;
}

/* Mean loss over what is held out; the best weights so far are kept. */
static qn_code judge(struct qn_train_run *r, qn_err *err)
{
    double loss = 0;
    uint64_t rows = 0;
    for (uint64_t i = 0; i < r->order.n_held; i += r->batch)
        QN_TRY(qn_batches_run(&r->batches, r->order.held + i, (uint32_t)qn_min_u64(r->batch, r->order.n_held - i), QN_BATCHES_JUDGE, &loss, &rows, err));
    loss /= (double)qn_max_u64(1, rows);
    if (!r->s.judged)
        r->s.before = loss;
    if (!r->s.judged || loss < r->s.best_loss) {
        r->s.best_loss = loss;
        qn_train_state_keep(&r->s);
    }
    r->s.judged = 1;
    return isfinite(r->s.before) ? QN_OK
                                 : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the loss is no number on the data that is held out, before training");
}

/* --- a step ------------------------------------------------------------------------------------------------------------ */

struct scale {
    float *g, by;
    uint64_t n;
};

static qn_code scale_part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct scale *s = ctx;
    for (uint64_t k = i * PART; k < qn_min_u64(s->n, (i + 1) * PART); k++)
        s->g[k] *= s->by;
    return QN_OK;
}

static qn_code derivatives(struct qn_train_run *r, double *loss, qn_err *err)
{
    uint64_t rows = 0;
    *loss = 0;
    qn_grad_clear(r->grad);
    QN_TRY(run_from(r, (uint64_t)r->s.step * r->batch, r->batch, QN_BATCHES_TRAIN, loss, &rows, err));
    *loss /= (double)qn_max_u64(1, rows);
    for (uint32_t i = 0; i < r->s.n_weights; i++) {
        struct scale s = {.g = r->g[i], .by = 1.0f / (float)qn_max_u64(1, rows), .n = r->s.elems[i]};
        QN_TRY(qn_exec_parts(qn_grad_exec(r->grad), qn_ceil_div(s.n, PART), s.n, scale_part, &s, err));
    }
    return QN_OK;
}

static qn_code move(struct qn_train_run *r, qn_err *err)
{
    const qn_train_options *o = r->o;
    const qn_adamw a = {.rate = rate_at(o, r->s.step), .decay = o->weight_decay, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .t = r->s.step + 1};
    qn_train_view v = view_of(r, a.rate);
    if (o->before)
        QN_TRY(o->before(o->ctx, &v, err));
    for (uint32_t i = 0; i < r->s.n_weights; i++)
        QN_TRY(qn_adamw_step(qn_grad_exec(r->grad), &a, r->g[i], r->keep[i], r->s.w[i], r->s.m[i], r->s.v[i], r->s.elems[i], err));
    if (o->after)
        QN_TRY(o->after(o->ctx, &v, err));
    for (uint32_t i = 0; i < r->s.n_weights && o->project; i++)
        o->project(o->ctx, r->s.values[i], r->s.w[i]);
    weights_changed(r);
    return QN_OK;
}

static qn_code save(struct qn_train_run *r, qn_err *err)
{
    const qn_train_options *o = r->o;
    return o->checkpoint ? qn_train_state_save(&r->s, o->checkpoint, &r->key, o->state, o->state_bytes, err) : QN_OK;
}

/* Often enough that little is lost, rarely enough that the disk is not what it waits for. */
static bool worth_saving(const struct qn_train_run *r)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < r->s.n_weights; i++)
        n += 4 * r->s.elems[i] * sizeof(float);
    return r->s.step % (n > LARGE_BYTES ? 4 * r->interval : r->interval) == 0 || r->s.step == r->o->steps;
}

static qn_code steps(struct qn_train_run *r, qn_err *err)
{
    const qn_train_options *o = r->o;
    if (!r->s.judged && o->judged_from == 0)
        QN_TRY(judge(r, err));
    while (r->s.step < o->steps) {
        double loss;
        r->between = true;
        QN_TRY(qn_env_check(r->env, err));
        if (o->begin) {
            qn_train_view v = view_of(r, rate_at(o, r->s.step));
            QN_TRY(o->begin(o->ctx, &v, err));
        }
        QN_TRY(derivatives(r, &loss, err));
        r->between = false;
        if (!isfinite(loss)) {
            if (r->s.judged)
                return QN_OK; /* it has run away: the best weights are kept */
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the loss is no number at step %" PRIu32, r->s.step);
        }
        QN_TRY(move(r, err));
        if (r->s.step < QN_TRAIN_RECENT)
            r->s.first[r->s.step] = loss;
        r->s.recent[r->s.step % QN_TRAIN_RECENT] = loss;
        r->s.step++;
        if (o->on_step)
            o->on_step(o->step_ctx, r->s.step, loss);
        if (r->env->progress)
            r->env->progress(r->env->progress_ctx, "training steps", r->s.step, o->steps);
        const bool due = r->s.step % r->interval == 0 || r->s.step == o->steps;
        if (r->s.step >= o->judged_from && (due || r->s.step == o->judged_from))
            QN_TRY(judge(r, err));
        if (worth_saving(r))
            QN_TRY(save(r, err));
    }
    return QN_OK;
}

/* --- opening ----------------------------------------------------------------------------------------------------------- */

static void add_u64(qn_hasher *h, uint64_t v)
{
    uint8_t b[8];
    qn_store64(b, v);
    qn_hasher_add(h, b, sizeof b);
}

static void add_f64(qn_hasher *h, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    add_u64(h, bits);
}

/* All that decides what comes out: options, the weights as they start, what the feed gives (its first batch and what the dense model makes of it). */
static qn_code make_key(struct qn_train_run *r, qn_err *err)
{
    const qn_train_options *o = r->o;
    qn_hasher h = {0};
    qn_array feeds[INPUTS_MAX];
    const qn_array *outs;
    memset(feeds, 0, sizeof feeds);
    QN_TRY(qn_teacher_outputs(&r->teacher, 0, &outs, err));
    *r->feed->pool = qn_exec_pool(r->teacher.exec);
    QN_TRY(qn_hasher_open(&h, err));
    const uint64_t ints[] = {o->n_weights, o->steps, r->batch, o->hold, o->n_labels, r->order.n_held, o->judged_from, o->seed, r->feed->n_batches,
                             r->feed->n_tokens, o->state_bytes};
    const double reals[] = {o->rate, o->weight_decay, o->temperature};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++)
        add_u64(&h, ints[i]);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        add_f64(&h, reals[i]);
    qn_hasher_add(&h, o->key.b, sizeof o->key.b);
    if (o->labels)
        qn_hasher_add(&h, o->labels, o->n_labels * sizeof *o->labels);
    for (uint32_t i = 0; i < r->s.n_weights; i++) {
        const char *name = r->graph->values[r->s.values[i]].name;
        qn_hasher_add(&h, name, strlen(name) + 1);
        qn_hasher_add(&h, r->s.w[i], r->s.elems[i] * sizeof(float));
    }
    for (uint32_t i = 0; i < r->graph->n_outputs; i++)
        qn_hasher_add(&h, outs[i].data, qn_array_bytes(&outs[i]));
    const qn_code rc = r->feed->feed(r->feed->ctx, 0, feeds, err);
    for (uint32_t i = 0; i < r->graph->n_inputs && rc == QN_OK; i++)
        qn_hasher_add(&h, feeds[i].data, qn_array_bytes(&feeds[i]));
    for (uint32_t i = 0; i < r->graph->n_inputs; i++)
        qn_array_release(&feeds[i]);
    r->key = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    return rc;
}

static qn_code open_all(struct qn_train_run *r, qn_overlay *w, qn_trained *out, qn_err *err)
{
    const qn_train_options *o = r->o;
    const uint64_t n_batches = r->feed->n_batches, keeps = o->memory_bytes ? o->memory_bytes / 8 : UNLIMITED_KEEPS;
    QN_TRY(qn_teacher_open(r->env, r->graph, r->feed, o->memory_bytes, keeps, &r->teacher, err));
    const qn_array *outs;
    QN_TRY(qn_teacher_outputs(&r->teacher, 0, &outs, err));
    const uint64_t rows = r->rows = qn_max_u64(1, qn_distill_rows(&r->teacher, outs));
    const uint64_t held = o->n_held_out ? o->n_held_out : qn_min_u64(qn_ceil_div(n_batches, 10), qn_max_u64(1, HELD_OUT_ROWS / rows));
    QN_TRY(qn_train_order_open(r->env, n_batches, held, o->seed, &r->order, err));
    r->batch = o->batch ? o->batch : (uint32_t)qn_ceil_div(ROWS_A_STEP, rows);
    r->batch = (uint32_t)qn_min_u64(r->batch, r->order.n_trained);
    r->interval = (uint32_t)qn_max_u64(1, o->steps / JUDGEMENTS);
    QN_TRY(qn_train_state_open(r->env, r->graph, w, o, &r->s, err));
    const qn_grad_options go = {.read = qn_overlay_read, .read_ctx = w, .memory_bytes = o->memory_bytes, .weights = o->weights, .n_weights = o->n_weights};
    QN_TRY(qn_grad_open(r->env, r->graph, &go, &r->grad, err));
    r->batches = (qn_batches){.env = r->env, .graph = r->graph, .feed = r->feed, .teacher = &r->teacher, .grad = r->grad, .labels = o->labels,
                              .temperature = o->temperature};
    QN_TRY(qn_batches_open(&r->batches, o->n_labels, err));
    r->list = qn_mem_zeros(r->env->alloc, r->batch, sizeof *r->list, err);
    r->g = qn_mem_zeros(r->env->alloc, (uint64_t)o->n_weights + 1, sizeof *r->g, err);
    r->keep = qn_mem_zeros(r->env->alloc, (uint64_t)o->n_weights + 1, sizeof *r->keep, err);
    if (!r->list || !r->g || !r->keep)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < o->n_weights; i++)
        r->g[i] = qn_grad_of(r->grad, i);
    if (!o->checkpoint)
        return QN_OK;
    bool there;
    QN_TRY(make_key(r, err));
    QN_TRY(qn_train_state_load(&r->s, o->checkpoint, &r->key, o->state, o->state_bytes, &there, err));
    out->resumed = r->s.step;
    qn_train_view v = view_of(r, 0);
    if (there && o->resumed)
        QN_TRY(o->resumed(o->ctx, &v, err));
    return QN_OK;
}

static void close_all(struct qn_train_run *r)
{
    for (uint32_t i = 0; r->keep && i < r->o->n_weights; i++)
        qn_mem_put(r->env->alloc, r->keep[i]);
    qn_mem_put(r->env->alloc, r->keep);
    qn_mem_put(r->env->alloc, r->g);
    qn_mem_put(r->env->alloc, r->list);
    qn_batches_close(&r->batches);
    qn_grad_close(r->grad);
    qn_train_state_close(&r->s);
    qn_train_order_close(&r->order);
    qn_teacher_close(&r->teacher);
}

static double mean(const double *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / n : (double)NAN;
}

qn_code qn_train(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, qn_overlay *w, const qn_train_options *o, qn_trained *out,
                 qn_err *err)
{
    struct qn_train_run r = {.env = env, .graph = g, .feed = feed, .o = o};
    memset(out, 0, sizeof *out);
    if (o->n_weights == 0 || o->hold > o->steps || o->judged_from > o->steps)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "there is nothing to train: %" PRIu32 " weights, %" PRIu32 " steps", o->n_weights, o->steps);
    qn_code rc = open_all(&r, w, out, err);
    if (rc == QN_OK)
        rc = steps(&r, err);
    if (rc == QN_E_CANCELLED && r.between && save(&r, NULL) != QN_OK)
        rc = QN_E_CANCELLED; /* the last one that could be written stays */
    if (rc == QN_OK) {
        qn_train_state_restore(&r.s);
        const uint32_t n = r.s.step < QN_TRAIN_RECENT ? r.s.step : QN_TRAIN_RECENT;
        out->first_loss = mean(r.s.first, n);
        out->last_loss = mean(r.s.recent, n);
        out->held_out_before = r.s.before;
        out->held_out_after = r.s.best_loss;
        out->steps = r.s.step;
        out->best_step = r.s.best_step;
    }
    close_all(&r);
    return rc;
}
