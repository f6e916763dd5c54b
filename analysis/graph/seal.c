/* seal.c: checking a graph that has been put together, inferring what is known of its values, finding last uses. */
#include "analysis/graph/op.h"
#include "base/err.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static qn_code check_node(const qn_graph *g, uint32_t index, qn_err *err)
{
    const qn_node *n = &g->nodes[index];
    for (unsigned i = 0; i < n->n_in; i++) {
        if (n->in[i] == QN_NO_VALUE)
            continue;
        if (n->in[i] >= g->n_values)
            return QN_BUG(err, "node '%s': input %u is no value", n->name, i);
        const qn_value *v = &g->values[n->in[i]];
        if (v->kind == QN_VALUE_NODE && v->node >= index)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "node '%s' (%s) reads '%s' before it is computed", n->name, n->type, v->name);
    }
    if (!n->op)
        return QN_OK;
    if (n->n_in < n->op->min_in || (n->op->max_in != 255 && n->n_in > n->op->max_in))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "node '%s' (%s) has %u inputs; %u to %u are allowed", n->name, n->type, n->n_in,
                       n->op->min_in, n->op->max_in);
    for (unsigned i = 0; i < n->op->min_in; i++)
        if (n->in[i] == QN_NO_VALUE)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "node '%s' (%s) lacks its input %u", n->name, n->type, i);
    if (n->n_out < n->op->min_out || (n->op->max_out != 255 && n->n_out > n->op->max_out))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "node '%s' (%s) has %u outputs; %u to %u are allowed", n->name, n->type, n->n_out,
                       n->op->min_out, n->op->max_out);
    return QN_OK;
}

static bool is_whole(const qn_array *a)
{
    for (uint64_t i = 0; i < a->n; i++)
        if (((const int64_t *)a->data)[i] == QN_INT_UNKNOWN)
            return false;
    return true;
}

static qn_info known(const qn_value *v)
{
    qn_info i = {.dtype = v->dtype, .rank = v->dims && v->rank <= QN_ARRAY_RANK_MAX ? v->rank : QN_RANK_UNKNOWN};
    if (i.rank != QN_RANK_UNKNOWN)
        for (unsigned k = 0; k < i.rank; k++)
            i.dims[k] = v->dims[k];
    if (v->data.dtype != QN_BYTES && (v->data.data || !v->data.n)) {
        i.partly = &v->data;
        if (v->data.dtype != QN_I64 || v->kind == QN_VALUE_CONST || v->kind == QN_VALUE_WEIGHT || is_whole(&v->data))
            i.value = &v->data;
    }
    return i;
}

/* What was found about an output goes into the graph, where it says more than what is there. */
static qn_code learn(qn_graph *g, qn_value *v, const qn_info *i, qn_err *err)
{
    if (i->dtype != QN_BYTES)
        v->dtype = i->dtype;
    if (i->rank == QN_RANK_UNKNOWN)
        return QN_OK;
    int64_t *dims = qn_arena_get(&g->arena, (i->rank ? i->rank : 1) * sizeof *dims, 8, err);
    if (!dims)
        return QN_E_MEMORY;
    for (unsigned k = 0; k < i->rank; k++) {
        dims[k] = i->dims[k];
        if (v->dims && v->rank == i->rank && dims[k] == QN_DIM_UNKNOWN)
            dims[k] = v->dims[k];
    }
    if (v->rank != i->rank)
        v->symbols = NULL; /* those of a declaration that does not hold: there may be fewer of them than dimensions */
    v->dims = dims;
    v->rank = i->rank;
    return QN_OK;
}

static qn_code infer_node(qn_graph *g, uint32_t index, qn_info *infos, qn_err *err)
{
    const qn_node *n = &g->nodes[index];
    if (!n->op)
        return QN_OK;
    qn_info *in = infos, *out = infos + n->n_in;
    const qn_info nothing = {.dtype = QN_BYTES, .rank = QN_RANK_UNKNOWN};
    for (unsigned i = 0; i < n->n_in; i++)
        in[i] = n->in[i] == QN_NO_VALUE ? nothing : known(&g->values[n->in[i]]);
    for (unsigned i = 0; i < n->n_out; i++)
        out[i] = nothing;
    const qn_code rc = n->op->shape ? n->op->shape(n, in, out, err) : QN_OK;
    if (rc != QN_OK)
        return err && strncmp(err->text, "node '", 6) == 0 ? rc : qn_node_fail(n, rc, err);
    for (unsigned i = 0; i < n->n_out; i++)
        if (n->out[i] != QN_NO_VALUE)
            QN_TRY(learn(g, &g->values[n->out[i]], &out[i], err));
    return qn_graph_fold(g, index, in, err);
}

/* Graphs in attributes, once everything is known that they take from around them. */
static qn_code seal_subgraphs(qn_graph *g, const qn_node *n, qn_err *err)
{
    for (unsigned k = 0; k < n->n_attrs; k++) {
        if (n->attrs[k].type != QN_ATTR_GRAPH)
            continue;
        union {
            const qn_graph *in;
            qn_graph *sub;
        } u = {.in = n->attrs[k].v.graph};
        for (uint32_t i = 0; i < u.sub->n_values; i++) {
            qn_value *v = &u.sub->values[i];
            if (v->kind != QN_VALUE_OUTER)
                continue;
            const qn_value *o = &g->values[v->outer];
            v->dims = o->dims;
            v->symbols = o->symbols;
            v->data = o->data;
            v->dtype = o->dtype;
            v->rank = o->rank;
        }
        QN_TRY(qn_graph_seal(u.sub, err));
    }
    return QN_OK;
}

/* A value that a subgraph reads is used by the node that holds the subgraph. */
static void use_outer(qn_graph *g, const qn_node *n, uint32_t index)
{
    for (unsigned k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH) {
            const qn_graph *sub = n->attrs[k].v.graph;
            for (uint32_t v = 0; v < sub->n_values; v++)
                if (sub->values[v].kind == QN_VALUE_OUTER)
                    g->last_use[sub->values[v].outer] = index;
        }
}

qn_code qn_graph_seal(qn_graph *g, qn_err *err)
{
    uint64_t most = 1;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        QN_TRY(check_node(g, i, err));
        const uint64_t n = (uint64_t)g->nodes[i].n_in + g->nodes[i].n_out;
        most = n > most ? n : most;
    }
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] >= g->n_values)
            return QN_BUG(err, "output %" PRIu32 " is no value", i);
    qn_mem_put(g->env->alloc, g->last_use);
    g->last_use = qn_mem_get(g->env->alloc, ((uint64_t)g->n_values + 1) * sizeof *g->last_use, err);
    qn_info *infos = qn_mem_zeros(g->env->alloc, most, sizeof *infos, err);
    if (!g->last_use || !infos) {
        qn_mem_put(g->env->alloc, infos);
        return QN_E_MEMORY;
    }
    for (uint32_t i = 0; i < g->n_values; i++)
        g->last_use[i] = QN_NO_NODE;
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < g->n_nodes && rc == QN_OK; i++) {
        const qn_node *n = &g->nodes[i];
        for (unsigned k = 0; k < n->n_in; k++)
            if (n->in[k] != QN_NO_VALUE)
                g->last_use[n->in[k]] = i;
        use_outer(g, n, i);
        rc = seal_subgraphs(g, n, err);
        if (rc == QN_OK)
            rc = infer_node(g, i, infos, err);
    }
    qn_mem_put(g->env->alloc, infos);
    /* Outputs are needed past the last node. */
    for (uint32_t i = 0; i < g->n_outputs; i++)
        g->last_use[g->outputs[i]] = g->n_nodes;
    g->sealed = rc == QN_OK;
    return rc;
}

uint32_t qn_graph_first_opaque(const qn_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        if (!n->op || !n->op->forward)
            return i;
        for (unsigned k = 0; k < n->n_attrs; k++)
            if (n->attrs[k].type == QN_ATTR_GRAPH && qn_graph_first_opaque(n->attrs[k].v.graph) != QN_NO_NODE)
                return i;
    }
    return QN_NO_NODE;
}

qn_code qn_graph_check_runs(const qn_graph *g, qn_err *err)
{
    const uint32_t i = qn_graph_first_opaque(g);
    if (i == QN_NO_NODE)
        return QN_OK;
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model cannot be run: operator %s of node '%s' is not known", g->nodes[i].type,
                   g->nodes[i].name);
}

qn_code qn_node_fail(const qn_node *n, qn_code rc, qn_err *err)
{
    if (rc == QN_OK || !err || err->code == QN_OK)
        return rc;
    char text[sizeof err->text];
    memcpy(text, err->text, sizeof text);
    snprintf(err->text, sizeof err->text, "node '%.120s' (%.40s): %.140s", n->name, n->type, text);
    return rc;
}
