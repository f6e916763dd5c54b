/* onnx_opset.c: see onnx_opset.h. */
#include "compress/export/onnx_opset.h"
#include <string.h>

static bool crosses(int64_t from, int64_t to, int64_t version)
{
    return from < version && version <= to;
}

/* Up to version 12 they run over all axes from `axis` (1) on, later over that axis (the last) alone: the same of the last one. */
static bool is_along_last(const qn_graph *g, const qn_node *n)
{
    const unsigned rank = n->n_in ? g->values[n->in[0]].rank : QN_RANK_UNKNOWN;
    const int64_t axis = qn_node_int(n, "axis", 1);
    const bool last = axis == -1 || (rank != QN_RANK_UNKNOWN && axis == (int64_t)rank - 1);
    return last && (qn_node_attr(n, "axis") || rank == 2);
}

static bool node_is_safe(const qn_graph *g, const qn_node *n, int64_t from, int64_t to)
{
    bool known = false;
    if (crosses(from, to, 13) && (!strcmp(n->type, "Softmax") || !strcmp(n->type, "LogSoftmax") || !strcmp(n->type, "Hardmax")))
        return is_along_last(g, n);
    if (!strcmp(n->type, "Split") && crosses(from, to, 18) && n->n_in < 2) /* must say how many then */
        return false;
    if (!strcmp(n->type, "BatchNormalization") && crosses(from, to, 14) && n->n_out > 1)
        return false;
    for (const qn_onnx_change *c = qn_onnx_changes; c->op; c++) {
        if (strcmp(c->op, n->type))
            continue;
        known = true;
        if (c->version && crosses(from, to, c->version) && (!c->attr || qn_node_attr(n, c->attr)))
            return false;
    }
    return known;
}

static bool graph_is_safe(const qn_graph *g, int64_t from, int64_t to)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        if (!*n->domain && !node_is_safe(g, n, from, to))
            return false;
        for (unsigned k = 0; k < n->n_attrs; k++)
            if (n->attrs[k].type == QN_ATTR_GRAPH && !graph_is_safe(n->attrs[k].v.graph, from, to))
                return false;
    }
    return true;
}

bool qn_onnx_opset_is_safe(const qn_onnx_model *m, const qn_graph *g, int64_t from, int64_t to)
{
    return g && m->n_functions == 0 && from >= QN_ONNX_OPSET_LEAST && to <= QN_ONNX_OPSET_MOST && graph_is_safe(g, from, to);
}
