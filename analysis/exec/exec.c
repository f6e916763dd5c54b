/* exec.c: opening an executor, running a graph node by node. */
#include "analysis/exec/exec_impl.h"
#include "base/err.h"
#include <cblas.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Below this many elementary operations a step is done by one thread. */
enum { PARALLEL_WORK = 1 << 16 };

static uint64_t weight_bytes(const qn_graph *g)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < g->n_values; i++)
        if (g->values[i].kind == QN_VALUE_WEIGHT)
            sum += qn_value_elems(&g->values[i]) * 4;
    return sum;
}

qn_code qn_exec_open(const qn_env *env, const qn_graph *g, const qn_exec_options *o, qn_exec **out, qn_err *err)
{
    if (!g->sealed)
        return QN_BUG(err, "the graph is not sealed");
    qn_exec *x = qn_mem_zeros(env->alloc, 1, sizeof *x, err);
    if (!x)
        return QN_E_MEMORY;
    x->env = env;
    x->graph = g;
    if (o)
        x->options = *o;
    x->pool.alloc = env->alloc;
    x->pool.limit_bytes = x->options.memory_bytes;
    const uint64_t limit = x->options.memory_bytes, all = weight_bytes(g);
    x->keep_weights = !limit || all <= limit / 2;
    x->whole_bytes = limit ? limit / 8 : UINT64_MAX;
    x->weights = qn_mem_zeros(env->alloc, g->source ? g->source->n_tensors + 1 : 1, sizeof *x->weights, err);
    if (!x->weights || qn_team_open(env, env->n_threads, &x->team, err) != QN_OK) {
        qn_exec_close(x);
        return QN_E_MEMORY;
    }
    openblas_set_num_threads(1); /* the work is cut here, by rules of our own */
    *out = x;
    return QN_OK;
}

void qn_exec_close(qn_exec *x)
{
    if (!x)
        return;
    if (x->weights)
        qn_weights_drop(x);
    qn_mem_put(x->env->alloc, x->weights);
    qn_team_close(x->team);
    qn_mem_put(x->env->alloc, x);
}

qn_code qn_frame_new(qn_exec *x, const qn_graph *g, qn_frame *f, qn_err *err)
{
    *f = (qn_frame){.graph = g, .up = x->frame};
    f->values = qn_mem_zeros(x->env->alloc, g->n_values ? g->n_values : 1, sizeof *f->values, err);
    return f->values ? QN_OK : QN_E_MEMORY;
}

void qn_frame_release(qn_exec *x, qn_frame *f)
{
    if (f->values)
        for (uint32_t i = 0; i < f->graph->n_values; i++)
            qn_array_release(&f->values[i]);
    qn_mem_put(x->env->alloc, f->values);
    f->values = NULL;
}

/* A value for reading: not a reference of its own. */
static qn_code look(qn_exec *x, const qn_frame *f, uint32_t value, bool by_rows, qn_array *out, qn_err *err)
{
    const qn_value *v = &f->graph->values[value];
    switch ((qn_value_kind)v->kind) {
    case QN_VALUE_CONST: *out = v->data; return QN_OK;
    case QN_VALUE_WEIGHT: return qn_weight_get(x, f->graph, value, by_rows, out, err);
    case QN_VALUE_OUTER:
        if (!f->up)
            return QN_BUG(err, "value '%s' of the graph around, and there is none", v->name);
        return look(x, f->up, v->outer, by_rows, out, err);
    case QN_VALUE_INPUT:
    case QN_VALUE_NODE:
        *out = f->values[value];
        if (out->dtype == QN_BYTES)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "value '%s' has not been computed", v->name);
        return QN_OK;
    }
    return QN_BUG(err, "value of no kind");
}

enum { OPERANDS = 64 }; /* a node with more takes its lists from the heap */

static qn_code run_node(qn_exec *x, qn_frame *f, uint32_t index, qn_err *err)
{
    const qn_node *n = &f->graph->nodes[index];
    if (!n->op || !n->op->forward)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model cannot be run: operator %s%s%s of node '%s' is not known",
                       n->domain, *n->domain ? "." : "", n->type, n->name);
    qn_array few[OPERANDS], *in = few, *out;
    const unsigned total = (unsigned)n->n_in + n->n_out;
    if (total > OPERANDS && !(in = qn_mem_get(x->env->alloc, (uint64_t)total * sizeof *in, err)))
        return QN_E_MEMORY;
    memset(in, 0, total * sizeof *in);
    out = in + n->n_in;
    qn_code rc = QN_OK;
    for (unsigned i = 0; i < n->n_in && rc == QN_OK; i++)
        if (n->in[i] != QN_NO_VALUE)
            rc = look(x, f, n->in[i], n->op->by_rows, &in[i], err);
    if (rc == QN_OK)
        rc = n->op->forward(x, n, in, out, err);
    for (unsigned i = 0; i < n->n_out && rc == QN_OK; i++)
        if (n->out[i] != QN_NO_VALUE && out[i].dtype == QN_BYTES)
            rc = QN_FAIL(err, QN_E_BUG, QN_NO_OFFSET, "output %u was not computed", i);
    if (rc == QN_OK && x->options.on_output)
        rc = x->options.on_output(x->options.tap_ctx, f->graph, index, out, err);
    for (unsigned i = 0; i < n->n_out; i++) {
        if (rc == QN_OK && n->out[i] != QN_NO_VALUE && f->graph->last_use[n->out[i]] != QN_NO_NODE)
            f->values[n->out[i]] = out[i];
        else
            qn_array_release(&out[i]);
    }
    if (in != few)
        qn_mem_put(x->env->alloc, in);
    /* What names a weight needs no node. */
    return err && err->tensor[0] ? rc : qn_node_fail(n, rc, err);
}

qn_code qn_frame_run(qn_exec *x, qn_frame *f, uint32_t first, uint32_t last, qn_err *err)
{
    qn_frame *const before = x->frame;
    x->frame = f;
    qn_code rc = QN_OK;
    for (uint32_t i = first; i < last && rc == QN_OK; i++) {
        rc = qn_env_check(x->env, err);
        if (rc == QN_OK)
            rc = run_node(x, f, i, err);
        const qn_node *n = &f->graph->nodes[i];
        for (unsigned k = 0; k < n->n_in && rc == QN_OK; k++)
            if (n->in[k] != QN_NO_VALUE && f->graph->last_use[n->in[k]] == i)
                qn_array_release(&f->values[n->in[k]]);
        /* What only the subgraphs of this node have read. */
        for (unsigned k = 0; k < n->n_attrs && rc == QN_OK; k++)
            if (n->attrs[k].type == QN_ATTR_GRAPH)
                for (uint32_t v = 0; v < n->attrs[k].v.graph->n_values; v++) {
                    const qn_value *o = &n->attrs[k].v.graph->values[v];
                    if (o->kind == QN_VALUE_OUTER && f->graph->last_use[o->outer] == i)
                        qn_array_release(&f->values[o->outer]);
                }
    }
    x->frame = before;
    return rc;
}

/* What a run has computed before block `first` and needs later. */
static void take_held(qn_frame *f, uint32_t first, const qn_array *held)
{
    const qn_graph *g = f->graph;
    const uint32_t at = g->blocks[first].first_node;
    for (uint32_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == QN_VALUE_NODE && g->values[v].node < at && g->last_use[v] != QN_NO_NODE && g->last_use[v] >= at)
            qn_array_share(&held[v], &f->values[v]);
}

/* Feeds are taken as references; outputs given as such. held NULL: from the first block on. */
static qn_code run_graph(qn_exec *x, const qn_graph *g, uint32_t first, const qn_array *held, const qn_array *feeds, qn_array *outs, qn_err *err)
{
    qn_frame f;
    QN_TRY(qn_frame_new(x, g, &f, err));
    if (held)
        take_held(&f, first, held);
    for (uint32_t i = 0; i < g->n_inputs; i++)
        qn_array_share(&feeds[i], &f.values[g->inputs[i]]);
    for (uint32_t i = 0; i < g->n_outputs; i++)
        memset(&outs[i], 0, sizeof outs[i]);
    qn_code rc = QN_OK;
    for (uint32_t b = first; b < g->n_blocks && rc == QN_OK; b++) {
        rc = qn_frame_run(x, &f, g->blocks[b].first_node, g->blocks[b].first_node + g->blocks[b].n_nodes, err);
        if (!f.up && !x->keep_weights && b + 1 < g->n_blocks)
            qn_weights_drop(x);
    }
    qn_frame *const before = x->frame;
    x->frame = &f;
    for (uint32_t i = 0; i < g->n_outputs && rc == QN_OK; i++) {
        qn_array a;
        rc = look(x, &f, g->outputs[i], false, &a, err);
        if (rc == QN_OK && (a.buffer || g->values[g->outputs[i]].kind == QN_VALUE_CONST))
            qn_array_share(&a, &outs[i]);
        else if (rc == QN_OK) { /* the caller's own feed given back: a copy, so that it outlives the feed */
            rc = qn_array_new(&x->pool, &outs[i], (qn_dtype)a.dtype, a.dims, a.rank, err);
            if (rc == QN_OK && a.n)
                memcpy(outs[i].data, a.data, qn_array_bytes(&a));
        }
    }
    x->frame = before;
    if (rc != QN_OK)
        for (uint32_t i = 0; i < g->n_outputs; i++)
            qn_array_release(&outs[i]);
    qn_frame_release(x, &f);
    return rc;
}

qn_code qn_exec_run_from(qn_exec *x, uint32_t first, const qn_array *held, const qn_array *feeds, qn_array *outs, qn_err *err)
{
    if (first && first >= x->graph->n_blocks)
        return QN_BUG(err, "block %" PRIu32 " of %" PRIu32, first, x->graph->n_blocks);
    const qn_code rc = run_graph(x, x->graph, first, first ? held : NULL, feeds, outs, err);
    if (!x->keep_weights)
        qn_weights_drop(x);
    return rc;
}

qn_code qn_exec_run(qn_exec *x, const qn_array *feeds, qn_array *outs, qn_err *err)
{
    return qn_exec_run_from(x, 0, NULL, feeds, outs, err);
}

qn_code qn_exec_subgraph(qn_exec *x, const qn_graph *sub, const qn_array *feeds, qn_array *outs, qn_err *err)
{
    return run_graph(x, sub, 0, NULL, feeds, outs, err);
}

uint64_t qn_exec_peak_bytes(const qn_exec *x)
{
    return atomic_load(&x->pool.peak_bytes);
}

const qn_env *qn_exec_env(const qn_exec *x)
{
    return x->env;
}

qn_pool *qn_exec_pool(qn_exec *x)
{
    return &x->pool;
}

qn_code qn_exec_new(qn_exec *x, qn_array *t, qn_dtype dtype, const int64_t *dims, unsigned rank, qn_err *err)
{
    return qn_array_new(&x->pool, t, dtype, dims, rank, err);
}

bool qn_exec_spare(const qn_exec *x, const qn_node *n, unsigned i, const qn_array *in)
{
    const qn_frame *f = x->frame;
    if (!f || i >= n->n_in || !qn_array_is_only(&in[i]) || f->graph->values[n->in[i]].kind != QN_VALUE_NODE)
        return false;
    if (f->graph->last_use[n->in[i]] != (uint32_t)(n - f->graph->nodes))
        return false;
    for (unsigned k = 0; k < n->n_in; k++)
        if (k != i && n->in[k] == n->in[i])
            return false;
    for (unsigned k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH)
            return false;
    return true;
}

bool qn_exec_listens(const qn_exec *x)
{
    return x->options.on_input != NULL && !x->hushed;
}

void qn_exec_hush(qn_exec *x, bool hush)
{
    x->hushed = hush;
}

qn_code qn_exec_input(qn_exec *x, uint32_t weight, uint32_t part, const float *rows, uint64_t n_rows, uint64_t n, uint64_t ld,
                      qn_err *err)
{
    if (!qn_exec_listens(x) || weight == QN_NO_VALUE)
        return QN_OK;
    const qn_frame *f = x->frame;
    while (f->graph->values[weight].kind == QN_VALUE_OUTER && f->up) {
        weight = f->graph->values[weight].outer;
        f = f->up;
    }
    if (f->graph->values[weight].kind != QN_VALUE_WEIGHT)
        return QN_OK;
    return x->options.on_input(x->options.tap_ctx, f->graph, weight, part, rows, n_rows, n, ld, err);
}

qn_code qn_exec_parts(qn_exec *x, uint64_t n, uint64_t n_work, qn_part_fn fn, void *ctx, qn_err *err)
{
    if (x->team && n_work >= PARALLEL_WORK)
        return qn_team_run(x->team, n, fn, ctx, err);
    for (uint64_t i = 0; i < n; i++)
        QN_TRY(fn(ctx, i, 0, err));
    return QN_OK;
}
