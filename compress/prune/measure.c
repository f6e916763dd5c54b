/* measure.c: see measure.h. */
#include "compress/prune/measure.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/kl.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { OUTPUTS_MAX = 32, INPUTS_MAX = 32, ROWS_PER_PART = 8, VALUES_PER_PART = 1 << 14 };
#define UNLIMITED_KEEPS (1ull << 30) /* bytes of outputs, and of what flows between blocks, that are kept when no limit is given */
#define SUM_IS_ONE      1e-3

typedef enum kind { LOGITS, PROBS, ERROR } kind;

struct qn_measure {
    const qn_env *env;
    const qn_graph *graph;
    qn_calibrate_feed feed;
    uint64_t n_batches, memory_bytes, keep_bytes;
    kind kind;
    qn_exec *exec;          /* of changed models                                  */
    qn_exec *ref;           /* of the dense one, when its outputs are not kept     */
    const qn_overlay *now;  /* the weights of `exec`; NULL: the graph's own        */
    bool *loaded;           /* per value: `exec` may hold it as an overlay had it  */
    uint32_t *reader;       /* per value: the first block that reads it            */
    /* What flows: value v of batch b is held[b · n_flows + flow[v]]; UINT32_MAX: not kept. A run may begin at every `stride`-th block. */
    uint32_t *flow;
    uint32_t n_flows, stride;
    uint64_t batch;         /* that runs now, of the dense model; for the tap      */
    qn_array *held, *dense; /* dense: n_outputs per batch, empty when not kept     */
    qn_array *frame;        /* n_values: what qn_exec_run_from wants               */
    bool tap;
};

/* --- what a run may begin with ------------------------------------------------------------------------------------- */

/* Is v computed before the block and read in it or later? */
static bool crosses(const qn_graph *g, uint32_t v, uint32_t block)
{
    const uint32_t at = g->blocks[block].first_node;
    return g->values[v].kind == QN_VALUE_NODE && g->values[v].node < at && g->last_use[v] != QN_NO_NODE && g->last_use[v] >= at;
}

static void read_by(const qn_node *n, uint32_t block, uint32_t *reader)
{
    for (unsigned k = 0; k < n->n_in; k++)
        if (n->in[k] != QN_NO_VALUE && block < reader[n->in[k]])
            reader[n->in[k]] = block;
    for (unsigned k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH)
            for (uint32_t v = 0; v < n->attrs[k].v.graph->n_values; v++) {
                const qn_value *o = &n->attrs[k].v.graph->values[v];
                if (o->kind == QN_VALUE_OUTER && block < reader[o->outer])
                    reader[o->outer] = block;
            }
}

static qn_code remember(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    (void)err;
    qn_measure *m = ctx;
    if (!m->tap || g != m->graph)
        return QN_OK;
    for (unsigned i = 0; i < g->nodes[node].n_out; i++) {
        const uint32_t v = g->nodes[node].out[i];
        if (v == QN_NO_VALUE || m->flow[v] == UINT32_MAX)
            continue;
        qn_array *h = &m->held[m->batch * m->n_flows + m->flow[v]];
        qn_array_release(h);
        qn_array_share(&out[i], h);
    }
    return QN_OK;
}

/* Numbers the values that cross into one of the blocks that a run may begin at. */
static void number_flows(qn_measure *m)
{
    const qn_graph *g = m->graph;
    m->n_flows = 0;
    for (uint32_t v = 0; v < g->n_values; v++) {
        bool some = false;
        for (uint32_t b = m->stride; b < g->n_blocks && !some; b += m->stride)
            some = crosses(g, v, b);
        m->flow[v] = some ? m->n_flows++ : UINT32_MAX;
    }
}

/* The first batch tells how much flows: as many blocks as fit, evenly. Its held values are let go. */
static void choose_stride(qn_measure *m)
{
    const qn_graph *g = m->graph;
    for (m->stride = 1; m->stride < g->n_blocks; m->stride++) {
        uint64_t n_bytes = 0;
        bool over = false;
        for (uint32_t v = 0; v < g->n_values; v++) {
            bool some = false;
            for (uint32_t b = m->stride; b < g->n_blocks && !some; b += m->stride)
                some = crosses(g, v, b);
            n_bytes += some && m->flow[v] != UINT32_MAX ? qn_array_bytes(&m->held[m->flow[v]]) : 0;
        }
        n_bytes = qn_mul(n_bytes, m->n_batches, &over);
        if (!over && n_bytes <= m->keep_bytes / 2)
            break;
    }
    for (uint32_t i = 0; i < m->n_flows; i++)
        qn_array_release(&m->held[i]);
    qn_mem_put(m->env->alloc, m->held);
    m->held = NULL;
    number_flows(m);
}

/* --- running ------------------------------------------------------------------------------------------------------- */

static qn_code read(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const qn_measure *m = ctx;
    union {
        const qn_overlay *c;
        void *v;
    } now = {.c = m->now}; /* the loader's context is not const; it is only read */
    return m->now ? qn_overlay_read(now.v, g, value, first, n, dst, err) : qn_weight_from_source(m->env, g->source, g, value, first, n, dst, err);
}

static qn_code run_batch(qn_measure *m, qn_exec *x, uint32_t first, uint64_t batch, qn_array *outs, qn_err *err)
{
    qn_array feeds[INPUTS_MAX];
    memset(feeds, 0, sizeof feeds);
    *m->feed.pool = qn_exec_pool(x);
    qn_code rc = m->feed.feed(m->feed.ctx, batch, feeds, err);
    for (uint32_t v = 0; first && v < m->graph->n_values; v++)
        if (m->flow[v] != UINT32_MAX)
            m->frame[v] = m->held[batch * m->n_flows + m->flow[v]];
    if (rc == QN_OK)
        rc = qn_exec_run_from(x, first, m->frame, feeds, outs, err);
    for (uint32_t i = 0; i < m->graph->n_inputs; i++)
        qn_array_release(&feeds[i]);
    return rc;
}

static void release_outs(const qn_measure *m, qn_array *outs)
{
    for (uint32_t i = 0; i < m->graph->n_outputs; i++)
        qn_array_release(&outs[i]);
}

/* --- comparing ----------------------------------------------------------------------------------------------------- */

static double value(const qn_array *a, uint64_t i)
{
    return a->dtype == QN_F64 ? ((const double *)a->data)[i] : (double)((const float *)a->data)[i];
}

static bool is_float(const qn_array *a)
{
    return a->dtype == QN_F32 || a->dtype == QN_F64;
}

static bool same_shape(const qn_array *a, const qn_array *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

/* Values in a row of the first output; 0: there are no rows to speak of. */
static uint64_t width_of(const qn_array *a)
{
    return a->dtype == QN_F32 && a->rank && a->dims[a->rank - 1] > 1 ? (uint64_t)a->dims[a->rank - 1] : 0;
}

static bool is_probs(const qn_array *a)
{
    const uint64_t width = width_of(a);
    const float *p = a->data;
    for (uint64_t i = 0; width && i < a->n; i += width) {
        double sum = 0;
        for (uint64_t k = i; k < i + width; k++) {
            sum += (double)p[k];
            if (!(p[k] >= 0))
                return false;
        }
        if (!(fabs(sum - 1) < SUM_IS_ONE))
            return false;
    }
    return width > 0;
}

struct compare {
    kind kind;
    const qn_array *y, *ref;
    uint64_t width;
    double *part;  /* per row its divergence; per part of an output Σ (y − ref)² and Σ ref² */
    bool *same;    /* per row */
};

static uint64_t top(const float *x, uint64_t n)
{
    uint64_t best = 0;
    for (uint64_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static qn_code compare_rows(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct compare *c = ctx;
    const uint64_t n_rows = c->ref->n / c->width;
    for (uint64_t i = part * ROWS_PER_PART; i < n_rows && i < (part + 1) * ROWS_PER_PART; i++) {
        const float *p = (const float *)c->ref->data + i * c->width, *q = (const float *)c->y->data + i * c->width;
        c->same[i] = top(p, c->width) == top(q, c->width);
        c->part[i] = c->kind == LOGITS ? qn_kl_logits(p, q, c->width) : c->kind == PROBS ? qn_kl_probs(p, q, c->width) : 0;
    }
    return QN_OK;
}

static qn_code compare_values(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct compare *c = ctx;
    double diff2 = 0, ref2 = 0;
    for (uint64_t i = part * VALUES_PER_PART; i < c->ref->n && i < (part + 1) * VALUES_PER_PART; i++) {
        const double b = value(c->ref, i), d = value(c->y, i) - b;
        diff2 += d * d;
        ref2 += b * b;
    }
    c->part[2 * part] = diff2;
    c->part[2 * part + 1] = ref2;
    return QN_OK;
}

struct sums {
    double kl, diff2, ref2;
    uint64_t n_rows, n_same;
    bool apart; /* the first outputs cannot be compared */
};

static qn_code compare_output(qn_measure *m, const qn_array *y, const qn_array *ref, bool first, struct sums *s, qn_err *err)
{
    if (!is_float(ref))
        return QN_OK;
    if (!same_shape(y, ref)) {
        for (uint64_t i = 0; i < ref->n; i++)
            s->ref2 += value(ref, i) * value(ref, i);
        for (uint64_t i = 0; i < ref->n; i++) /* as if nothing of it were right */
            s->diff2 += value(ref, i) * value(ref, i);
        s->apart |= first && m->kind != ERROR;
        return QN_OK;
    }
    const uint64_t width = first ? width_of(ref) : 0, n_rows = width ? ref->n / width : 0, n_parts = qn_ceil_div(ref->n, VALUES_PER_PART);
    struct compare c = {.kind = m->kind, .y = y, .ref = ref, .width = width};
    c.part = qn_mem_get(m->env->alloc, (qn_max_u64(n_rows, 2 * n_parts) + 1) * sizeof *c.part, err);
    c.same = c.part ? qn_mem_get(m->env->alloc, n_rows + 1, err) : NULL;
    qn_code rc = c.same ? qn_exec_parts(m->exec, n_parts, ref->n, compare_values, &c, err) : QN_E_MEMORY;
    for (uint64_t i = 0; i < n_parts && rc == QN_OK; i++) {
        s->diff2 += c.part[2 * i];
        s->ref2 += c.part[2 * i + 1];
    }
    if (rc == QN_OK && n_rows)
        rc = qn_exec_parts(m->exec, qn_ceil_div(n_rows, ROWS_PER_PART), ref->n * 16, compare_rows, &c, err);
    for (uint64_t i = 0; i < n_rows && rc == QN_OK; i++) {
        s->kl += c.part[i];
        s->n_same += c.same[i];
    }
    s->n_rows += n_rows;
    qn_mem_put(m->env->alloc, c.same);
    qn_mem_put(m->env->alloc, c.part);
    return rc;
}

static qn_code one_batch(qn_measure *m, uint32_t block, uint64_t batch, struct sums *s, qn_err *err)
{
    qn_array y[OUTPUTS_MAX], again[OUTPUTS_MAX], *ref = m->dense ? &m->dense[batch * m->graph->n_outputs] : again;
    memset(y, 0, sizeof y);
    memset(again, 0, sizeof again);
    qn_code rc = run_batch(m, m->exec, block, batch, y, err);
    if (rc == QN_OK && !m->dense)
        rc = run_batch(m, m->ref, 0, batch, again, err);
    for (uint32_t i = 0; i < m->graph->n_outputs && rc == QN_OK; i++)
        rc = compare_output(m, &y[i], &ref[i], i == 0, s, err);
    release_outs(m, y);
    release_outs(m, again);
    return rc;
}

/* The block to begin at: nothing before it is changed. Weights that an overlay changes, or changed, are read anew. */
static uint32_t put_weights(qn_measure *m, const qn_overlay *w)
{
    const qn_graph *g = m->graph;
    uint32_t first = g->n_blocks ? g->n_blocks - 1 : 0;
    m->now = w;
    for (uint32_t v = 0; v < g->n_values; v++) {
        const bool changed = w && w->data[v];
        if (changed && m->reader[v] < first)
            first = m->reader[v];
        if (changed || m->loaded[v])
            qn_exec_forget(m->exec, v);
        m->loaded[v] = changed;
    }
    return m->stride < g->n_blocks ? first / m->stride * m->stride : 0;
}

qn_code qn_measure_run(qn_measure *m, const qn_overlay *w, uint64_t first, uint64_t n, qn_distance *out, qn_err *err)
{
    if (w && w->graph != m->graph)
        return QN_BUG(err, "an overlay of another graph");
    struct sums s = {0};
    const uint32_t block = put_weights(m, w);
    const uint64_t last = first < m->n_batches ? first + qn_min_u64(n, m->n_batches - first) : first;
    for (uint64_t b = first; b < last; b++)
        QN_TRY(one_batch(m, block, b, &s, err));
    const double e2 = s.ref2 > 0 ? s.diff2 / s.ref2 : s.diff2 > 0 ? (double)INFINITY : s.diff2;
    out->rel = isfinite(e2) ? sqrt(e2) : (double)INFINITY;
    out->loss = s.apart ? (double)INFINITY : m->kind == ERROR ? out->rel * out->rel : s.n_rows ? s.kl / (double)s.n_rows : 0;
    if (!isfinite(out->loss) || !isfinite(out->rel))
        out->loss = (double)INFINITY;
    out->same_top = s.n_rows ? (double)s.n_same / (double)s.n_rows : (double)NAN;
    out->n_rows = s.n_rows;
    return QN_OK;
}

uint64_t qn_measure_batches(const qn_measure *m)
{
    return m->n_batches;
}

bool qn_measure_is_divergence(const qn_measure *m)
{
    return m->kind != ERROR;
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

static qn_code check_dense(const qn_measure *m, const qn_array *outs, bool *probs, bool *logits, qn_err *err)
{
    for (uint32_t i = 0; i < m->graph->n_outputs; i++)
        for (uint64_t k = 0; is_float(&outs[i]) && k < outs[i].n; k++)
            if (isnan(value(&outs[i], k)) || (isinf(value(&outs[i], k)) && (i || value(&outs[i], k) > 0)))
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "output '%.100s' of the dense model is not finite on batch %" PRIu64 " of the data",
                               m->graph->values[m->graph->outputs[i]].name, m->batch);
    *probs = *probs && is_probs(&outs[0]);
    *logits = *logits && width_of(&outs[0]) && outs[0].rank == 2;
    return QN_OK;
}

/* Outputs of the first batch: do those of all fit? */
static qn_code decide(qn_measure *m, const qn_array *outs, qn_err *err)
{
    uint64_t n_bytes = 0;
    bool over = false;
    choose_stride(m);
    for (uint32_t i = 0; i < m->graph->n_outputs; i++)
        n_bytes += qn_array_bytes(&outs[i]);
    n_bytes = qn_mul(n_bytes, m->n_batches, &over);
    const uint64_t n_held = qn_mul(m->n_flows, m->n_batches, &over), n_dense = qn_mul(m->graph->n_outputs, m->n_batches, &over);
    if (over)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "%" PRIu64 " batches are too many", m->n_batches);
    m->held = qn_mem_zeros(m->env->alloc, n_held + 1, sizeof *m->held, err);
    if (!m->held)
        return QN_E_MEMORY;
    if (n_bytes > m->keep_bytes) {
        const qn_exec_options o = {.memory_bytes = m->memory_bytes / 8 * 3};
        return qn_exec_open(m->env, m->graph, &o, &m->ref, err);
    }
    m->dense = qn_mem_zeros(m->env->alloc, n_dense + 1, sizeof *m->dense, err);
    return m->dense ? QN_OK : QN_E_MEMORY;
}

/* The first batch, to see how large things are. */
static qn_code run_first(qn_measure *m, qn_err *err)
{
    qn_array outs[OUTPUTS_MAX];
    memset(outs, 0, sizeof outs);
    m->tap = true;
    qn_code rc = run_batch(m, m->exec, 0, 0, outs, err);
    if (rc == QN_OK)
        rc = decide(m, outs, err);
    release_outs(m, outs);
    return rc;
}

static qn_code run_dense(qn_measure *m, qn_err *err)
{
    bool probs = true, logits = true;
    qn_array outs[OUTPUTS_MAX];
    for (m->batch = 0; m->batch < m->n_batches; m->batch++) {
        memset(outs, 0, sizeof outs);
        qn_code rc = run_batch(m, m->exec, 0, m->batch, outs, err);
        if (rc == QN_OK)
            rc = check_dense(m, outs, &probs, &logits, err);
        for (uint32_t i = 0; i < m->graph->n_outputs && rc == QN_OK && m->dense; i++)
            qn_array_share(&outs[i], &m->dense[m->batch * m->graph->n_outputs + i]);
        release_outs(m, outs);
        if (rc != QN_OK)
            return rc;
    }
    m->tap = false;
    m->kind = m->graph->n_vocab ? LOGITS : probs ? PROBS : logits ? LOGITS : ERROR;
    return QN_OK;
}

static qn_code prepare(qn_measure *m, qn_err *err)
{
    const qn_graph *g = m->graph;
    const qn_alloc *a = m->env->alloc;
    const uint64_t n = g->n_values + 1ull;
    m->loaded = qn_mem_zeros(a, n, sizeof *m->loaded, err);
    m->reader = m->loaded ? qn_mem_get(a, n * sizeof *m->reader, err) : NULL;
    m->flow = m->reader ? qn_mem_get(a, n * sizeof *m->flow, err) : NULL;
    m->frame = m->flow ? qn_mem_zeros(a, n, sizeof *m->frame, err) : NULL;
    if (!m->frame)
        return QN_E_MEMORY;
    for (uint32_t v = 0; v < g->n_values; v++)
        m->reader[v] = UINT32_MAX;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        read_by(&g->nodes[i], g->nodes[i].block, m->reader);
    m->stride = 1;
    number_flows(m);
    m->held = qn_mem_zeros(a, m->n_flows + 1ull, sizeof *m->held, err);
    return m->held ? QN_OK : QN_E_MEMORY;
}

qn_code qn_measure_open(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, uint64_t n_batches, uint64_t memory_bytes,
                        qn_measure **out, qn_err *err)
{
    QN_TRY(qn_graph_check_runs(g, err));
    if (g->n_outputs == 0 || g->n_outputs > OUTPUTS_MAX || g->n_inputs > INPUTS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model has %" PRIu32 " inputs and %" PRIu32 " outputs; at most %d are supported",
                       g->n_inputs, g->n_outputs, (int)OUTPUTS_MAX);
    if (memory_bytes && memory_bytes < QN_EXEC_BESIDE_BYTES + QN_EXEC_BESIDE_BYTES / 4)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "--memory leaves no room: at least %" PRIu64 " MiB are needed",
                       (uint64_t)(QN_EXEC_BESIDE_BYTES + QN_EXEC_BESIDE_BYTES / 4) >> 20);
    if (!feed->n_batches)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "there are no data to measure on");
    qn_measure *m = qn_mem_zeros(env->alloc, 1, sizeof *m, err);
    if (!m)
        return QN_E_MEMORY;
    m->env = env;
    m->graph = g;
    m->feed = *feed;
    m->n_batches = n_batches ? qn_min_u64(n_batches, feed->n_batches) : feed->n_batches;
    m->memory_bytes = memory_bytes ? memory_bytes - QN_EXEC_BESIDE_BYTES : 0;
    m->keep_bytes = memory_bytes ? m->memory_bytes / 4 : UNLIMITED_KEEPS;
    const qn_exec_options o = {.read = read, .read_ctx = m, .memory_bytes = m->memory_bytes / 8 * 5, .on_output = remember, .tap_ctx = m};
    qn_code rc = prepare(m, err);
    if (rc == QN_OK)
        rc = qn_exec_open(env, g, &o, &m->exec, err);
    if (rc == QN_OK)
        rc = run_first(m, err);
    if (rc == QN_OK)
        rc = run_dense(m, err);
    if (rc != QN_OK) {
        qn_measure_close(m);
        return rc;
    }
    *out = m;
    return QN_OK;
}

void qn_measure_close(qn_measure *m)
{
    if (!m)
        return;
    const qn_alloc *a = m->env->alloc;
    for (uint64_t i = 0; m->held && i < (m->dense || m->ref ? m->n_batches : 1) * m->n_flows; i++)
        qn_array_release(&m->held[i]);
    for (uint64_t i = 0; m->dense && i < m->n_batches * m->graph->n_outputs; i++)
        qn_array_release(&m->dense[i]);
    qn_exec_close(m->ref);
    qn_exec_close(m->exec);
    qn_mem_put(a, m->held);
    qn_mem_put(a, m->dense);
    qn_mem_put(a, m->loaded);
    qn_mem_put(a, m->reader);
    qn_mem_put(a, m->flow);
    qn_mem_put(a, m->frame);
    qn_mem_put(a, m);
}
