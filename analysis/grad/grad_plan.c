/* grad_plan.c: before a batch runs: which values lie between the asked weights and the outputs, which nodes go back, what they will read. */
#include "analysis/grad/grad_impl.h"
#include "base/err.h"
#include <string.h>

static const qn_backward *row_of(const qn_node *n)
{
    return n->op ? qn_backward_find(n->domain, n->type) : NULL;
}

static bool may_be_float(const qn_value *v)
{
    return v->dtype == QN_F32 || v->dtype == QN_BYTES;
}

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

/* First node without a derivative that a marked value goes into: one whose results are floats, if there is one (what only looks at shapes is seldom meant). */
static const qn_node *in_the_way(const qn_graph *g, const bool *marked, bool floats_only)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        bool hit = false, floats = false;
        for (unsigned k = 0; k < n->n_in; k++)
            hit = hit || (n->in[k] != QN_NO_VALUE && marked[n->in[k]]);
        mark_subgraph(n, marked, &hit);
        for (unsigned k = 0; k < n->n_out; k++)
            floats = floats || (n->out[k] != QN_NO_VALUE && may_be_float(&g->values[n->out[k]]));
        if (hit && (floats_only ? floats && !row_of(n) : !floats || !row_of(n)))
            return n;
    }
    return NULL;
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
    if (!out)
        return QN_OK;
    memset(to, 0, g->n_values * sizeof *to);
    to[weight] = true;
    flood(g, to, true);
    const qn_node *n = in_the_way(g, to, true);
    if (!n)
        n = in_the_way(g, to, false);
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "'%s' cannot be trained: node '%s' (%s%s%s) on its way to the outputs has no derivative",
                   g->values[weight].name, n ? n->name : "?", n ? n->domain : "", n && *n->domain ? "." : "", n ? n->type : "?");
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

qn_code qn_grad_plan(qn_grad *t, const qn_grad_options *o, qn_err *err)
{
    QN_TRY(find_active(t, o, err));
    find_kept(t);
    return QN_OK;
}
