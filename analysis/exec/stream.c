/* stream.c: a model that does not fit, block by block over all batches. */
#include "analysis/exec/exec_impl.h"
#include "analysis/exec/shelf.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

struct qn_streamer {
    qn_exec *x;
    qn_stream s;
    uint32_t block;          /* the next one */
    uint32_t *live[2];       /* values that wait before and behind the block */
    uint32_t n_live[2];
    qn_shelf shelf[2];
};

/* Values computed before node `at` that are read by it or later. */
static uint32_t live_at(const qn_graph *g, uint32_t at, uint32_t *list)
{
    uint32_t n = 0;
    for (uint32_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == QN_VALUE_NODE && g->values[v].node < at && g->last_use[v] != QN_NO_NODE && g->last_use[v] >= at)
            list[n++] = v;
    return n;
}

static bool reads_input(const qn_graph *g, const qn_graph_block *b)
{
    for (uint32_t i = b->first_node; i < b->first_node + b->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        for (unsigned k = 0; k < n->n_in; k++)
            if (n->in[k] != QN_NO_VALUE && g->values[n->in[k]].kind == QN_VALUE_INPUT)
                return true;
        for (unsigned k = 0; k < n->n_attrs; k++)
            if (n->attrs[k].type == QN_ATTR_GRAPH)
                return true; /* may read anything */
    }
    return false;
}

enum { INPUTS_MAX = 64 };

static qn_code feed(qn_streamer *t, qn_frame *f, uint64_t batch, qn_err *err)
{
    const qn_graph *g = t->x->graph;
    qn_array inputs[INPUTS_MAX];
    memset(inputs, 0, sizeof inputs);
    const qn_code rc = t->s.feed(t->s.ctx, batch, inputs, err);
    for (uint32_t i = 0; i < g->n_inputs; i++)
        f->values[g->inputs[i]] = inputs[i];
    return rc;
}

/* The first batch tells how much will wait. */
static qn_code open_shelf(qn_streamer *t, qn_frame *f, qn_err *err)
{
    bool over = false;
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < t->n_live[1]; i++)
        n_bytes += qn_array_bytes(&f->values[t->live[1][i]]);
    n_bytes = qn_mul(n_bytes, t->s.n_batches, &over);
    const uint64_t limit = t->x->options.memory_bytes;
    const bool spill = limit && (over || n_bytes > limit / 4);
    return qn_shelf_open(&t->shelf[1], t->x->env, &t->x->pool, t->s.n_batches * t->n_live[1], spill, err);
}

/* keep: what comes out waits on the shelf. outs: the graph's outputs, NULL: nobody wants them. */
static qn_code run_batch(qn_streamer *t, const qn_graph_block *b, uint64_t batch, bool inputs, bool keep, qn_array *outs, qn_err *err)
{
    qn_exec *x = t->x;
    const qn_graph *g = x->graph;
    qn_frame f;
    QN_TRY(qn_frame_new(x, g, &f, err));
    qn_code rc = inputs ? feed(t, &f, batch, err) : QN_OK;
    for (uint32_t i = 0; i < t->n_live[0] && rc == QN_OK; i++)
        rc = qn_shelf_get(&t->shelf[0], batch * t->n_live[0] + i, &f.values[t->live[0][i]], err);
    if (rc == QN_OK)
        rc = qn_frame_run(x, &f, b->first_node, b->first_node + b->n_nodes, err);
    if (rc == QN_OK && keep && !t->shelf[1].env)
        rc = open_shelf(t, &f, err);
    for (uint32_t i = 0; i < t->n_live[1] && rc == QN_OK && keep; i++)
        rc = qn_shelf_put(&t->shelf[1], batch * t->n_live[1] + i, &f.values[t->live[1][i]], err);
    for (uint32_t i = 0; i < g->n_outputs && rc == QN_OK && outs; i++)
        qn_array_share(&f.values[g->outputs[i]], &outs[i]);
    qn_frame_release(x, &f);
    return rc;
}

static qn_code run_block(qn_streamer *t, uint32_t block, qn_err *err)
{
    const qn_graph *g = t->x->graph;
    const qn_graph_block *b = &g->blocks[block];
    const bool inputs = reads_input(g, b);
    t->n_live[1] = live_at(g, b->first_node + b->n_nodes, t->live[1]);
    for (uint64_t i = 0; i < t->s.n_batches; i++)
        QN_TRY(run_batch(t, b, i, inputs, true, NULL, err));
    return QN_OK;
}

/* Once more without taps, with weights as they are now. */
static qn_code run_again(qn_streamer *t, uint32_t block, qn_err *err)
{
    const qn_exec_options kept = t->x->options;
    t->x->options.on_input = NULL;
    t->x->options.on_output = NULL;
    qn_weights_drop(t->x);
    qn_shelf_close(&t->shelf[1]);
    const qn_code rc = run_block(t, block, err);
    t->x->options = kept;
    return rc;
}

/* What waits behind the block is what waits before the next one. */
static void move_on(qn_streamer *t)
{
    if (!t->x->keep_weights)
        qn_weights_drop(t->x);
    qn_shelf_close(&t->shelf[0]);
    t->shelf[0] = t->shelf[1];
    memset(&t->shelf[1], 0, sizeof t->shelf[1]);
    uint32_t *const swap = t->live[0];
    t->live[0] = t->live[1];
    t->live[1] = swap;
    t->n_live[0] = t->n_live[1];
    t->n_live[1] = 0;
    t->block++;
}

qn_code qn_streamer_open(qn_exec *x, const qn_stream *s, qn_streamer **out, qn_err *err)
{
    const qn_graph *g = x->graph;
    if (g->n_inputs > INPUTS_MAX || g->n_outputs > INPUTS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model has %u inputs and %u outputs; at most %d are supported", g->n_inputs,
                       g->n_outputs, (int)INPUTS_MAX);
    qn_streamer *t = qn_mem_zeros(x->env->alloc, 1, sizeof *t, err);
    if (!t)
        return QN_E_MEMORY;
    t->x = x;
    t->s = *s;
    for (unsigned i = 0; i < 2; i++)
        if (!(t->live[i] = qn_mem_get(x->env->alloc, ((uint64_t)g->n_values + 1) * sizeof *t->live[i], err))) {
            qn_streamer_close(t);
            return QN_E_MEMORY;
        }
    *out = t;
    return QN_OK;
}

qn_code qn_streamer_branch(qn_streamer *t, qn_streamer **out, qn_err *err)
{
    qn_streamer *b = NULL;
    QN_TRY(qn_streamer_open(t->x, &t->s, &b, err));
    b->block = t->block;
    b->n_live[0] = t->n_live[0];
    memcpy(b->live[0], t->live[0], t->n_live[0] * sizeof *t->live[0]);
    const uint64_t n = t->s.n_batches * t->n_live[0];
    qn_code rc = t->shelf[0].env ? qn_shelf_open(&b->shelf[0], t->x->env, &t->x->pool, n, t->shelf[0].spill, err) : QN_OK;
    for (uint64_t i = 0; i < n && rc == QN_OK; i++) {
        qn_array a = {0};
        rc = qn_shelf_get(&t->shelf[0], i, &a, err);
        if (rc == QN_OK)
            rc = qn_shelf_put(&b->shelf[0], i, &a, err);
    }
    if (rc != QN_OK) {
        qn_streamer_close(b);
        return rc;
    }
    *out = b;
    return QN_OK;
}

qn_code qn_streamer_adopt(qn_streamer *t, qn_streamer *from, qn_err *err)
{
    const qn_graph *g = t->x->graph;
    if (from->block >= g->n_blocks || t->s.n_batches != from->s.n_batches)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the models are not cut into the same blocks");
    t->block = from->block;
    t->n_live[0] = live_at(g, g->blocks[t->block].first_node, t->live[0]);
    if (t->n_live[0] != from->n_live[0])
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the models differ in what flows into block '%s'", g->blocks[t->block].name);
    qn_shelf_close(&t->shelf[0]);
    const uint64_t n = t->s.n_batches * t->n_live[0];
    qn_code rc = from->shelf[0].env ? qn_shelf_open(&t->shelf[0], t->x->env, &t->x->pool, n, from->shelf[0].spill, err) : QN_OK;
    for (uint64_t i = 0; i < n && rc == QN_OK; i++) {
        qn_array a = {0};
        rc = qn_shelf_get(&from->shelf[0], i, &a, err);
        if (rc == QN_OK)
            rc = qn_shelf_put(&t->shelf[0], i, &a, err);
    }
    return rc;
}

void qn_streamer_close(qn_streamer *t)
{
    if (!t)
        return;
    const qn_alloc *a = t->x->env->alloc;
    if (!t->x->keep_weights)
        qn_weights_drop(t->x);
    for (unsigned i = 0; i < 2; i++) {
        qn_shelf_close(&t->shelf[i]);
        qn_mem_put(a, t->live[i]);
    }
    qn_mem_put(a, t);
}

qn_code qn_streamer_step(qn_streamer *t, bool *more, uint32_t *block, qn_err *err)
{
    *more = t->block + 1 < t->x->graph->n_blocks;
    if (!*more)
        return QN_OK;
    *block = t->block;
    QN_TRY(run_block(t, t->block, err));
    move_on(t);
    return QN_OK;
}

qn_code qn_streamer_try(qn_streamer *t, uint64_t batch, bool keep, qn_err *err)
{
    const qn_graph *g = t->x->graph;
    const qn_graph_block *b = &g->blocks[t->block];
    t->n_live[1] = live_at(g, b->first_node + b->n_nodes, t->live[1]);
    return run_batch(t, b, batch, reads_input(g, b), keep, NULL, err);
}

void qn_streamer_next(qn_streamer *t)
{
    move_on(t);
}

uint32_t qn_streamer_waiting(const qn_streamer *t, uint32_t i)
{
    return i < t->n_live[0] ? t->live[0][i] : QN_NO_VALUE;
}

qn_code qn_streamer_look(qn_streamer *t, uint64_t batch, uint32_t i, qn_array *out, qn_err *err)
{
    return qn_shelf_get(&t->shelf[0], batch * t->n_live[0] + i, out, err);
}

qn_code qn_streamer_take(qn_streamer *t, uint64_t batch, qn_array *outs, qn_err *err)
{
    const qn_graph *g = t->x->graph;
    const qn_graph_block *b = &g->blocks[t->block];
    return run_batch(t, b, batch, reads_input(g, b), false, outs, err);
}

qn_code qn_exec_stream(qn_exec *x, const qn_stream *s, qn_err *err)
{
    const qn_graph *g = x->graph;
    qn_streamer *t;
    QN_TRY(qn_streamer_open(x, s, &t, err));
    qn_code rc = QN_OK;
    for (uint32_t b = 0; b + 1 < g->n_blocks && rc == QN_OK; b++) {
        bool again = false;
        rc = run_block(t, b, err);
        if (rc == QN_OK && s->on_block)
            rc = s->on_block(s->ctx, b, &again, err);
        if (rc == QN_OK && again)
            rc = run_again(t, b, err);
        move_on(t);
    }
    for (uint64_t i = 0; i < s->n_batches && rc == QN_OK && g->n_blocks; i++) {
        qn_array outs[INPUTS_MAX];
        memset(outs, 0, sizeof outs);
        rc = qn_streamer_take(t, i, outs, err);
        if (rc == QN_OK && s->take)
            rc = s->take(s->ctx, i, outs, err);
        for (uint32_t k = 0; k < g->n_outputs; k++)
            qn_array_release(&outs[k]);
    }
    bool again = false;
    if (rc == QN_OK && s->on_block && g->n_blocks)
        rc = s->on_block(s->ctx, g->n_blocks - 1, &again, err);
    qn_streamer_close(t);
    return rc;
}
