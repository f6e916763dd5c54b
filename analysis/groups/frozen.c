/* frozen.c: what cannot go, and why; totals. */
#include "analysis/groups/impl.h"
#include "base/err.h"
#include <string.h>

struct list {
    qn_frozen *rows;
    uint64_t n, cap;
};

static qn_code add(qn_grouping *s, struct list *l, const qn_frozen *row, qn_err *err)
{
    if (l->n == l->cap) {
        qn_frozen *p = qn_mem_grow(s->env->alloc, l->rows, l->n, &l->cap, l->n + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        l->rows = p;
    }
    l->rows[l->n++] = *row;
    return QN_OK;
}

static bool is_output(const qn_grouping *s, uint32_t why)
{
    return why && !strncmp(s->whys[why - 1].text, "belongs to output", 17);
}

/* The channels of one weight: those in families, the others by reason. */
static qn_code channels(qn_grouping *s, qn_groups *r, struct list *l, uint32_t weight, uint8_t axis, qn_err *err)
{
    const qn_axis a = qn_axis_at(s, weight, axis);
    const uint64_t first = l->n;
    r->n_channels += a.n;
    for (uint32_t i = 0; i < a.n; i++) {
        const uint32_t root = qn_atom_root(s, a.first + i);
        if (qn_class_can_go(s, root)) {
            r->n_free++;
            continue;
        }
        const uint32_t why = s->frozen[root] ? s->frozen[root] : s->inexact[root];
        const qn_why nothing = {"nothing else is known of it", QN_NO_NODE, true}, *w = why ? &s->whys[why - 1] : &nothing;
        r->n_outputs += is_output(s, s->frozen[root]);
        uint64_t k = first;
        while (k < l->n && (l->rows[k].reason != w->text || l->rows[k].node != w->node))
            k++;
        if (k == l->n)
            QN_TRY(add(s, l, &(qn_frozen){.value = weight, .axis = axis, .of = a.n, .reason = w->text, .node = w->node}, err));
        l->rows[k].n++;
    }
    return QN_OK;
}

/* Output channels of a node of a graph in an attribute: by the shape of its weight. */
static uint64_t inner_channels(const qn_graph *g, const qn_node *n)
{
    const unsigned axis = n->op ? n->op->axis : QN_AXIS_FREEZE;
    if (n->n_in < 2 || n->in[1] == QN_NO_VALUE)
        return 0;
    const qn_graph *at = g;
    const qn_value *w = &g->values[n->in[1]];
    while (w->kind == QN_VALUE_OUTER && at->outer) {
        at = at->outer;
        w = &at->values[w->outer];
    }
    if (w->kind != QN_VALUE_WEIGHT || w->rank < 2 || w->rank == QN_RANK_UNKNOWN)
        return 0;
    switch (axis) {
    case QN_AXIS_CONV: return (uint64_t)w->dims[0];
    case QN_AXIS_CONV_TRANSPOSE:
    case QN_AXIS_RECURRENT: return (uint64_t)w->dims[1];
    case QN_AXIS_GEMM: return (uint64_t)w->dims[qn_node_int(n, "transB", 0) ? 0 : 1];
    case QN_AXIS_MATMUL: return (uint64_t)w->dims[w->rank - 1u];
    default: return 0;
    }
}

static uint64_t count_inner(const qn_node *n)
{
    uint64_t sum = 0;
    for (unsigned k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH)
            for (uint32_t i = 0; i < n->attrs[k].v.graph->n_nodes; i++)
                sum += inner_channels(n->attrs[k].v.graph, &n->attrs[k].v.graph->nodes[i]) + count_inner(&n->attrs[k].v.graph->nodes[i]);
    return sum;
}

static qn_code bodies(qn_grouping *s, qn_groups *r, struct list *l, qn_err *err)
{
    for (uint32_t i = 0; i < s->g->n_nodes; i++) {
        const uint64_t n = count_inner(&s->g->nodes[i]);
        if (!n)
            continue;
        s->node = i;
        s->zero_pass = false;
        const uint32_t why = qn_reason(s, "is inside the body of node '%s' (%s)", s->g->nodes[i].name, s->g->nodes[i].type);
        QN_TRY(s->rc);
        r->n_channels += n;
        QN_TRY(add(s, l, &(qn_frozen){.value = QN_NO_VALUE, .n = n, .of = n, .reason = s->whys[why - 1].text, .node = i}, err));
    }
    return QN_OK;
}

static void totals(qn_grouping *s, qn_groups *r)
{
    double all = 0, free = 0;
    for (uint32_t v = 0; v < s->g->n_values; v++) {
        if (!qn_is_weight(s, v) || s->t.rank[v] == QN_RANK_UNKNOWN)
            continue;
        double stays = 1;
        for (int k = 0; k < s->t.rank[v]; k++) {
            const qn_axis a = qn_axis_at(s, v, k);
            uint32_t n = 0;
            for (uint32_t i = 0; i < a.n; i++)
                n += qn_class_can_go(s, qn_atom_root(s, a.first + i));
            stays *= a.n ? 1 - (double)n / a.n : 1;
        }
        all += qn_elems(s, v);
        free += qn_elems(s, v) * (1 - stays);
    }
    r->params = (uint64_t)(all + 0.5);
    r->free_params = (uint64_t)(free + 0.5);
}

/* What multiplies, for the cost of cuts. */
static qn_code loops(const qn_grouping *s, qn_groups *r, qn_err *err)
{
    qn_loops *l = qn_arena_get(s->arena, (s->n_products + 1) * sizeof *l, 8, err);
    if (!l)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_products; i++) {
        const qn_product *p = &s->products[i];
        l[i] = (qn_loops){.macs = p->macs, .n_axes = p->n_axes};
        memcpy(l[i].axis, p->axis, sizeof l[i].axis);
        r->macs += p->macs;
    }
    r->loops = l;
    r->n_loops = s->n_products;
    return QN_OK;
}

qn_code qn_frozen_make(qn_grouping *s, qn_groups *r, qn_err *err)
{
    struct list l = {0};
    uint8_t *seen = qn_arena_get(&s->scratch, (uint64_t)s->g->n_values * QN_ARRAY_RANK_MAX + 1, 1, err);
    if (!seen)
        return QN_E_MEMORY;
    memset(seen, 0, (uint64_t)s->g->n_values * QN_ARRAY_RANK_MAX + 1);
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < s->n_products && rc == QN_OK; i++) {
        const qn_product *p = &s->products[i];
        if (!p->layer || p->out_axis == UINT8_MAX || seen[qn_axis_number(p->weight, p->out_axis)])
            continue;
        seen[qn_axis_number(p->weight, p->out_axis)] = 1;
        rc = channels(s, r, &l, p->weight, p->out_axis, err);
    }
    if (rc == QN_OK)
        rc = bodies(s, r, &l, err);
    totals(s, r);
    if (rc == QN_OK)
        rc = loops(s, r, err);
    r->n_frozen = (uint32_t)l.n;
    r->frozen = rc == QN_OK ? qn_arena_get(s->arena, (l.n + 1) * sizeof *r->frozen, 8, err) : NULL;
    if (rc == QN_OK && !r->frozen)
        rc = QN_E_MEMORY;
    if (rc == QN_OK && l.n)
        memcpy(r->frozen, l.rows, l.n * sizeof *r->frozen);
    qn_mem_put(s->env->alloc, l.rows);
    return rc;
}
