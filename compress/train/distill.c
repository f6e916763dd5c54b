/* distill.c: see distill.h. Row by row: with p = softmax(dense / T), q = softmax(y / T) the derivative of T² KL(p ‖ q) by y is T (q − p) (Hinton, Vinyals and
 * Dean 2015, section 2: the factor keeps its size when T changes). */
#include "compress/train/distill.h"
#include "base/err.h"
#include "base/random.h"
#include "base/num.h"
#include "compress/train/order.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A softmax in f32 rounds small probabilities to 0: what is divided by is at least this. */
#define LEAST_PROB   1e-12
#define SUM_IS_ONE   1e-3
#define SPREAD_LEAST 2.0 /* standard deviation of a row of logits that softmax is made for */
#define SPREAD_MOST  8.0
enum { INPUTS_MAX = 64 };

/* --- the dense model ------------------------------------------------------------------------------------------------- */

static qn_code run(qn_teacher *t, uint64_t batch, qn_array *outs, qn_err *err)
{
    qn_array feeds[INPUTS_MAX];
    memset(feeds, 0, sizeof feeds);
    *t->feed->pool = qn_exec_pool(t->exec);
    qn_code rc = t->feed->feed(t->feed->ctx, batch, feeds, err);
    if (rc == QN_OK)
        rc = qn_exec_run(t->exec, feeds, outs, err);
    for (uint32_t i = 0; i < t->graph->n_inputs; i++)
        qn_array_release(&feeds[i]);
    return rc;
}

static bool sum_to_one(const qn_array *a)
{
    const uint64_t n = (uint64_t)a->dims[a->rank - 1];
    const float *p = a->data;
    for (uint64_t i = 0; i < a->n; i += n) {
        double sum = 0;
        for (uint64_t k = i; k < i + n; k++) {
            sum += (double)p[k];
            if (!(p[k] >= 0))
                return false;
        }
        if (!(fabs(sum - 1) < SUM_IS_ONE))
            return false;
    }
    return a->n > 0;
}

static qn_distill_kind kind_of(const qn_graph *g, const qn_array *first)
{
    if (g->n_vocab)
        return QN_DISTILL_LOGITS;
    if (first->dtype != QN_F32 || !first->rank || first->dims[first->rank - 1] < 2)
        return QN_DISTILL_ERROR;
    return sum_to_one(first) ? QN_DISTILL_PROBS : first->rank == 2 ? QN_DISTILL_LOGITS : QN_DISTILL_ERROR;
}

uint64_t qn_distill_rows(const qn_teacher *t, const qn_array *outs)
{
    if (t->kind != QN_DISTILL_ERROR)
        return outs->n / (uint64_t)outs->dims[outs->rank - 1];
    return outs->rank ? (uint64_t)outs->dims[0] : 1;
}

static double square_of(const qn_array *a)
{
    const float *p = a->data;
    double sum = 0;
    for (uint64_t i = 0; i < a->n; i++)
        sum += (double)p[i] * (double)p[i];
    return sum;
}

/* What a row of each output amounts to: of up to eight batches. */
static qn_code scale(qn_teacher *t, qn_err *err)
{
    uint64_t rows = 0;
    for (uint64_t b = 0; b < qn_min_u64(8, t->feed->n_batches); b++) {
        const qn_array *outs;
        QN_TRY(qn_teacher_outputs(t, b, &outs, err));
        rows += qn_distill_rows(t, outs);
        for (uint32_t i = 0; i < t->graph->n_outputs; i++)
            t->square[i] += outs[i].dtype == QN_F32 ? square_of(&outs[i]) : 0;
    }
    for (uint32_t i = 0; i < t->graph->n_outputs; i++)
        t->square[i] = t->square[i] > 0 && rows ? t->square[i] / (double)rows : 1;
    return QN_OK;
}

/* Mean standard deviation of a row of logits: of up to eight batches. */
static qn_code unit_of(qn_teacher *t, qn_err *err)
{
    double sum = 0;
    uint64_t rows = 0;
    for (uint64_t b = 0; b < qn_min_u64(8, t->feed->n_batches); b++) {
        const qn_array *outs;
        QN_TRY(qn_teacher_outputs(t, b, &outs, err));
        const uint64_t n = (uint64_t)outs->dims[outs->rank - 1];
        const float *y = outs->data;
        for (uint64_t at = 0; at < outs->n; at += n, rows++) {
            double s1 = 0, s2 = 0;
            for (uint64_t i = at; i < at + n; i++) {
                s1 += (double)y[i];
                s2 += (double)y[i] * (double)y[i];
            }
            sum += sqrt(fmax(0, s2 / (double)n - s1 / (double)n * (s1 / (double)n)));
        }
    }
    const double spread = rows ? sum / (double)rows : 0;
    t->unit = spread > 0 && isfinite(spread) ? fmax(fmin(1, spread / SPREAD_LEAST), spread / SPREAD_MOST) : 1;
    return QN_OK;
}

qn_code qn_teacher_open(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, uint64_t memory_bytes, uint64_t keep_bytes, qn_teacher *t,
                        qn_err *err)
{
    *t = (qn_teacher){.env = env, .graph = g, .feed = feed, .keep_bytes = keep_bytes};
    if (g->n_outputs == 0 || g->n_outputs > QN_DISTILL_OUTPUTS_MAX || g->n_inputs > INPUTS_MAX || feed->n_batches == 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%" PRIu32 " inputs, %" PRIu32 " outputs and %" PRIu64 " batches cannot be trained with",
                       g->n_inputs, g->n_outputs, feed->n_batches);
    const qn_exec_options o = {.memory_bytes = memory_bytes};
    bool over = false;
    const uint64_t n = qn_mul(feed->n_batches, g->n_outputs, &over);
    t->kept = over ? NULL : qn_mem_zeros(env->alloc, n, sizeof *t->kept, err);
    if (!t->kept)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "%" PRIu64 " batches are too many", feed->n_batches);
    QN_TRY(qn_exec_open(env, g, &o, &t->exec, err));
    const qn_array *outs;
    QN_TRY(qn_teacher_outputs(t, 0, &outs, err));
    t->kind = kind_of(g, outs);
    t->unit = 1;
    if (t->kind == QN_DISTILL_LOGITS && !g->n_vocab)
        QN_TRY(unit_of(t, err));
    return t->kind == QN_DISTILL_ERROR ? scale(t, err) : QN_OK;
}

qn_code qn_teacher_outputs(qn_teacher *t, uint64_t batch, const qn_array **outs, qn_err *err)
{
    const uint32_t n = t->graph->n_outputs;
    qn_array *kept = t->kept + batch * n;
    *outs = kept;
    if (kept[0].dtype != QN_BYTES)
        return QN_OK;
    for (uint32_t i = 0; i < n; i++)
        qn_array_release(&t->now[i]);
    QN_TRY(run(t, batch, t->now, err));
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < n; i++)
        n_bytes += qn_array_bytes(&t->now[i]);
    *outs = t->now;
    if (t->held_bytes + n_bytes > t->keep_bytes)
        return QN_OK;
    t->held_bytes += n_bytes;
    for (uint32_t i = 0; i < n; i++)
        qn_array_share(&t->now[i], &kept[i]);
    return QN_OK;
}

void qn_teacher_close(qn_teacher *t)
{
    for (uint32_t i = 0; t->kept && i < t->graph->n_outputs; i++)
        qn_array_release(&t->now[i]);
    for (uint64_t i = 0; t->kept && i < t->feed->n_batches * t->graph->n_outputs; i++)
        qn_array_release(&t->kept[i]);
    if (t->kept)
        qn_mem_put(t->env->alloc, t->kept);
    qn_exec_close(t->exec);
    t->kept = NULL;
    t->exec = NULL;
}

/* --- losses ---------------------------------------------------------------------------------------------------------- */

static double log_sum(const float *x, uint64_t n, double over)
{
    double most = (double)x[0], sum = 0;
    for (uint64_t i = 1; i < n; i++)
        most = fmax(most, (double)x[i]);
    for (uint64_t i = 0; i < n; i++)
        sum += exp(((double)x[i] - most) * over);
    return most * over + log(sum);
}

static double logits_row(const float *dense, const float *y, uint64_t n, double t, double unit, double part, float *d)
{
    const double over = 1 / (t * unit), lp = log_sum(dense, n, over), lq = log_sum(y, n, over);
    double kl = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double a = (double)dense[i] * over - lp, b = (double)y[i] * over - lq, p = exp(a);
        if (p > 0)
            kl += p * (a - b);
        d[i] = (float)(part * t / unit * (exp(b) - p));
    }
    return part * t * t * kl;
}

static double probs_row(const float *dense, const float *y, uint64_t n, double part, float *d)
{
    double kl = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double p = (double)dense[i], q = fmax((double)y[i], LEAST_PROB);
        if (p > 0)
            kl += p * log(p / q);
        d[i] = (float)(-part * p / q);
    }
    return part * kl;
}

/* Cross-entropy, half of the loss; added to d. */
static double label_row(const float *y, uint64_t n, uint64_t label, bool probs, double unit, float *d)
{
    if (probs) {
        const double q = fmax((double)y[label], LEAST_PROB);
        d[label] -= (float)(0.5 / q);
        return -0.5 * log(q);
    }
    const double lq = log_sum(y, n, 1 / unit);
    for (uint64_t i = 0; i < n; i++)
        d[i] += (float)(0.5 / unit * (exp((double)y[i] / unit - lq) - (i == label)));
    return 0.5 * (lq - (double)y[label] / unit);
}

struct rows {
    const qn_distill *c;
    const float *dense, *y;
    float *d;
    double *loss; /* per row */
    uint64_t n;
};

static qn_code one_row(void *ctx, uint64_t r, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct rows *w = ctx;
    const qn_distill *c = w->c;
    const uint64_t n = w->n, at = r * n;
    const double part = c->labels ? 0.5 : 1;
    const bool probs = c->teacher->kind == QN_DISTILL_PROBS;
    w->loss[r] = probs ? probs_row(w->dense + at, w->y + at, n, part, w->d + at) : logits_row(w->dense + at, w->y + at, n, c->temperature, c->teacher->unit, part, w->d + at);
    if (!c->labels)
        return QN_OK;
    if (c->labels[r] < 0 || (uint64_t)c->labels[r] >= n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a label is %" PRId64 ": 0 to %" PRIu64 " is expected", c->labels[r], n - 1);
    w->loss[r] += label_row(w->y + at, n, (uint64_t)c->labels[r], probs, c->teacher->unit, w->d + at);
    return QN_OK;
}

static qn_code rows_loss(const qn_distill *c, qn_pool *pool, const qn_array *y, qn_array *d, double *loss, qn_err *err)
{
    const uint64_t n = (uint64_t)y->dims[y->rank - 1], n_rows = y->n / n;
    const int64_t dims[1] = {(int64_t)n_rows};
    qn_array each;
    QN_TRY(qn_array_new(pool, &each, QN_F64, dims, 1, err));
    struct rows w = {.c = c, .dense = c->dense[0].data, .y = y->data, .d = d->data, .loss = each.data, .n = n};
    const qn_code rc = qn_exec_parts(c->teacher->exec, n_rows, 100 * y->n, one_row, &w, err);
    for (uint64_t r = 0; r < n_rows && rc == QN_OK; r++)
        *loss += w.loss[r];
    qn_array_release(&each);
    return rc;
}

static double error_loss(const qn_array *dense, const qn_array *y, double square, qn_array *d)
{
    const float *a = dense->data, *b = y->data;
    float *to = d->data;
    double sum = 0;
    for (uint64_t i = 0; i < y->n; i++) {
        const double e = (double)b[i] - (double)a[i];
        sum += e * e;
        to[i] = (float)(2 * e / square);
    }
    return sum / square;
}

qn_code qn_distill_loss(void *ctx, qn_pool *pool, const qn_array *outs, double *loss, qn_array *d_outs, qn_err *err)
{
    const qn_distill *c = ctx;
    const qn_teacher *t = c->teacher;
    const uint32_t n = t->kind == QN_DISTILL_ERROR ? t->graph->n_outputs : 1;
    *loss = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (c->dense[i].dtype != QN_F32)
            continue;
        if (outs[i].n != c->dense[i].n || outs[i].dtype != QN_F32) /* what it puts out depends on what it found (detections) */
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "output '%.100s' does not have the dense model's shape",
                           t->graph->values[t->graph->outputs[i]].name);
        QN_TRY(qn_array_new(pool, &d_outs[i], QN_F32, outs[i].dims, outs[i].rank, err));
        if (t->kind == QN_DISTILL_ERROR)
            *loss += error_loss(&c->dense[i], &outs[i], t->square[i], &d_outs[i]);
        else
            QN_TRY(rows_loss(c, pool, &outs[i], &d_outs[i], loss, err));
    }
    return QN_OK;
}

/* --- draws ----------------------------------------------------------------------------------------------------------- */

/* A class drawn from q (n), which need not sum to 1 exactly. */
static uint64_t draw(const double *q, uint64_t n, double u)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += q[i];
    for (uint64_t i = 0; i < n; i++)
        if ((u -= q[i] / sum) < 0)
            return i;
    return n - 1;
}

static void draw_row(const float *y, uint64_t n, bool probs, double unit, double u, double *q, float *d)
{
    const double lq = probs ? 0 : log_sum(y, n, 1 / unit);
    for (uint64_t i = 0; i < n; i++)
        q[i] = probs ? fmax((double)y[i], 0) : exp((double)y[i] / unit - lq);
    const uint64_t c = draw(q, n, u);
    for (uint64_t i = 0; i < n; i++)
        d[i] = probs ? 0 : (float)(q[i] / unit);
    d[c] -= (float)(probs ? 1 / fmax(q[c], LEAST_PROB) : 1 / unit);
}

qn_code qn_distill_draw(void *ctx, qn_pool *pool, const qn_array *outs, double *loss, qn_array *d_outs, qn_err *err)
{
    const qn_draw *c = ctx;
    const qn_teacher *t = c->teacher;
    uint64_t state = c->seed;
    *loss = 0;
    for (uint32_t k = 0; k < (t->kind == QN_DISTILL_ERROR ? t->graph->n_outputs : 1); k++) {
        if (outs[k].dtype != QN_F32)
            continue;
        QN_TRY(qn_array_new(pool, &d_outs[k], QN_F32, outs[k].dims, outs[k].rank, err));
        const float *y = outs[k].data;
        float *d = d_outs[k].data;
        if (t->kind == QN_DISTILL_ERROR) {
            const float size = (float)sqrt(2 / t->square[k]);
            for (uint64_t i = 0; i < outs[k].n; i++)
                d[i] = qn_random(&state) >> 63 ? size : -size;
            continue;
        }
        const uint64_t n = (uint64_t)outs[k].dims[outs[k].rank - 1];
        double *q = qn_mem_get(t->env->alloc, n * sizeof *q, err);
        if (!q)
            return QN_E_MEMORY;
        for (uint64_t at = 0; at < outs[k].n; at += n)
            draw_row(y + at, n, t->kind == QN_DISTILL_PROBS, t->unit, (double)(qn_random(&state) >> 11) * 0x1p-53, q, d + at);
        qn_mem_put(t->env->alloc, q);
    }
    return QN_OK;
}
