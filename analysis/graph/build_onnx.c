/* build_onnx.c: the graph of an ONNX model. */
#include "analysis/graph/build.h"
#include "analysis/graph/onnx_build.h"
#include "base/err.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qn_code build_nodes(qn_onnx_build *b, qn_onnx_scope *s, const qn_onnx_node *nodes, uint32_t n, qn_err *err);

static const char *called(const qn_onnx_node *d)
{
    return d->name[0] ? d->name : d->n_outputs && d->outputs[0][0] ? d->outputs[0] : d->op_type;
}

static bool is_onnx(const char *domain)
{
    return !*domain || !strcmp(domain, "ai.onnx");
}

static bool is_constant(const qn_onnx_node *d)
{
    return is_onnx(d->domain) && !strcmp(d->op_type, "Constant") && d->n_inputs == 0 && d->n_outputs == 1 && d->outputs[0][0];
}

static unsigned version_of(const qn_onnx_build *b, const qn_onnx_scope *s, const char *domain)
{
    int64_t v = 0;
    if (s->call)
        for (uint32_t i = 0; i < s->call->fn->n_opsets; i++)
            if (!strcmp(s->call->fn->opsets[i].key, domain) || (is_onnx(s->call->fn->opsets[i].key) && is_onnx(domain)))
                v = s->call->fn->opsets[i].version;
    if (!v)
        v = qn_onnx_opset(b->model, domain);
    return v > 0 && v <= UINT16_MAX ? (unsigned)v : 0;
}

/* ---- names ---- */

/* The value that a name means here. Values of graphs around become OUTER ones, through every graph in between. QN_NO_VALUE: there
 * is none. */
static qn_code lookup(qn_onnx_scope *s, const char *name, uint32_t *value, bool *found, qn_err *err)
{
    const qn_onnx_entry *e = qn_onnx_scope_find(s, name);
    *found = true;
    *value = QN_NO_VALUE;
    if (e) {
        *value = e->value;
        *found = e->value != QN_NO_VALUE || e->producer == QN_NO_NODE;
        return QN_OK;
    }
    uint32_t outer = QN_NO_VALUE;
    *found = false;
    if (s->up)
        QN_TRY(lookup(s->up, name, &outer, found, err));
    if (!*found || outer == QN_NO_VALUE)
        return QN_OK;
    const char *as;
    QN_TRY(qn_onnx_build_name(s->graph, s->prefix, name, &as, err));
    QN_TRY(qn_graph_outer(s->graph, as, outer, value, err));
    return qn_onnx_scope_add(s, name, *value, QN_NO_NODE, err);
}

static qn_code input_value(qn_onnx_scope *s, const qn_onnx_node *d, unsigned k, uint32_t *value, qn_err *err)
{
    bool found = true;
    *value = QN_NO_VALUE;
    if (!d->inputs[k][0])
        return QN_OK;
    QN_TRY(lookup(s, d->inputs[k], value, &found, err));
    return found ? QN_OK : QN_FAIL(err, QN_E_INPUT, d->off, "node '%s' (%s) reads '%s', which nothing gives", called(d), d->op_type,
                                   d->inputs[k]);
}

static qn_code count_names(const qn_onnx_node *nodes, uint32_t n, uint64_t *sum);

/* Names that a graph in an attribute may take from around it. */
static qn_code count_graph(const qn_onnx_graph *g, uint64_t *sum)
{
    *sum += (uint64_t)g->n_outputs;
    return count_names(g->nodes, g->n_nodes, sum);
}

static qn_code count_names(const qn_onnx_node *nodes, uint32_t n, uint64_t *sum)
{
    for (uint32_t i = 0; i < n; i++) {
        *sum += (uint64_t)nodes[i].n_inputs + nodes[i].n_outputs;
        for (uint32_t k = 0; k < nodes[i].n_attrs; k++)
            if (nodes[i].attrs[k].type == QN_ONNX_ATTR_GRAPH && nodes[i].attrs[k].n)
                QN_TRY(count_graph(nodes[i].attrs[k].v.graphs, sum));
    }
    return QN_OK;
}

static qn_code add_producers(qn_onnx_scope *s, const qn_onnx_node *nodes, uint32_t n, qn_err *err)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < nodes[i].n_outputs; k++)
            if (nodes[i].outputs[k][0])
                QN_TRY(qn_onnx_scope_add(s, nodes[i].outputs[k], QN_NO_VALUE, i, err));
    return QN_OK;
}

/* ---- graphs in attributes ---- */

static qn_code add_input(qn_onnx_scope *s, const qn_onnx_value *v, qn_err *err)
{
    uint8_t dtype;
    const int64_t *dims;
    unsigned rank;
    const char *const *symbols;
    const char *as;
    uint32_t value;
    (void)qn_onnx_build_type(s->graph, &v->type, &dtype, &dims, &rank, &symbols);
    QN_TRY(qn_onnx_build_name(s->graph, "", v->name, &as, err));
    QN_TRY(qn_graph_input(s->graph, as, (qn_dtype)dtype, dims, rank, &value, err));
    s->graph->values[value].symbols = symbols;
    return qn_onnx_scope_add(s, v->name, value, QN_NO_NODE, err);
}

/* What value_info says of values of which nothing is known yet; inference has the last word. */
static void take_hints(qn_onnx_scope *s, const qn_onnx_value *list, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const qn_onnx_entry *e = qn_onnx_scope_find(s, list[i].name);
        if (!e || e->value == QN_NO_VALUE)
            continue;
        qn_value *v = &s->graph->values[e->value];
        uint8_t dtype;
        const int64_t *dims;
        unsigned rank;
        const char *const *symbols;
        if (v->kind != QN_VALUE_NODE || v->dims || !qn_onnx_build_type(s->graph, &list[i].type, &dtype, &dims, &rank, &symbols))
            continue;
        v->dtype = dtype;
        v->dims = dims;
        v->rank = (uint8_t)rank;
        v->symbols = symbols;
    }
}

/* Fills s->graph from the file's graph: weights, inputs, nodes, outputs. */
static qn_code fill_graph(qn_onnx_build *b, qn_onnx_scope *s, const qn_onnx_graph *g, qn_err *err)
{
    uint64_t n_names = (uint64_t)g->n_initializers + g->n_inputs;
    uint32_t value;
    QN_TRY(count_graph(g, &n_names));
    QN_TRY(qn_onnx_scope_init(b, s, n_names, err));
    QN_TRY(qn_graph_begin_block(s->graph, "model", err));
    for (uint32_t i = 0; i < g->n_initializers; i++) {
        QN_TRY(qn_onnx_build_tensor(b, s->graph, &g->initializers[i], g->initializers[i].name, &value, err));
        QN_TRY(qn_onnx_scope_add(s, g->initializers[i].name, value, QN_NO_NODE, err));
    }
    /* An input with an initializer is one that has a default: the default is what we run with. */
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        const qn_onnx_entry *e = qn_onnx_scope_find(s, g->inputs[i].name);
        if (!e || e >= s->entries + g->n_initializers)
            QN_TRY(add_input(s, &g->inputs[i], err));
    }
    QN_TRY(add_producers(s, g->nodes, g->n_nodes, err));
    QN_TRY(build_nodes(b, s, g->nodes, g->n_nodes, err));
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        bool found;
        QN_TRY(lookup(s, g->outputs[i].name, &value, &found, err));
        if (!found || value == QN_NO_VALUE)
            return QN_FAIL(err, QN_E_INPUT, g->off, "output '%s' of the graph is given by no node", g->outputs[i].name);
        QN_TRY(qn_graph_output(s->graph, value, err));
    }
    take_hints(s, g->values, g->n_values);
    take_hints(s, g->outputs, g->n_outputs);
    return QN_OK;
}

static qn_code build_subgraph(qn_onnx_build *b, qn_onnx_scope *up, const qn_onnx_graph *g, qn_graph **out, qn_err *err)
{
    if (up->depth >= QN_WIRE_DEPTH_MAX)
        return QN_FAIL(err, QN_E_INPUT, g->off, "graphs nested deeper than %d", QN_WIRE_DEPTH_MAX);
    QN_TRY(qn_graph_new(b->env, b->source, "onnx", out, err));
    (*out)->outer = up->graph;
    qn_onnx_scope s = {.up = up, .graph = *out, .prefix = up->prefix, .call = up->call, .depth = up->depth + 1};
    const qn_code rc = fill_graph(b, &s, g, err);
    qn_onnx_scope_release(b, &s);
    return rc;
}

/* ---- functions ---- */

static const qn_onnx_function *function_of(const qn_onnx_build *b, const qn_onnx_node *d)
{
    if (qn_op_find(d->domain, d->op_type))
        return NULL;
    for (uint32_t i = 0; i < b->model->n_functions; i++) {
        const qn_onnx_function *f = &b->model->functions[i];
        if (!strcmp(f->name, d->op_type) && !strcmp(f->domain, d->domain) && !strcmp(f->overload, d->overload))
            return f;
    }
    return NULL;
}

static qn_code fill_function(qn_onnx_build *b, qn_onnx_scope *s, qn_onnx_scope *up, const qn_onnx_call *c, qn_err *err)
{
    const qn_onnx_function *f = c->fn;
    const qn_onnx_node *d = c->node;
    uint64_t n_names = (uint64_t)f->n_inputs + f->n_outputs;
    uint32_t value;
    QN_TRY(count_names(f->nodes, f->n_nodes, &n_names));
    QN_TRY(qn_onnx_scope_init(b, s, n_names, err));
    for (uint32_t i = 0; i < f->n_inputs; i++) {
        value = QN_NO_VALUE;
        if (i < d->n_inputs)
            QN_TRY(input_value(up, d, i, &value, err));
        QN_TRY(qn_onnx_scope_add(s, f->inputs[i], value, QN_NO_NODE, err));
    }
    QN_TRY(add_producers(s, f->nodes, f->n_nodes, err));
    QN_TRY(build_nodes(b, s, f->nodes, f->n_nodes, err));
    for (uint32_t i = 0; i < d->n_outputs; i++) {
        const qn_onnx_entry *e = i < f->n_outputs ? qn_onnx_scope_find(s, f->outputs[i]) : NULL;
        if (!d->outputs[i][0])
            continue;
        if (!e || e->value == QN_NO_VALUE)
            return QN_FAIL(err, QN_E_INPUT, d->off, "node '%s': function %s does not give output %" PRIu32, called(d), f->name, i);
        qn_onnx_scope_find(up, d->outputs[i])->value = e->value;
    }
    return QN_OK;
}

static qn_code inline_function(qn_onnx_build *b, qn_onnx_scope *up, const qn_onnx_node *d, const qn_onnx_function *f, qn_err *err)
{
    const qn_onnx_call call = {.up = up->call, .fn = f, .node = d};
    unsigned depth = 0;
    for (const qn_onnx_call *c = up->call; c; c = c->up, depth++)
        if (c->fn == f || depth >= QN_ONNX_CALLS_MAX)
            return QN_FAIL(err, QN_E_INPUT, d->off, "node '%s': function %s calls itself, or calls go deeper than %d", called(d), f->name,
                           QN_ONNX_CALLS_MAX);
    b->n_inlined += f->n_nodes;
    b->n_calls++;
    if (b->n_inlined > QN_ONNX_INLINED_MAX || b->n_calls > QN_ONNX_INLINED_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, d->off, "functions in place of their calls are more than %d nodes", QN_ONNX_INLINED_MAX);
    char prefix[QN_ONNX_PREFIX_BYTES];
    if (snprintf(prefix, sizeof prefix, "%s%s/", up->prefix, called(d)) >= (int)sizeof prefix)
        snprintf(prefix, sizeof prefix, "call:%" PRIu64 "/", b->n_calls);
    qn_onnx_scope s = {.graph = up->graph, .prefix = prefix, .call = &call, .depth = up->depth};
    const qn_code rc = fill_function(b, &s, up, &call, err);
    qn_onnx_scope_release(b, &s);
    return rc;
}

/* ---- nodes ---- */

static qn_code constant_of(qn_onnx_build *b, qn_onnx_scope *s, const qn_onnx_node *d, uint32_t *value, bool *done, qn_err *err)
{
    const qn_onnx_attr *a = d->n_attrs == 1 ? qn_onnx_attr_resolve(&d->attrs[0], s->call) : NULL;
    const char *as, *kind = d->n_attrs ? d->attrs[0].name : "";
    *done = a != NULL;
    if (!a)
        return QN_OK;
    if (a->type == QN_ONNX_ATTR_TENSOR && a->n && !strcmp(kind, "value"))
        return qn_onnx_build_tensor(b, s->graph, a->v.tensors, d->outputs[0], value, err);
    const int64_t n = (int64_t)a->n;
    QN_TRY(qn_onnx_build_name(s->graph, s->prefix, d->outputs[0], &as, err));
    if (a->type == QN_ONNX_ATTR_INT && !strcmp(kind, "value_int"))
        return qn_graph_const(s->graph, as, QN_I64, NULL, 0, &a->v.i, value, err);
    if (a->type == QN_ONNX_ATTR_FLOAT && !strcmp(kind, "value_float"))
        return qn_graph_const(s->graph, as, QN_F32, NULL, 0, &a->v.f, value, err);
    if (a->type == QN_ONNX_ATTR_INTS && !strcmp(kind, "value_ints"))
        return qn_graph_const(s->graph, as, QN_I64, &n, 1, a->v.ints, value, err);
    if (a->type == QN_ONNX_ATTR_FLOATS && !strcmp(kind, "value_floats"))
        return qn_graph_const(s->graph, as, QN_F32, &n, 1, a->v.floats, value, err);
    *done = false;
    return QN_OK;
}

/* All attributes; *opaque when there is one that cannot be held. Graphs that were begun hang in attrs[], also on failure. */
static qn_code attrs_of(qn_onnx_build *b, qn_onnx_scope *s, const qn_onnx_node *d, qn_attr *attrs, unsigned *n, bool *opaque, qn_err *err)
{
    const bool known = qn_op_find(d->domain, d->op_type) != NULL;
    for (uint32_t i = 0; i < d->n_attrs; i++) {
        const char *name = d->attrs[i].name;
        const qn_onnx_attr *a = qn_onnx_attr_resolve(&d->attrs[i], s->call);
        bool there = true;
        if (!a || a->type == QN_ONNX_ATTR_NONE)
            continue;
        if (a->type == QN_ONNX_ATTR_GRAPH && a->n) {
            qn_graph *sub = NULL;
            const qn_code rc = build_subgraph(b, s, a->v.graphs, &sub, err);
            attrs[*n] = (qn_attr){.name = name, .type = QN_ATTR_GRAPH, .v.graph = sub};
            *n += sub != NULL;
            QN_TRY(rc);
            continue;
        }
        QN_TRY(qn_onnx_build_attr(b, s->graph, d, name, a, &attrs[*n], &there, err));
        if (!there) {
            *opaque = true;
            continue;
        }
        const int want = known ? qn_onnx_attr_type_of(d->op_type, name) : -1;
        if (want >= 0 && want != attrs[*n].type)
            return QN_FAIL(err, QN_E_INPUT, d->off, "node '%s' (%s): attribute '%s' is of a wrong type", called(d), d->op_type, name);
        ++*n;
    }
    return QN_OK;
}

static void drop_graphs(const qn_attr *attrs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (attrs[i].type == QN_ATTR_GRAPH) {
            union {
                const qn_graph *in;
                qn_graph *sub;
            } u = {.in = attrs[i].v.graph};
            qn_graph_close(u.sub);
        }
}

struct lists {
    uint32_t *in, *out;
    const char **names;
    qn_attr *attrs;
};

static qn_code plain_node(qn_onnx_build *b, qn_onnx_scope *s, const qn_onnx_node *d, struct lists *l, unsigned *n_attrs, qn_err *err)
{
    qn_graph *g = s->graph;
    bool opaque = false;
    const char *name = called(d);
    for (uint32_t k = 0; k < d->n_inputs; k++)
        QN_TRY(input_value(s, d, k, &l->in[k], err));
    QN_TRY(attrs_of(b, s, d, l->attrs, n_attrs, &opaque, err));
    for (uint32_t k = 0; k < d->n_outputs; k++) {
        l->names[k] = "";
        if (d->outputs[k][0])
            QN_TRY(qn_onnx_build_name(g, s->prefix, d->outputs[k], &l->names[k], err));
    }
    if (s->prefix[0]) {
        const size_t n_bytes = strlen(s->prefix) + strlen(name) + 1;
        char *full = qn_arena_get(&g->arena, n_bytes, 1, err);
        if (!full)
            return QN_E_MEMORY;
        snprintf(full, n_bytes, "%s%s", s->prefix, name);
        name = full;
    }
    /* Trailing inputs that are left out are no inputs. */
    uint32_t n_in = d->n_inputs;
    while (n_in && !d->inputs[n_in - 1][0])
        n_in--;
    QN_TRY(qn_graph_node(g, is_onnx(d->domain) ? "" : d->domain, d->op_type, version_of(b, s, d->domain), name, l->in, n_in, l->attrs,
                         *n_attrs, l->names, l->out, d->n_outputs, err));
    *n_attrs = 0; /* the graph owns them now */
    if (opaque)
        g->nodes[g->n_nodes - 1].op = NULL;
    if (!s->prefix[0] && !s->call && !g->outer)
        g->nodes[g->n_nodes - 1].origin = d->off;
    for (uint32_t k = 0; k < d->n_outputs; k++)
        if (d->outputs[k][0])
            qn_onnx_scope_find(s, d->outputs[k])->value = l->out[k];
    return QN_OK;
}

static qn_code build_node(qn_onnx_build *b, qn_onnx_scope *s, const qn_onnx_node *d, qn_err *err)
{
    const qn_onnx_function *f = function_of(b, d);
    if (f)
        return inline_function(b, s, d, f, err);
    if (is_constant(d)) {
        uint32_t value;
        bool done;
        QN_TRY(constant_of(b, s, d, &value, &done, err));
        if (done) {
            qn_onnx_scope_find(s, d->outputs[0])->value = value;
            return QN_OK;
        }
    }
    if (d->n_inputs > UINT16_MAX || d->n_outputs > UINT16_MAX || d->n_attrs > UINT16_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, d->off, "node '%s' (%s) has more operands than are supported", called(d), d->op_type);
    const qn_alloc *a = b->env->alloc;
    struct lists l = {.in = qn_mem_zeros(a, d->n_inputs + 1u, sizeof *l.in, err)};
    unsigned n_attrs = 0;
    qn_code rc = QN_E_MEMORY;
    if (l.in && (l.out = qn_mem_zeros(a, d->n_outputs + 1u, sizeof *l.out, err)) &&
        (l.names = qn_mem_zeros(a, d->n_outputs + 1u, sizeof *l.names, err)) &&
        (l.attrs = qn_mem_zeros(a, d->n_attrs + 1u, sizeof *l.attrs, err)))
        rc = plain_node(b, s, d, &l, &n_attrs, err);
    if (l.attrs)
        drop_graphs(l.attrs, n_attrs);
    qn_mem_put(a, l.in);
    qn_mem_put(a, l.out);
    qn_mem_put(a, l.names);
    qn_mem_put(a, l.attrs);
    return rc;
}

static qn_code build_nodes(qn_onnx_build *b, qn_onnx_scope *s, const qn_onnx_node *nodes, uint32_t n, qn_err *err)
{
    uint32_t *order = qn_mem_get(b->env->alloc, ((uint64_t)n + 1) * sizeof *order, err);
    if (!order)
        return QN_E_MEMORY;
    qn_code rc = qn_onnx_order(b, s, nodes, n, order, err);
    for (uint32_t i = 0; i < n && rc == QN_OK; i++)
        rc = build_node(b, s, &nodes[order[i]], err);
    qn_mem_put(b->env->alloc, order);
    return rc;
}

/* ---- the model ---- */

static int by_tensor(const void *pa, const void *pb)
{
    const uintptr_t a = (uintptr_t)(*(const qn_onnx_weight *const *)pa)->tensor, b = (uintptr_t)(*(const qn_onnx_weight *const *)pb)->tensor;
    return (a > b) - (a < b);
}

static qn_code build_model(qn_onnx_build *b, qn_graph *g, qn_err *err)
{
    QN_TRY(qn_onnx_model_of(b->source, &g->arena, &b->model, &b->file, err));
    b->weights = qn_mem_get(b->env->alloc, (b->model->n_weights + 1) * sizeof *b->weights, err);
    if (!b->weights)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < b->model->n_weights; i++)
        b->weights[i] = &b->model->weights[i];
    if (b->model->n_weights)
        qsort(b->weights, (size_t)b->model->n_weights, sizeof *b->weights, by_tensor);
    qn_onnx_scope s = {.graph = g, .prefix = ""};
    const qn_code rc = fill_graph(b, &s, b->model->graph, err);
    qn_onnx_scope_release(b, &s);
    QN_TRY(rc);
    QN_TRY(qn_onnx_cut_blocks(b, g, err));
    return qn_graph_seal(g, err);
}

qn_code qn_graph_of_onnx(const qn_env *env, qn_source *s, qn_graph **out, qn_err *err)
{
    qn_onnx_build b = {.env = env, .source = s};
    qn_graph *g;
    *out = NULL;
    QN_TRY(qn_graph_new(env, s, "onnx", &g, err));
    const qn_code rc = build_model(&b, g, err);
    qn_mem_put(env->alloc, b.weights);
    if (rc != QN_OK) {
        qn_graph_close(g);
        return qn_err_in_path(err, rc, s->path);
    }
    *out = g;
    return QN_OK;
}
