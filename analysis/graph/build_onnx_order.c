/* build_onnx_order.c: the names of a scope, and an order in which its nodes can run. */
#include "analysis/graph/onnx_build.h"
#include "base/err.h"
#include <inttypes.h>
#include <string.h>

static const char *entry_name(const void *ctx, uint32_t item)
{
    return ((const qn_onnx_scope *)ctx)->entries[item].name;
}

qn_code qn_onnx_scope_init(qn_onnx_build *b, qn_onnx_scope *s, uint64_t n_names, qn_err *err)
{
    if (n_names >= UINT32_MAX / 4)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a graph with %" PRIu64 " names", n_names);
    const uint64_t n_slots = qn_names_slots(n_names);
    s->entries = qn_mem_zeros(b->env->alloc, n_names + 1, sizeof *s->entries, err);
    qn_name_slot *slots = s->entries ? qn_mem_zeros(b->env->alloc, n_slots, sizeof *slots, err) : NULL;
    if (!slots)
        return QN_E_MEMORY;
    s->cap_entries = (uint32_t)n_names;
    qn_names_init(&s->names, slots, n_slots);
    return QN_OK;
}

void qn_onnx_scope_release(qn_onnx_build *b, qn_onnx_scope *s)
{
    qn_mem_put(b->env->alloc, s->entries);
    qn_mem_put(b->env->alloc, s->names.slots);
    s->entries = NULL;
    s->names.slots = NULL;
}

qn_code qn_onnx_scope_add(qn_onnx_scope *s, const char *name, uint32_t value, uint32_t producer, qn_err *err)
{
    if (s->n_entries >= s->cap_entries)
        return QN_BUG(err, "more names than were counted");
    s->entries[s->n_entries] = (qn_onnx_entry){.name = name, .value = value, .producer = producer};
    if (qn_names_add(&s->names, name, s->n_entries, entry_name, s) != QN_NAMES_NONE)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "two values of the graph are named '%s'", name);
    s->n_entries++;
    return QN_OK;
}

qn_onnx_entry *qn_onnx_scope_find(const qn_onnx_scope *s, const char *name)
{
    const uint32_t i = qn_names_find(&s->names, name, entry_name, s);
    return i == QN_NAMES_NONE ? NULL : &s->entries[i];
}

/* ---- order ---- */

struct order {
    qn_onnx_build *b;
    const qn_onnx_scope *scope;
    uint32_t *deps;  /* producers, node by node; NULL while they are counted */
    uint64_t n;
};

static void need(struct order *o, const char *name)
{
    const qn_onnx_entry *e = *name ? qn_onnx_scope_find(o->scope, name) : NULL;
    if (!e || e->producer == QN_NO_NODE)
        return;
    if (o->deps)
        o->deps[o->n] = e->producer;
    o->n++;
}

/* What a graph in an attribute may take from around it: every name that is read in it. (A name that it gives itself and that is
 * also one of ours ties more than it must; ONNX forbids such names.) The depth is limited by the wire's 64. */
static void need_graph(struct order *o, const qn_onnx_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_onnx_node *d = &g->nodes[i];
        for (uint32_t k = 0; k < d->n_inputs; k++)
            need(o, d->inputs[k]);
        for (uint32_t k = 0; k < d->n_attrs; k++)
            if (d->attrs[k].type == QN_ONNX_ATTR_GRAPH && d->attrs[k].n)
                need_graph(o, d->attrs[k].v.graphs);
    }
    for (uint32_t i = 0; i < g->n_outputs; i++)
        need(o, g->outputs[i].name);
}

static void need_node(struct order *o, const qn_onnx_node *d)
{
    for (uint32_t k = 0; k < d->n_inputs; k++)
        need(o, d->inputs[k]);
    for (uint32_t k = 0; k < d->n_attrs; k++)
        if (d->attrs[k].type == QN_ONNX_ATTR_GRAPH && d->attrs[k].n)
            need_graph(o, d->attrs[k].v.graphs);
}

/* Depth first, each node after what it needs; first[i] … first[i + 1]: its needs. */
static qn_code visit(const qn_onnx_node *nodes, uint32_t n, const uint32_t *deps, const uint64_t *first, uint64_t *next,
                     uint32_t *stack, uint8_t *state, uint32_t *order, qn_err *err)
{
    enum { NEW, OPEN, DONE };
    uint32_t n_done = 0;
    for (uint32_t root = 0; root < n; root++) {
        uint32_t top = 0;
        if (state[root] != NEW)
            continue;
        stack[top++] = root;
        state[root] = OPEN;
        next[root] = first[root];
        while (top) {
            const uint32_t at = stack[top - 1];
            if (next[at] == first[at + 1]) {
                state[at] = DONE;
                order[n_done++] = at;
                top--;
                continue;
            }
            const uint32_t d = deps[next[at]++];
            if (state[d] == OPEN)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "node '%s' (%s) needs its own output: the graph has a cycle",
                               nodes[d].name[0] || !nodes[d].n_outputs ? nodes[d].name : nodes[d].outputs[0], nodes[d].op_type);
            if (state[d] == NEW) {
                state[d] = OPEN;
                next[d] = first[d];
                stack[top++] = d;
            }
        }
    }
    return QN_OK;
}

qn_code qn_onnx_order(qn_onnx_build *b, const qn_onnx_scope *s, const qn_onnx_node *nodes, uint32_t n, uint32_t *order, qn_err *err)
{
    struct order o = {.b = b, .scope = s};
    const qn_alloc *a = b->env->alloc;
    for (uint32_t i = 0; i < n; i++)
        need_node(&o, &nodes[i]);
    uint32_t *deps = qn_mem_get(a, (o.n + 1) * sizeof *deps, err), *stack = NULL;
    uint64_t *first = NULL, *next = NULL;
    uint8_t *state = NULL;
    qn_code rc = QN_E_MEMORY;
    if (deps && (first = qn_mem_get(a, ((uint64_t)n + 1) * sizeof *first, err)) &&
        (next = qn_mem_get(a, ((uint64_t)n + 1) * sizeof *next, err)) &&
        (stack = qn_mem_get(a, ((uint64_t)n + 1) * sizeof *stack, err)) &&
        (state = qn_mem_zeros(a, (uint64_t)n + 1, 1, err))) {
        o.deps = deps;
        o.n = 0;
        for (uint32_t i = 0; i < n; i++) {
            first[i] = o.n;
            need_node(&o, &nodes[i]);
        }
        first[n] = o.n;
        rc = visit(nodes, n, deps, first, next, stack, state, order, err);
    }
    qn_mem_put(a, deps);
    qn_mem_put(a, first);
    qn_mem_put(a, next);
    qn_mem_put(a, stack);
    qn_mem_put(a, state);
    return rc;
}
