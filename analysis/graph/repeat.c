/* repeat.c: see repeat.h. */
#include "analysis/graph/repeat.h"
#include <string.h>

static bool same_attr(const qn_attr *a, const qn_attr *b)
{
    if (strcmp(a->name, b->name) != 0 || a->type != b->type || a->n != b->n)
        return false;
    switch ((qn_attr_type)a->type) {
    case QN_ATTR_INT: return a->v.i == b->v.i;
    case QN_ATTR_FLOAT: return memcmp(&a->v.f, &b->v.f, sizeof a->v.f) == 0;
    case QN_ATTR_STRING: return strcmp(a->v.s, b->v.s) == 0;
    case QN_ATTR_INTS: return memcmp(a->v.ints, b->v.ints, a->n * sizeof *a->v.ints) == 0;
    case QN_ATTR_FLOATS: return memcmp(a->v.floats, b->v.floats, a->n * sizeof *a->v.floats) == 0;
    case QN_ATTR_STRINGS:
    case QN_ATTR_TENSOR:
    case QN_ATTR_GRAPH: return false; /* rare, and not worth a comparison */
    }
    return false;
}

static bool same_shape(const qn_value *a, const qn_value *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && (!a->dims == !b->dims) &&
           (!a->dims || a->rank == 0 || memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0);
}

/* An operand of block x and one of the block before it. Values from within the block must come from the same place in it; those from
 * outside from the same place in the block before, or be the very same value. */
static bool same_operand(const qn_graph *g, const qn_graph_block *x, const qn_graph_block *y, uint32_t a, uint32_t b)
{
    if (a == QN_NO_VALUE || b == QN_NO_VALUE)
        return a == b;
    const qn_value *u = &g->values[a], *v = &g->values[b];
    if (a == b)
        return true;
    if (u->kind != v->kind || !same_shape(u, v))
        return false;
    if (u->kind != QN_VALUE_NODE)
        return u->kind != QN_VALUE_INPUT && u->kind != QN_VALUE_OUTER;
    const bool inside_x = u->node >= x->first_node, inside_y = v->node >= y->first_node;
    if (inside_x != inside_y)
        return false;
    return !inside_x || u->node - x->first_node == v->node - y->first_node;
}

static bool alike(const qn_graph *g, const qn_graph_block *x, const qn_graph_block *y)
{
    if (x->n_nodes != y->n_nodes)
        return false;
    for (uint32_t i = 0; i < x->n_nodes; i++) {
        const qn_node *a = &g->nodes[x->first_node + i], *b = &g->nodes[y->first_node + i];
        if (strcmp(a->type, b->type) != 0 || strcmp(a->domain, b->domain) != 0 || a->n_in != b->n_in || a->n_out != b->n_out ||
            a->n_attrs != b->n_attrs)
            return false;
        for (unsigned k = 0; k < a->n_attrs; k++)
            if (!same_attr(&a->attrs[k], &b->attrs[k]))
                return false;
        for (unsigned k = 0; k < a->n_in; k++)
            if (!same_operand(g, x, y, a->in[k], b->in[k]))
                return false;
    }
    return true;
}

void qn_graph_repeats(const qn_graph *g, uint32_t *leader)
{
    for (uint32_t b = 0; b < g->n_blocks; b++)
        leader[b] = b > 0 && alike(g, &g->blocks[b], &g->blocks[b - 1]) ? leader[b - 1] : b;
}
