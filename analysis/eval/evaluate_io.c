/* evaluate_io.c: see evaluate_io.h. */
#include "analysis/eval/evaluate_io.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { OUTPUTS_MAX = 32 };

struct run {
    const qn_env *env;
    const qn_graph *graph;
    qn_exec *model, *ref;
    qn_io_feed *feed;
    const int64_t *labels;
    uint64_t n_labels, label_at;
    qn_io_eval *e;
    qn_chunk_score *tops;   /* n_outputs × n_runs: same first          */
    qn_chunk_score *right;  /* 2 × n_runs: of the model, the reference */
};

static double value(const qn_array *a, uint64_t i)
{
    switch (a->dtype) {
    case QN_F32: return (double)((const float *)a->data)[i];
    case QN_F64: return ((const double *)a->data)[i];
    case QN_I64: return (double)((const int64_t *)a->data)[i];
    case QN_I32: return ((const int32_t *)a->data)[i];
    case QN_I8: return ((const int8_t *)a->data)[i];
    default: return ((const uint8_t *)a->data)[i];
    }
}

static bool is_number(uint8_t t)
{
    return t == QN_F32 || t == QN_F64 || t == QN_I64 || t == QN_I32 || t == QN_I8 || t == QN_U8 || t == QN_BOOL;
}

static uint64_t width_of(const qn_array *a)
{
    return a->rank && a->dims[a->rank - 1] > 1 ? (uint64_t)a->dims[a->rank - 1] : 0;
}

/* First of the largest of a row. */
static uint64_t top(const qn_array *a, uint64_t row, uint64_t width)
{
    uint64_t best = 0;
    for (uint64_t i = 1; i < width; i++)
        if (value(a, row * width + i) > value(a, row * width + best))
            best = i;
    return best;
}

static qn_code compare(struct run *r, uint64_t run, uint32_t i, const qn_array *y, const qn_array *ref, qn_err *err)
{
    qn_io_output *o = &r->e->outputs[i];
    char text[2][128];
    if (y->rank != ref->rank || y->n != ref->n || memcmp(y->dims, ref->dims, y->rank * sizeof *y->dims) != 0 || !is_number(y->dtype) ||
        !is_number(ref->dtype))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "output '%.100s' is %s, the reference's %s", o->name, qn_array_text(y, text[0]),
                       qn_array_text(ref, text[1]));
    for (uint64_t k = 0; k < y->n; k++) {
        const double a = value(y, k), b = value(ref, k), d = a - b;
        if (!isfinite(a) || !isfinite(b)) {
            if (isfinite(a) == isfinite(b) && (a == b || (isnan(a) && isnan(b))))
                continue;
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "output '%.100s', value %" PRIu64 " of run %" PRIu64 " is %f, the reference's %f", o->name,
                           k, run, a, b);
        }
        o->diff2 += d * d;
        o->ref2 += b * b;
        o->own2 += a * a;
        o->dot += a * b;
        o->max_abs = fmax(o->max_abs, fabs(d));
        o->max_ref = fmax(o->max_ref, fabs(b));
    }
    o->n_values += y->n;
    const uint64_t width = width_of(y);
    qn_chunk_score *c = &r->tops[i * r->e->n_runs + run];
    for (uint64_t row = 0; width && row < y->n / width; row++) {
        c->n++;
        c->n_same_top += top(y, row, width) == top(ref, row, width);
    }
    o->n_rows += c->n;
    return QN_OK;
}

static qn_code judge(struct run *r, uint64_t run, const qn_array *y, const qn_array *ref, qn_err *err)
{
    const uint64_t width = width_of(y), rows = width ? y->n / width : 0;
    if (!is_number(y->dtype) || !width || rows > r->n_labels - r->label_at)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " labels, and more rows than that in output '%.100s'", r->n_labels, r->e->outputs[0].name);
    for (uint64_t k = 0; k < rows; k++) {
        const int64_t want = r->labels[r->label_at++];
        if (want < 0 || (uint64_t)want >= width)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "label %" PRIu64 " is %" PRId64 "; the output has %" PRIu64 " classes", r->label_at - 1, want, width);
        r->right[run].n++;
        r->right[run].n_top += top(y, k, width) == (uint64_t)want;
        if (ref->data) {
            r->right[r->e->n_runs + run].n++;
            r->right[r->e->n_runs + run].n_top += top(ref, k, width) == (uint64_t)want;
        }
    }
    return QN_OK;
}

static qn_code one_run(struct run *r, uint64_t run, qn_err *err)
{
    qn_array in[QN_IO_INPUTS_MAX], y[OUTPUTS_MAX], ref[OUTPUTS_MAX];
    memset(in, 0, sizeof in);
    memset(y, 0, sizeof y);
    memset(ref, 0, sizeof ref);
    r->feed->pool = qn_exec_pool(r->model);
    qn_code rc = qn_io_feed_batch(r->feed, run, in, err);
    if (rc == QN_OK)
        rc = qn_exec_run(r->model, in, y, err);
    if (rc == QN_OK && r->ref)
        rc = qn_exec_run(r->ref, in, ref, err);
    for (uint32_t i = 0; rc == QN_OK && r->ref && i < r->e->n_outputs; i++)
        rc = compare(r, run, i, &y[i], &ref[i], err);
    if (rc == QN_OK && r->labels)
        rc = judge(r, run, &y[0], &ref[0], err);
    for (uint32_t i = 0; i < r->graph->n_inputs; i++)
        qn_array_release(&in[i]);
    for (uint32_t i = 0; i < r->e->n_outputs; i++) {
        qn_array_release(&y[i]);
        qn_array_release(&ref[i]);
    }
    return rc;
}

static void summarise(struct run *r)
{
    qn_io_eval *e = r->e;
    const qn_estimate nothing = {.value = (double)NAN, .se = (double)NAN, .low = (double)NAN, .high = (double)NAN};
    for (uint32_t i = 0; i < e->n_outputs; i++) {
        qn_io_output *o = &e->outputs[i];
        o->same_top = r->ref && o->n_rows ? qn_share_of(r->tops + i * e->n_runs, e->n_runs, true) : nothing;
        o->right = r->labels && i == 0 ? qn_share_of(r->right, e->n_runs, false) : nothing;
        o->right_ref = r->labels && r->ref && i == 0 ? qn_share_of(r->right + e->n_runs, e->n_runs, false) : nothing;
    }
}

static qn_code keep_runs(struct run *r, qn_err *err)
{
    qn_io_eval *e = r->e;
    e->runs = qn_mem_zeros(r->env->alloc, e->n_runs, sizeof *e->runs, err);
    if (!e->runs)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < e->n_runs && e->n_outputs; i++) {
        e->runs[i] = r->tops[i];
        e->runs[i].n_top = r->right[i].n_top;
        if (!r->ref)
            e->runs[i].n = r->right[i].n;
    }
    return QN_OK;
}

static qn_code check_graph(const qn_graph *g, qn_err *err)
{
    QN_TRY(qn_graph_check_runs(g, err));
    if (g->n_outputs > OUTPUTS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model has %" PRIu32 " outputs; at most %d are supported", g->n_outputs, (int)OUTPUTS_MAX);
    return QN_OK;
}

static qn_code check_pair(const qn_graph *a, const qn_graph *b, qn_err *err)
{
    if (a->n_outputs != b->n_outputs || a->n_inputs != b->n_inputs)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model has %" PRIu32 " inputs and %" PRIu32 " outputs, its reference %" PRIu32 " and %" PRIu32,
                       a->n_inputs, a->n_outputs, b->n_inputs, b->n_outputs);
    for (uint32_t i = 0; i < a->n_inputs; i++)
        if (strcmp(a->values[a->inputs[i]].name, b->values[b->inputs[i]].name) != 0)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "input %" PRIu32 " is '%.100s', the reference's '%.100s'", i, a->values[a->inputs[i]].name,
                           b->values[b->inputs[i]].name);
    return QN_OK;
}

static qn_code measure(struct run *r, qn_err *err)
{
    for (uint64_t i = 0; i < r->e->n_runs; i++) {
        QN_TRY(one_run(r, i, err));
        if (r->env->progress)
            r->env->progress(r->env->progress_ctx, "evaluating runs", i + 1, r->e->n_runs);
    }
    if (r->labels && r->label_at != r->n_labels && !r->feed->cut)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " labels for %" PRIu64 " rows of output '%.100s'", r->n_labels, r->label_at,
                       r->e->outputs[0].name);
    return QN_OK;
}

static qn_code evaluate(const qn_env *env, const qn_graph *model, const qn_exec_options *from, const qn_graph *ref, qn_io_feed *feed, const int64_t *labels,
                        uint64_t n_labels, uint64_t memory_bytes, qn_io_eval *out, qn_err *err)
{
    *out = (qn_io_eval){.alloc = env->alloc, .n_outputs = model->n_outputs, .n_runs = feed->n_batches, .n_samples = feed->n_samples, .n_labels = n_labels};
    struct run r = {.env = env, .graph = model, .feed = feed, .labels = labels, .n_labels = n_labels, .e = out};
    if (memory_bytes && memory_bytes < QN_EXEC_BESIDE_BYTES + QN_EXEC_BESIDE_BYTES / 4)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "--memory leaves no room: at least %" PRIu64 " MiB are needed",
                       (uint64_t)(QN_EXEC_BESIDE_BYTES + QN_EXEC_BESIDE_BYTES / 4) >> 20);
    const qn_exec_options o = {.memory_bytes = memory_bytes ? (memory_bytes - QN_EXEC_BESIDE_BYTES) / (ref ? 2 : 1) : 0};
    qn_exec_options mine = o;
    mine.read = from->read;
    mine.read_ctx = from->read_ctx;
    QN_TRY(check_graph(model, err));
    if (ref) {
        QN_TRY(check_graph(ref, err));
        QN_TRY(check_pair(model, ref, err));
    }
    bool over = false;
    const uint64_t n_tops = qn_mul(out->n_outputs, out->n_runs, &over);
    out->outputs = qn_mem_zeros(env->alloc, out->n_outputs, sizeof *out->outputs, err);
    r.tops = out->outputs && !over ? qn_mem_zeros(env->alloc, n_tops, sizeof *r.tops, err) : NULL;
    r.right = r.tops ? qn_mem_zeros(env->alloc, 2 * out->n_runs, sizeof *r.right, err) : NULL;
    qn_code rc = r.right ? QN_OK : QN_E_MEMORY;
    for (uint32_t i = 0; i < out->n_outputs && rc == QN_OK; i++)
        out->outputs[i].name = model->values[model->outputs[i]].name;
    if (rc == QN_OK)
        rc = qn_exec_open(env, model, &mine, &r.model, err);
    if (rc == QN_OK && ref)
        rc = qn_exec_open(env, ref, &o, &r.ref, err);
    if (rc == QN_OK)
        rc = measure(&r, err);
    if (rc == QN_OK)
        rc = keep_runs(&r, err);
    if (rc == QN_OK) {
        summarise(&r);
        out->peak_bytes = qn_exec_peak_bytes(r.model) + (r.ref ? qn_exec_peak_bytes(r.ref) : 0);
    }
    qn_exec_close(r.ref);
    qn_exec_close(r.model);
    qn_mem_put(env->alloc, r.tops);
    qn_mem_put(env->alloc, r.right);
    if (rc != QN_OK)
        qn_io_eval_release(out);
    return rc;
}

qn_code qn_evaluate_io(const qn_env *env, const qn_graph *model, const qn_graph *ref, qn_io_feed *feed, const int64_t *labels,
                       uint64_t n_labels, uint64_t memory_bytes, qn_io_eval *out, qn_err *err)
{
    return evaluate(env, model, &(qn_exec_options){0}, ref, feed, labels, n_labels, memory_bytes, out, err);
}

qn_code qn_evaluate_io_with(const qn_env *env, const qn_graph *model, qn_weight_read read, void *read_ctx, const qn_graph *ref, qn_io_feed *feed,
                            uint64_t memory_bytes, qn_io_eval *out, qn_err *err)
{
    return evaluate(env, model, &(qn_exec_options){.read = read, .read_ctx = read_ctx}, ref, feed, NULL, 0, memory_bytes, out, err);
}

void qn_io_eval_release(qn_io_eval *e)
{
    qn_mem_put(e->alloc, e->outputs);
    qn_mem_put(e->alloc, e->runs);
    e->outputs = NULL;
    e->runs = NULL;
}

double qn_io_rel_rms(const qn_io_output *o)
{
    return o->ref2 > 0 ? sqrt(o->diff2 / o->ref2) : o->diff2 > 0 ? (double)INFINITY : 0;
}

double qn_io_max_rel(const qn_io_output *o)
{
    return o->max_ref > 0 ? o->max_abs / o->max_ref : o->max_abs > 0 ? (double)INFINITY : 0;
}

double qn_io_cosine(const qn_io_output *o)
{
    const double n = sqrt(o->own2) * sqrt(o->ref2);
    return n > 0 ? o->dot / n : o->diff2 > 0 ? 0 : 1;
}
