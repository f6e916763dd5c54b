/* stream.c: a model that does not fit, block by block over all batches. */
#include "analysis/exec/exec_impl.h"
#include "analysis/exec/shelf.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

struct streaming {
    qn_exec *x;
    const qn_stream *s;
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

static qn_code feed(struct streaming *t, qn_frame *f, uint64_t batch, qn_err *err)
{
    const qn_graph *g = t->x->graph;
    qn_array inputs[INPUTS_MAX];
    memset(inputs, 0, sizeof inputs);
    const qn_code rc = t->s->feed(t->s->ctx, batch, inputs, err);
    for (uint32_t i = 0; i < g->n_inputs; i++)
        f->values[g->inputs[i]] = inputs[i];
    return rc;
}

/* The first batch tells how much will wait. */
static qn_code open_shelf(struct streaming *t, qn_frame *f, qn_err *err)
{
    bool over = false;
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < t->n_live[1]; i++)
        n_bytes += qn_array_bytes(&f->values[t->live[1][i]]);
    n_bytes = qn_mul(n_bytes, t->s->n_batches, &over);
    const uint64_t limit = t->x->options.memory_bytes;
    const bool spill = limit && (over || n_bytes > limit / 4);
    return qn_shelf_open(&t->shelf[1], t->x->env, &t->x->pool, t->s->n_batches * t->n_live[1], spill, t->s->tmp_dir, err);
}

static qn_code run_batch(struct streaming *t, const qn_graph_block *b, uint64_t batch, bool inputs, bool last, qn_err *err)
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
    if (rc == QN_OK && !last && !t->shelf[1].env)
        rc = open_shelf(t, &f, err);
    for (uint32_t i = 0; i < t->n_live[1] && rc == QN_OK && !last; i++)
        rc = qn_shelf_put(&t->shelf[1], batch * t->n_live[1] + i, &f.values[t->live[1][i]], err);
    if (rc == QN_OK && last && t->s->take) {
        qn_array outs[INPUTS_MAX];
        for (uint32_t i = 0; i < g->n_outputs; i++)
            outs[i] = f.values[g->outputs[i]];
        rc = t->s->take(t->s->ctx, batch, outs, err);
    }
    qn_frame_release(x, &f);
    return rc;
}

static qn_code run_block(struct streaming *t, uint32_t block, qn_err *err)
{
    const qn_graph *g = t->x->graph;
    const qn_graph_block *b = &g->blocks[block];
    const bool last = block + 1 == g->n_blocks, inputs = reads_input(g, b);
    t->n_live[1] = last ? 0 : live_at(g, b->first_node + b->n_nodes, t->live[1]);
    for (uint64_t i = 0; i < t->s->n_batches; i++)
        QN_TRY(run_batch(t, b, i, inputs, last, err));
    return QN_OK;
}

/* Once more without taps, with weights as they are now. */
static qn_code run_again(struct streaming *t, uint32_t block, qn_err *err)
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

qn_code qn_exec_stream(qn_exec *x, const qn_stream *s, qn_err *err)
{
    const qn_graph *g = x->graph;
    if (g->n_inputs > INPUTS_MAX || g->n_outputs > INPUTS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model has %u inputs and %u outputs; at most %d are supported", g->n_inputs,
                       g->n_outputs, (int)INPUTS_MAX);
    struct streaming t = {.x = x, .s = s};
    qn_code rc = QN_OK;
    for (unsigned i = 0; i < 2 && rc == QN_OK; i++) {
        t.live[i] = qn_mem_get(x->env->alloc, ((uint64_t)g->n_values + 1) * sizeof *t.live[i], err);
        rc = t.live[i] ? QN_OK : QN_E_MEMORY;
    }
    for (uint32_t b = 0; b < g->n_blocks && rc == QN_OK; b++) {
        bool again = false;
        rc = run_block(&t, b, err);
        if (rc == QN_OK && s->on_block)
            rc = s->on_block(s->ctx, b, &again, err);
        if (rc == QN_OK && again)
            rc = run_again(&t, b, err);
        if (!x->keep_weights)
            qn_weights_drop(x);
        qn_shelf_close(&t.shelf[0]);
        t.shelf[0] = t.shelf[1];
        memset(&t.shelf[1], 0, sizeof t.shelf[1]);
        uint32_t *const swap = t.live[0];
        t.live[0] = t.live[1];
        t.live[1] = swap;
        t.n_live[0] = t.n_live[1];
    }
    qn_shelf_close(&t.shelf[0]);
    qn_shelf_close(&t.shelf[1]);
    qn_mem_put(x->env->alloc, t.live[0]);
    qn_mem_put(x->env->alloc, t.live[1]);
    return rc;
}
