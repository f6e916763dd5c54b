/* batches.c: see batches.h. */
#include "compress/train/batches.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { INPUTS_MAX = 64 };
#define SAME 1e-3 /* of the largest value: products in another order differ by far less, values of another sample by far more */

/* --- one behind the other ---------------------------------------------------------------------------------------------- */

static bool fit(const qn_array *a, const qn_array *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && a->rank > 0 && !memcmp(a->dims + 1, b->dims + 1, (a->rank - 1u) * sizeof *a->dims);
}

/* parts[k · stride], k < n, along the first axis. QN_E_UNSUPPORTED when they do not fit. */
static qn_code join(qn_pool *pool, const qn_array *parts, uint32_t n, uint32_t stride, qn_array *out, qn_err *err)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    memcpy(dims, parts->dims, sizeof dims);
    dims[0] = 0;
    for (uint32_t k = 0; k < n; k++) {
        if (!fit(parts, &parts[(uint64_t)k * stride]))
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the batches have shapes that do not fit together");
        dims[0] += parts[(uint64_t)k * stride].dims[0];
    }
    QN_TRY(qn_array_new(pool, out, (qn_dtype)parts->dtype, dims, parts->rank, err));
    uint8_t *to = out->data;
    for (uint32_t k = 0; k < n; k++) {
        const qn_array *p = &parts[(uint64_t)k * stride];
        memcpy(to, p->data, qn_array_bytes(p));
        to += qn_array_bytes(p);
    }
    return QN_OK;
}

static void release(qn_array *a, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        qn_array_release(&a[i]);
}

/* Inputs of the batches, joined when there are several. */
static qn_code feeds_of(qn_batches *b, qn_pool *pool, const uint64_t *list, uint32_t n, qn_array *feeds, qn_err *err)
{
    const uint32_t n_in = b->graph->n_inputs;
    *b->feed->pool = pool;
    if (n == 1)
        return b->feed->feed(b->feed->ctx, list[0], feeds, err);
    qn_array *all = qn_mem_zeros(b->env->alloc, (uint64_t)n * n_in + 1, sizeof *all, err);
    if (!all)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint32_t k = 0; k < n && rc == QN_OK; k++)
        rc = b->feed->feed(b->feed->ctx, list[k], all + (uint64_t)k * n_in, err);
    for (uint32_t i = 0; i < n_in && rc == QN_OK; i++)
        rc = join(pool, all + i, n, n_in, &feeds[i], err);
    release(all, (uint64_t)n * n_in);
    qn_mem_put(b->env->alloc, all);
    return rc;
}

/* Outputs of the dense model for the batches; their rows are added to *rows. outs: references of the caller's own. */
static qn_code dense_of(qn_batches *b, const uint64_t *list, uint32_t n, qn_array *outs, uint64_t *rows, qn_err *err)
{
    const uint32_t n_out = b->graph->n_outputs;
    qn_array *all = n == 1 ? outs : qn_mem_zeros(b->env->alloc, (uint64_t)n * n_out, sizeof *all, err);
    if (!all)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint32_t k = 0; k < n && rc == QN_OK; k++) {
        const qn_array *one;
        rc = qn_teacher_outputs(b->teacher, list[k], &one, err);
        if (rc == QN_OK)
            *rows += qn_distill_rows(b->teacher, one);
        for (uint32_t i = 0; i < n_out && rc == QN_OK; i++)
            qn_array_share(&one[i], &all[(uint64_t)k * n_out + i]);
    }
    for (uint32_t i = 0; i < n_out && n > 1 && rc == QN_OK; i++)
        rc = join(qn_exec_pool(b->teacher->exec), all + i, n, n_out, &outs[i], err);
    if (n > 1) {
        release(all, (uint64_t)n * n_out);
        qn_mem_put(b->env->alloc, all);
    }
    return rc;
}

/* --- may they run together? ---------------------------------------------------------------------------------------------- */

static bool same_values(const qn_array *a, const qn_array *b)
{
    const float *x = a->data, *y = b->data;
    double most = 0, off = 0;
    if (!fit(a, b) || a->dims[0] != b->dims[0])
        return false;
    for (uint64_t i = 0; i < a->n && a->dtype == QN_F32; i++) {
        const double d = fabs((double)x[i] - (double)y[i]);
        if (!(d <= HUGE_VAL))
            return false;
        off = fmax(off, d);
        most = fmax(most, fabs((double)x[i]));
    }
    return off <= SAME * most && (a->dtype == QN_F32 || !memcmp(a->data, b->data, qn_array_bytes(a)));
}

/* The first and the last batch, together and alone. What fails together is no error. */
static bool try_together(qn_batches *b)
{
    const uint64_t pair[2] = {0, b->feed->n_batches - 1};
    const uint32_t n_out = b->graph->n_outputs;
    qn_array feeds[INPUTS_MAX], want[QN_DISTILL_OUTPUTS_MAX], got[QN_DISTILL_OUTPUTS_MAX];
    uint64_t rows = 0;
    qn_err ignored = {0};
    memset(feeds, 0, sizeof feeds);
    memset(want, 0, sizeof want);
    memset(got, 0, sizeof got);
    bool good = b->feed->n_batches > 1 && !b->graph->n_vocab && feeds_of(b, qn_exec_pool(b->teacher->exec), pair, 2, feeds, &ignored) == QN_OK &&
                dense_of(b, pair, 2, want, &rows, &ignored) == QN_OK && qn_exec_run(b->teacher->exec, feeds, got, &ignored) == QN_OK;
    for (uint32_t i = 0; i < n_out && good; i++)
        good = same_values(&want[i], &got[i]);
    release(feeds, b->graph->n_inputs);
    release(want, n_out);
    release(got, n_out);
    return good;
}

static qn_code count_rows(qn_batches *b, uint64_t n_labels, qn_err *err)
{
    uint64_t sum = 0;
    b->first_row = qn_mem_zeros(b->env->alloc, b->feed->n_batches, sizeof *b->first_row, err);
    if (!b->first_row)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < b->feed->n_batches; i++) {
        const qn_array *outs;
        b->first_row[i] = sum;
        QN_TRY(qn_teacher_outputs(b->teacher, i, &outs, err));
        sum += qn_distill_rows(b->teacher, outs);
    }
    if (b->teacher->kind == QN_DISTILL_ERROR)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "labels need an output of scores or probabilities of classes");
    if (sum != n_labels)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " labels for %" PRIu64 " rows of output", n_labels, sum);
    return QN_OK;
}

qn_code qn_batches_open(qn_batches *b, uint64_t n_labels, qn_err *err)
{
    b->together = try_together(b);
    return b->labels ? count_rows(b, n_labels, err) : QN_OK;
}

void qn_batches_close(qn_batches *b)
{
    if (b->env)
        qn_mem_put(b->env->alloc, b->first_row);
}

/* --- a run --------------------------------------------------------------------------------------------------------------- */

/* Only the loss: without derivatives of the outputs nothing goes back. */
static qn_code judge_loss(void *ctx, qn_pool *pool, const qn_array *outs, double *loss, qn_array *d_outs, qn_err *err)
{
    const qn_distill *d = ctx;
    const qn_code rc = qn_distill_loss(ctx, pool, outs, loss, d_outs, err);
    for (uint32_t i = 0; i < d->teacher->graph->n_outputs; i++)
        qn_array_release(&d_outs[i]);
    return rc;
}

/* Labels of the rows of the batches, in one list. */
static qn_code labels_of(const qn_batches *b, const uint64_t *list, uint32_t n, uint64_t rows, int64_t **labels, qn_err *err)
{
    *labels = qn_mem_get(b->env->alloc, (rows + 1) * sizeof **labels, err);
    if (!*labels)
        return QN_E_MEMORY;
    uint64_t at = 0;
    for (uint32_t k = 0; k < n; k++) {
        const qn_array *outs;
        QN_TRY(qn_teacher_outputs(b->teacher, list[k], &outs, err));
        const uint64_t more = qn_distill_rows(b->teacher, outs);
        memcpy(*labels + at, b->labels + b->first_row[list[k]], more * sizeof **labels);
        at += more;
    }
    return QN_OK;
}

static qn_code run_one(qn_batches *b, const uint64_t *list, uint32_t n, qn_batches_mode mode, double *loss, uint64_t *rows, qn_err *err)
{
    qn_array dense[QN_DISTILL_OUTPUTS_MAX], feeds[INPUTS_MAX];
    qn_distill d = {.teacher = b->teacher, .dense = dense, .temperature = mode == QN_BATCHES_TRAIN && b->temperature > 0 ? b->temperature : 1};
    qn_draw draw = {.teacher = b->teacher, .seed = b->seed};
    int64_t *labels = NULL;
    uint64_t more = 0;
    double value = 0;
    memset(dense, 0, sizeof dense);
    memset(feeds, 0, sizeof feeds);
    qn_code rc = dense_of(b, list, n, dense, &more, err);
    if (rc == QN_OK && b->labels && mode != QN_BATCHES_DRAW)
        rc = labels_of(b, list, n, more, &labels, err);
    d.labels = labels;
    if (rc == QN_OK)
        rc = feeds_of(b, qn_exec_pool(qn_grad_exec(b->grad)), list, n, feeds, err);
    if (rc == QN_OK && mode == QN_BATCHES_DRAW)
        rc = qn_grad_run(b->grad, feeds, qn_distill_draw, &draw, &value, err);
    else if (rc == QN_OK)
        rc = qn_grad_run(b->grad, feeds, mode == QN_BATCHES_JUDGE ? judge_loss : qn_distill_loss, &d, &value, err);
    else
        release(feeds, b->graph->n_inputs);
    release(dense, b->graph->n_outputs);
    qn_mem_put(b->env->alloc, labels);
    *loss += value;
    *rows += more;
    return rc;
}

qn_code qn_batches_run(qn_batches *b, const uint64_t *list, uint32_t n, qn_batches_mode mode, double *loss, uint64_t *rows, qn_err *err)
{
    const uint32_t step = b->together ? n : 1;
    for (uint32_t i = 0; i < n; i += step)
        QN_TRY(run_one(b, list + i, step, mode, loss, rows, err));
    return QN_OK;
}
