/* grad.c: the tape. The forward pass is the executor's; a tap keeps what the derivatives will read. Going back, every node hands the derivatives of its
 * inputs to the values they came from, where they are summed in the order of the nodes, last first; what has been passed is let go. */
#include "analysis/grad/grad.h"
#include "analysis/exec/exec_impl.h"
#include "analysis/grad/grad_help.h"
#include "base/err.h"
#include <string.h>

struct qn_grad {
    const qn_env *env;
    const qn_graph *graph;
    qn_exec *exec;
    uint32_t n_weights;
    qn_array *sums;       /* per asked weight: its derivative                                                     */
    bool *fresh;          /* per asked weight: the sum is 0, whatever stands in it                                 */
    uint32_t *weight_of;  /* per value: index of the asked weight, or QN_NO_VALUE                                 */
    const qn_backward **rows; /* per node: how it goes back; NULL: it does not                                    */
    bool *active;         /* per value: an asked weight leads to it, and it leads to an output, by rows all along  */
    bool *keep;           /* per value: a derivative reads its data                                               */
    uint32_t *first_read; /* per value that is kept: the last node, going back, that reads it                     */
    bool *open;           /* per value, while the graph is walked                                                 */
    qn_array *kept;       /* per value, while a batch runs: with or without its data                              */
    qn_array *d;          /* per value, going back: what has been summed up so far                                */
};

static const qn_backward *row_of(const qn_node *n)
{
    return n->op ? qn_backward_find(n->domain, n->type) : NULL;
}

static bool may_be_float(const qn_value *v)
{
    return v->dtype == QN_F32 || v->dtype == QN_BYTES;
}

/* --- which values matter ------------------------------------------------------------------------------------------------- */

static void mark_subgraph(const qn_node *n, const bool *from, bool *hit)
{
    for (unsigned k = 0; k < n->n_attrs; k++) {
        const qn_attr *a = &n->attrs[k];
        for (uint32_t v = 0; a->type == QN_ATTR_GRAPH && v < a->v.graph->n_values; v++)
            if (a->v.graph->values[v].kind == QN_VALUE_OUTER && from[a->v.graph->values[v].outer])
                *hit = true;
    }
}

/* What the marked values lead to: by nodes that have a row only, or by all. */
static void flood(const qn_graph *g, bool *marked, bool rows_only)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        bool hit = false;
        for (unsigned k = 0; k < n->n_in; k++)
            hit = hit || (n->in[k] != QN_NO_VALUE && marked[n->in[k]]);
        if (!rows_only)
            mark_subgraph(n, marked, &hit);
        if (!hit || (rows_only && !row_of(n)))
            continue;
        for (unsigned k = 0; k < n->n_out; k++)
            if (n->out[k] != QN_NO_VALUE && (!rows_only || may_be_float(&g->values[n->out[k]])))
                marked[n->out[k]] = true;
    }
}

/* The values that lead to an output by rows. */
static void flood_back(const qn_graph *g, bool *marked)
{
    for (uint32_t i = 0; i < g->n_outputs; i++)
        marked[g->outputs[i]] = may_be_float(&g->values[g->outputs[i]]);
    for (uint32_t i = g->n_nodes; i-- > 0;) {
        const qn_node *n = &g->nodes[i];
        bool hit = false;
        for (unsigned k = 0; k < n->n_out; k++)
            hit = hit || (n->out[k] != QN_NO_VALUE && marked[n->out[k]]);
        if (!hit || !row_of(n))
            continue;
        for (unsigned k = 0; k < n->n_in; k++)
            if (n->in[k] != QN_NO_VALUE && may_be_float(&g->values[n->in[k]]))
                marked[n->in[k]] = true;
    }
}

/* The weight leads to no output by rows: an error that names the node in the way, unless it leads to no output at all. */
static qn_code blocked(qn_grad *t, uint32_t weight, qn_err *err)
{
    const qn_graph *g = t->graph;
    bool *to = t->open, out = false;
    memset(to, 0, g->n_values * sizeof *to);
    to[weight] = true;
    flood(g, to, false);
    for (uint32_t i = 0; i < g->n_outputs; i++)
        out = out || to[g->outputs[i]];
    for (uint32_t i = 0; i < g->n_nodes && out; i++) {
        const qn_node *n = &g->nodes[i];
        bool hit = false, floats = false;
        for (unsigned k = 0; k < n->n_in; k++)
            hit = hit || (n->in[k] != QN_NO_VALUE && to[n->in[k]]);
        mark_subgraph(n, to, &hit);
        for (unsigned k = 0; k < n->n_out; k++)
            floats = floats || (n->out[k] != QN_NO_VALUE && may_be_float(&g->values[n->out[k]]));
        if (hit && (!row_of(n) || !floats))
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "'%s' cannot be trained: node '%s' (%s%s%s) on its way to the outputs has no derivative",
                           g->values[weight].name, n->name, n->domain, *n->domain ? "." : "", n->type);
    }
    return QN_OK;
}

static qn_code find_active(qn_grad *t, const qn_grad_options *o, qn_err *err)
{
    const qn_graph *g = t->graph;
    flood_back(g, t->active);
    for (uint32_t i = 0; i < o->n_weights; i++) {
        const qn_value *v = &g->values[o->weights[i]];
        if (v->kind != QN_VALUE_WEIGHT || v->dtype != QN_F32)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "'%s' is no weight of floats", v->name);
        if (!t->active[o->weights[i]])
            QN_TRY(blocked(t, o->weights[i], err));
    }
    memset(t->open, 0, g->n_values * sizeof *t->open);
    for (uint32_t i = 0; i < o->n_weights; i++)
        t->open[o->weights[i]] = true;
    flood(g, t->open, true);
    for (uint32_t v = 0; v < g->n_values; v++)
        t->active[v] = t->active[v] && t->open[v];
    return QN_OK;
}

static bool goes_back(const qn_grad *t, const qn_node *n)
{
    bool in = false, out = false;
    for (unsigned k = 0; k < n->n_in; k++)
        in = in || (n->in[k] != QN_NO_VALUE && t->active[n->in[k]]);
    for (unsigned k = 0; k < n->n_out; k++)
        out = out || (n->out[k] != QN_NO_VALUE && t->active[n->out[k]]);
    return in && out;
}

static void read_by(qn_grad *t, uint32_t value, uint32_t node, bool data)
{
    if (value == QN_NO_VALUE)
        return;
    t->keep[value] = t->keep[value] || data;
    if (node < t->first_read[value])
        t->first_read[value] = node;
}

static void find_kept(qn_grad *t)
{
    const qn_graph *g = t->graph;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        t->rows[i] = goes_back(t, n) ? row_of(n) : NULL;
        if (!t->rows[i])
            continue;
        const unsigned reads = t->rows[i]->reads;
        for (unsigned k = 0; k < n->n_in; k++)
            if (n->in[k] != QN_NO_VALUE)
                read_by(t, n->in[k], i, (reads & QN_READS_IN) || !may_be_float(&g->values[n->in[k]]) || g->values[n->in[k]].dtype == QN_BYTES);
        for (unsigned k = 0; k < n->n_out; k++)
            read_by(t, n->out[k], i, reads & QN_READS_OUT);
    }
}

/* --- opening --------------------------------------------------------------------------------------------------------------- */

static void hold(qn_grad *t, uint32_t value, const qn_array *a)
{
    if (t->first_read[value] == QN_NO_NODE)
        return;
    qn_array_release(&t->kept[value]);
    if (t->keep[value] || a->dtype != QN_F32) {
        qn_array_share(a, &t->kept[value]);
        return;
    }
    t->kept[value] = *a;
    t->kept[value].data = NULL;
    t->kept[value].buffer = NULL;
}

static qn_code on_output(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    (void)err;
    qn_grad *t = ctx;
    const qn_node *n = &g->nodes[node];
    for (unsigned k = 0; g == t->graph && k < n->n_out; k++)
        if (n->out[k] != QN_NO_VALUE)
            hold(t, n->out[k], &out[k]);
    return QN_OK;
}

static qn_code open_all(qn_grad *t, const qn_grad_options *o, qn_err *err)
{
    const qn_alloc *a = t->env->alloc;
    const uint64_t n = (uint64_t)t->graph->n_values + 1;
    t->sums = qn_mem_zeros(a, (uint64_t)o->n_weights + 1, sizeof *t->sums, err);
    t->fresh = qn_mem_zeros(a, (uint64_t)o->n_weights + 1, sizeof *t->fresh, err);
    t->weight_of = qn_mem_zeros(a, n, sizeof *t->weight_of, err);
    t->first_read = qn_mem_zeros(a, n, sizeof *t->first_read, err);
    t->rows = qn_mem_zeros(a, (uint64_t)t->graph->n_nodes + 1, sizeof *t->rows, err);
    t->active = qn_mem_zeros(a, n, sizeof *t->active, err);
    t->keep = qn_mem_zeros(a, n, sizeof *t->keep, err);
    t->open = qn_mem_zeros(a, n, sizeof *t->open, err);
    t->kept = qn_mem_zeros(a, n, sizeof *t->kept, err);
    t->d = qn_mem_zeros(a, n, sizeof *t->d, err);
    if (!t->sums || !t->fresh || !t->weight_of || !t->first_read || !t->rows || !t->active || !t->keep || !t->open || !t->kept || !t->d)
        return QN_E_MEMORY;
    memset(t->weight_of, 0xff, n * sizeof *t->weight_of);
    memset(t->first_read, 0xff, n * sizeof *t->first_read);
    QN_TRY(find_active(t, o, err));
    find_kept(t);
    const qn_exec_options x = {.read = o->read, .read_ctx = o->read_ctx, .memory_bytes = o->memory_bytes, .on_output = on_output, .tap_ctx = t};
    QN_TRY(qn_exec_open(t->env, t->graph, &x, &t->exec, err));
    for (uint32_t i = 0; i < o->n_weights; i++) {
        const qn_value *v = &t->graph->values[o->weights[i]];
        t->weight_of[o->weights[i]] = i;
        QN_TRY(qn_err_in_tensor(err, qn_array_new(&t->exec->pool, &t->sums[i], QN_F32, v->dims, v->rank, err), v->name));
        t->n_weights++;
    }
    qn_grad_clear(t);
    return QN_OK;
}

qn_code qn_grad_open(const qn_env *env, const qn_graph *g, const qn_grad_options *o, qn_grad **out, qn_err *err)
{
    qn_grad *t = qn_mem_zeros(env->alloc, 1, sizeof *t, err);
    if (!t)
        return QN_E_MEMORY;
    t->env = env;
    t->graph = g;
    const qn_code rc = g->sealed ? open_all(t, o, err) : QN_BUG(err, "the graph is not sealed");
    if (rc != QN_OK) {
        qn_grad_close(t);
        return rc;
    }
    *out = t;
    return QN_OK;
}

void qn_grad_close(qn_grad *t)
{
    if (!t)
        return;
    const qn_alloc *a = t->env->alloc;
    for (uint32_t i = 0; i < t->n_weights; i++)
        qn_array_release(&t->sums[i]);
    qn_exec_close(t->exec);
    void *all[] = {t->sums, t->fresh, t->weight_of, t->first_read, t->active, t->keep, t->open, t->kept, t->d, t->rows};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        qn_mem_put(a, all[i]);
    qn_mem_put(a, t);
}

float *qn_grad_of(qn_grad *t, uint32_t i)
{
    if (t->fresh[i] && t->sums[i].n)
        memset(t->sums[i].data, 0, qn_array_bytes(&t->sums[i]));
    t->fresh[i] = false;
    return t->sums[i].data;
}

void qn_grad_clear(qn_grad *t)
{
    for (uint32_t i = 0; i < t->n_weights; i++)
        t->fresh[i] = true;
}

qn_exec *qn_grad_exec(qn_grad *t)
{
    return t->exec;
}

/* --- a batch -------------------------------------------------------------------------------------------------------------- */

/* A value for reading, going back: not a reference of its own. */
static qn_code look(qn_grad *t, uint32_t value, qn_array *out, qn_err *err)
{
    const qn_value *v = &t->graph->values[value];
    if (v->kind == QN_VALUE_CONST)
        *out = v->data;
    else if (v->kind == QN_VALUE_WEIGHT)
        return qn_weight_get(t->exec, t->graph, value, false, out, err);
    else
        *out = t->kept[value];
    return QN_OK;
}

/* Adds *a to what a value has; takes the reference. */
static qn_code give(qn_grad *t, uint32_t value, qn_array *a, qn_err *err)
{
    const uint32_t w = t->weight_of[value];
    qn_array *to = w == QN_NO_VALUE ? &t->d[value] : &t->sums[w], sum;
    if (to->dtype != QN_BYTES && to->n != a->n)
        return QN_BUG(err, "a derivative of another shape than '%s'", t->graph->values[value].name);
    const bool first = w != QN_NO_VALUE && t->fresh[w];
    if (first)
        t->fresh[w] = false;
    if (to->dtype == QN_BYTES || (first && qn_array_is_only(a))) {
        qn_array_release(to);
        *to = *a;
        memset(a, 0, sizeof *a);
        return QN_OK;
    }
    if (first) {
        if (to->n)
            memcpy(to->data, a->data, qn_array_bytes(to));
        return QN_OK;
    }
    if (w != QN_NO_VALUE || qn_array_is_only(to)) {
        QN_TRY(qn_grad_add(t->exec, to->data, a->data, to->data, to->n, err));
    } else if (qn_array_is_only(a)) {
        QN_TRY(qn_grad_add(t->exec, to->data, a->data, a->data, to->n, err));
        qn_array_release(to);
        *to = *a;
        memset(a, 0, sizeof *a);
    } else {
        QN_TRY(qn_exec_new(t->exec, &sum, QN_F32, to->dims, to->rank, err));
        QN_TRY(qn_grad_add(t->exec, to->data, a->data, sum.data, to->n, err));
        qn_array_release(to);
        *to = sum;
    }
    return QN_OK;
}

/* Operands of one node. */
typedef struct operands {
    qn_array *in, *out, *d_out, *d_in;
    bool *want;
} operands;

static qn_code back_node(qn_grad *t, uint32_t index, operands *o, qn_err *err)
{
    const qn_node *n = &t->graph->nodes[index];
    bool any = false;
    memset(o->d_in, 0, n->n_in * sizeof *o->d_in);
    for (unsigned k = 0; k < n->n_in; k++) {
        memset(&o->in[k], 0, sizeof o->in[k]);
        if (n->in[k] != QN_NO_VALUE)
            QN_TRY(look(t, n->in[k], &o->in[k], err));
        o->want[k] = n->in[k] != QN_NO_VALUE && t->active[n->in[k]] && o->in[k].dtype == QN_F32;
        any = any || o->want[k];
    }
    if (!any)
        return QN_OK;
    for (unsigned k = 0; k < n->n_out; k++) {
        memset(&o->out[k], 0, sizeof o->out[k]);
        memset(&o->d_out[k], 0, sizeof o->d_out[k]);
        if (n->out[k] != QN_NO_VALUE) {
            o->out[k] = t->kept[n->out[k]];
            o->d_out[k] = t->d[n->out[k]];
        }
    }
    qn_code rc = t->rows[index]->fn(t->exec, n, o->in, o->out, o->d_out, o->want, o->d_in, err);
    for (unsigned k = 0; k < n->n_out; k++) /* before the sums: what d_in shares can then be added to in place */
        if (n->out[k] != QN_NO_VALUE)
            qn_array_release(&t->d[n->out[k]]);
    for (unsigned k = 0; k < n->n_in; k++) {
        if (rc == QN_OK && o->want[k] && o->d_in[k].dtype != QN_BYTES)
            rc = give(t, n->in[k], &o->d_in[k], err);
        qn_array_release(&o->d_in[k]);
    }
    return qn_node_fail(n, rc, err);
}

static qn_code back(qn_grad *t, qn_err *err)
{
    const qn_graph *g = t->graph;
    unsigned most_in = 1, most_out = 1;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        most_in = g->nodes[i].n_in > most_in ? g->nodes[i].n_in : most_in;
        most_out = g->nodes[i].n_out > most_out ? g->nodes[i].n_out : most_out;
    }
    const qn_alloc *al = t->env->alloc;
    qn_array *room = qn_mem_zeros(al, 2 * ((uint64_t)most_in + most_out), sizeof *room, err);
    bool *want = qn_mem_zeros(al, most_in, sizeof *want, err);
    qn_code rc = room && want ? QN_OK : QN_E_MEMORY;
    operands o = {.in = room, .d_in = room + most_in, .out = room + 2 * most_in, .d_out = room + 2 * most_in + most_out, .want = want};
    for (uint32_t i = g->n_nodes; i-- > 0 && rc == QN_OK;) {
        const qn_node *n = &g->nodes[i];
        bool any = false;
        for (unsigned k = 0; k < n->n_out; k++)
            any = any || (n->out[k] != QN_NO_VALUE && t->d[n->out[k]].dtype != QN_BYTES);
        rc = qn_env_check(t->env, err);
        if (rc == QN_OK && any && t->rows[i])
            rc = back_node(t, i, &o, err);
        for (unsigned k = 0; k < n->n_out; k++)
            if (n->out[k] != QN_NO_VALUE) {
                qn_array_release(&t->d[n->out[k]]);
                qn_array_release(&t->kept[n->out[k]]);
            }
        for (unsigned k = 0; k < n->n_in; k++)
            if (n->in[k] != QN_NO_VALUE && t->first_read[n->in[k]] == i)
                qn_array_release(&t->kept[n->in[k]]);
        if (!t->exec->keep_weights && i && g->nodes[i - 1].block != n->block)
            qn_weights_drop(t->exec);
    }
    qn_mem_put(al, room);
    qn_mem_put(al, want);
    return rc;
}

/* Runs the graph; what stands in the outputs. */
static qn_code forward(qn_grad *t, qn_frame *f, const qn_array *feeds, qn_array *outs, qn_err *err)
{
    const qn_graph *g = t->graph;
    qn_exec *x = t->exec;
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        qn_array_share(&feeds[i], &f->values[g->inputs[i]]);
        hold(t, g->inputs[i], &feeds[i]);
    }
    for (uint32_t b = 0; b < g->n_blocks; b++) {
        QN_TRY(qn_frame_run(x, f, g->blocks[b].first_node, g->blocks[b].first_node + g->blocks[b].n_nodes, err));
        if (!x->keep_weights && b + 1 < g->n_blocks)
            qn_weights_drop(x);
    }
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        const qn_value *v = &g->values[g->outputs[i]];
        if (v->kind == QN_VALUE_NODE || v->kind == QN_VALUE_INPUT)
            qn_array_share(&f->values[g->outputs[i]], &outs[i]);
        else {
            QN_TRY(look(t, g->outputs[i], &outs[i], err));
            qn_array_share(&outs[i], &outs[i]);
        }
    }
    return QN_OK;
}

static qn_code run(qn_grad *t, qn_frame *f, const qn_array *feeds, qn_loss_fn loss, void *ctx, double *value, qn_array *outs, qn_err *err)
{
    const qn_graph *g = t->graph;
    qn_array *d_outs = outs + g->n_outputs;
    QN_TRY(forward(t, f, feeds, outs, err));
    QN_TRY(loss(ctx, &t->exec->pool, outs, value, d_outs, err));
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        qn_array_release(&f->values[g->outputs[i]]);
        if (d_outs[i].dtype == QN_F32 && d_outs[i].n == outs[i].n && t->active[g->outputs[i]])
            QN_TRY(give(t, g->outputs[i], &d_outs[i], err));
        qn_array_release(&outs[i]);
    }
    qn_frame *const before = t->exec->frame;
    t->exec->frame = f;
    const qn_code rc = back(t, err);
    t->exec->frame = before;
    return rc;
}

qn_code qn_grad_run(qn_grad *t, qn_array *feeds, qn_loss_fn loss, void *ctx, double *value, qn_err *err)
{
    const qn_graph *g = t->graph;
    qn_frame f = {0};
    qn_array *outs = qn_mem_zeros(t->env->alloc, 2 * (uint64_t)g->n_outputs + 1, sizeof *outs, err);
    qn_code rc = outs ? qn_frame_new(t->exec, g, &f, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = run(t, &f, feeds, loss, ctx, value, outs, err);
    for (uint32_t i = 0; outs && i < 2 * g->n_outputs; i++)
        qn_array_release(&outs[i]);
    if (f.graph)
        qn_frame_release(t->exec, &f);
    for (uint32_t v = 0; v < g->n_values; v++) {
        qn_array_release(&t->kept[v]);
        qn_array_release(&t->d[v]);
    }
    for (uint32_t i = 0; i < g->n_inputs; i++)
        qn_array_release(&feeds[i]);
    if (!t->exec->keep_weights)
        qn_weights_drop(t->exec);
    qn_mem_put(t->env->alloc, outs);
    return rc;
}
