/* graph.c: putting a graph together. What it means is checked by seal.c. */
#include "analysis/graph/op.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *name_of(const void *ctx, uint32_t item)
{
    return ((const qn_graph *)ctx)->values[item].name;
}

qn_code qn_graph_new(const qn_env *env, qn_source *s, const char *family, qn_graph **out, qn_err *err)
{
    qn_graph *g = qn_mem_zeros(env->alloc, 1, sizeof *g, err);
    if (!g)
        return QN_E_MEMORY;
    g->env = env;
    g->source = s;
    qn_arena_init(&g->arena, env->alloc);
    g->family = qn_arena_str(&g->arena, family, strlen(family), err);
    if (!g->family) {
        qn_graph_close(g);
        return QN_E_MEMORY;
    }
    *out = g;
    return QN_OK;
}

void qn_graph_close(qn_graph *g)
{
    if (!g)
        return;
    const qn_alloc *a = g->env->alloc;
    /* Subgraphs hang on attributes of nodes and belong to the graph around them. */
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (unsigned k = 0; k < g->nodes[i].n_attrs; k++)
            if (g->nodes[i].attrs[k].type == QN_ATTR_GRAPH) {
                union {
                    const qn_graph *in;
                    qn_graph *sub;
                } u = {.in = g->nodes[i].attrs[k].v.graph};
                qn_graph_close(u.sub);
            }
    qn_mem_put(a, g->values);
    qn_mem_put(a, g->nodes);
    qn_mem_put(a, g->blocks);
    qn_mem_put(a, g->inputs);
    qn_mem_put(a, g->outputs);
    qn_mem_put(a, g->last_use);
    qn_mem_put(a, g->names.slots);
    qn_arena_release(&g->arena);
    qn_mem_put(a, g);
}

void qn_graph_warn(qn_graph *g, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (g->n_warnings < sizeof g->warnings / sizeof g->warnings[0])
        g->warnings[g->n_warnings] = qn_arena_str(&g->arena, text, strlen(text), NULL);
    g->n_warnings++;
}

/* The table of names grows by being made anew: twice as large each time, so linear on the whole. */
static qn_code index_name(qn_graph *g, uint32_t value, qn_err *err)
{
    const uint64_t have = g->names.slots ? g->names.mask + 1 : 0;
    if (qn_names_slots((uint64_t)value + 1) > have) {
        const uint64_t want = qn_names_slots(2 * ((uint64_t)value + 16));
        qn_name_slot *slots = qn_mem_zeros(g->env->alloc, want, sizeof *slots, err);
        if (!slots)
            return QN_E_MEMORY;
        qn_mem_put(g->env->alloc, g->names.slots);
        qn_names_init(&g->names, slots, want);
        for (uint32_t i = 0; i < value; i++)
            qn_names_add(&g->names, g->values[i].name, i, name_of, g);
    }
    if (qn_names_add(&g->names, g->values[value].name, value, name_of, g) != QN_NAMES_NONE) {
        g->n_values--;
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "two values of the graph are named '%s'", g->values[value].name);
    }
    return QN_OK;
}

static qn_code add_value(qn_graph *g, const char *name, const int64_t *dims, unsigned rank, qn_value v, uint32_t *out, qn_err *err)
{
    if (g->n_values >= UINT32_MAX - 1)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the graph has more than %" PRIu32 " values", g->n_values);
    qn_value *grown = qn_mem_grow(g->env->alloc, g->values, g->n_values, &g->cap_values, (uint64_t)g->n_values + 1,
                                  sizeof *grown, err);
    if (!grown)
        return QN_E_MEMORY;
    g->values = grown;
    v.name = qn_arena_str(&g->arena, name, strlen(name), err);
    if (!v.name)
        return QN_E_MEMORY;
    v.rank = QN_RANK_UNKNOWN;
    if (dims || rank == 0) {
        int64_t *copy = qn_arena_get(&g->arena, (rank ? rank : 1) * sizeof *copy, 8, err);
        if (!copy)
            return QN_E_MEMORY;
        if (rank)
            memcpy(copy, dims, rank * sizeof *copy);
        v.dims = copy;
        v.rank = (uint8_t)rank;
    }
    const uint32_t i = g->n_values++;
    g->values[i] = v;
    QN_TRY(index_name(g, i, err));
    *out = i;
    return QN_OK;
}

static qn_code push(const qn_alloc *a, uint32_t **list, uint32_t *n, uint64_t *cap, uint32_t value, qn_err *err)
{
    uint32_t *grown = qn_mem_grow(a, *list, *n, cap, (uint64_t)*n + 1, sizeof *grown, err);
    if (!grown)
        return QN_E_MEMORY;
    *list = grown;
    grown[(*n)++] = value;
    return QN_OK;
}

qn_code qn_graph_input(qn_graph *g, const char *name, qn_dtype t, const int64_t *dims, unsigned rank, uint32_t *value, qn_err *err)
{
    const qn_value v = {.kind = QN_VALUE_INPUT, .dtype = (uint8_t)t, .node = QN_NO_NODE};
    QN_TRY(add_value(g, name, dims, dims ? rank : QN_RANK_UNKNOWN, v, value, err));
    return push(g->env->alloc, &g->inputs, &g->n_inputs, &g->cap_inputs, *value, err);
}

qn_dtype qn_running_dtype(qn_dtype t)
{
    switch (t) {
    case QN_I64: case QN_I32: case QN_I16: case QN_I8: case QN_U64: case QN_U32: case QN_U16: case QN_U8: case QN_BOOL:
        return t;
    case QN_F64: return QN_F64;
    case QN_BYTES: case QN_C64: return QN_BYTES;
    default: return QN_F32;
    }
}

qn_code qn_graph_weight(qn_graph *g, const char *name, uint32_t *value, qn_err *err)
{
    const uint32_t have = qn_graph_find(g, name);
    if (have != QN_NO_VALUE && g->values[have].kind == QN_VALUE_WEIGHT) {
        *value = have;
        return QN_OK;
    }
    const uint64_t i = qn_source_tensor_find(g->source, name);
    if (i == UINT64_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model needs this tensor, and it is not there"), name);
    const qn_source_tensor *t = &g->source->tensors[i];
    int64_t dims[QN_ARRAY_RANK_MAX];
    if (t->rank > QN_ARRAY_RANK_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rank %u; at most %u is supported", t->rank,
                                             (unsigned)QN_ARRAY_RANK_MAX), name);
    if (qn_running_dtype((qn_dtype)t->dtype) == QN_BYTES)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a model cannot be run with a weight of dtype %s",
                                             qn_dtype_name((qn_dtype)t->dtype)), name);
    for (unsigned k = 0; k < t->rank; k++)
        dims[k] = (int64_t)t->dims[k]; /* < 2^48: checked when it was opened */
    const qn_value v = {.kind = QN_VALUE_WEIGHT, .dtype = (uint8_t)qn_running_dtype((qn_dtype)t->dtype), .tensor = i, .node = QN_NO_NODE};
    return add_value(g, name, dims, t->rank, v, value, err);
}

qn_code qn_graph_const(qn_graph *g, const char *name, qn_dtype t, const int64_t *dims, unsigned rank, const void *data,
                       uint32_t *value, qn_err *err)
{
    qn_value v = {.kind = QN_VALUE_CONST, .dtype = (uint8_t)t, .node = QN_NO_NODE};
    QN_TRY(qn_array_wrap(&v.data, t, dims, rank, NULL, err));
    const uint64_t n_bytes = qn_array_bytes(&v.data);
    v.data.data = qn_arena_get(&g->arena, n_bytes ? n_bytes : 1, 64, err);
    if (!v.data.data)
        return QN_E_MEMORY;
    if (n_bytes)
        memcpy(v.data.data, data, n_bytes);
    char made[32];
    if (!name) {
        snprintf(made, sizeof made, "const:%" PRIu32, g->n_values);
        name = made;
    }
    return add_value(g, name, dims, rank, v, value, err);
}

qn_code qn_graph_outer(qn_graph *g, const char *name, uint32_t outer, uint32_t *value, qn_err *err)
{
    if (!g->outer || outer >= g->outer->n_values)
        return QN_BUG(err, "'%s' of a graph around that is not there", name);
    const qn_value v = {.kind = QN_VALUE_OUTER, .outer = outer, .node = QN_NO_NODE, .dtype = QN_BYTES};
    return add_value(g, name, NULL, QN_RANK_UNKNOWN, v, value, err);
}

qn_code qn_graph_know(qn_graph *g, uint32_t value, const qn_array *content, qn_err *err)
{
    const uint64_t n_bytes = qn_array_bytes(content);
    qn_array a = *content;
    a.buffer = NULL;
    a.data = qn_arena_get(&g->arena, n_bytes ? n_bytes : 1, 64, err);
    if (!a.data)
        return QN_E_MEMORY;
    if (n_bytes)
        memcpy(a.data, content->data, n_bytes);
    int64_t *dims = qn_arena_get(&g->arena, (a.rank + 1u) * sizeof *dims, 8, err);
    if (!dims)
        return QN_E_MEMORY;
    memcpy(dims, a.dims, a.rank * sizeof *dims);
    g->values[value].data = a;
    g->values[value].dims = dims;
    g->values[value].rank = a.rank;
    g->values[value].dtype = a.dtype;
    return QN_OK;
}

qn_code qn_graph_output(qn_graph *g, uint32_t value, qn_err *err)
{
    return push(g->env->alloc, &g->outputs, &g->n_outputs, &g->cap_outputs, value, err);
}

qn_code qn_graph_begin_block(qn_graph *g, const char *name, qn_err *err)
{
    qn_graph_block *grown = qn_mem_grow(g->env->alloc, g->blocks, g->n_blocks, &g->cap_blocks, (uint64_t)g->n_blocks + 1,
                                        sizeof *grown, err);
    if (!grown)
        return QN_E_MEMORY;
    g->blocks = grown;
    qn_graph_block *b = &grown[g->n_blocks++];
    *b = (qn_graph_block){.name = qn_arena_str(&g->arena, name, strlen(name), err), .first_node = g->n_nodes};
    return b->name ? QN_OK : QN_E_MEMORY;
}

static qn_code copy_text(qn_graph *g, const char **s, qn_err *err)
{
    *s = qn_arena_str(&g->arena, *s, strlen(*s), err);
    return *s ? QN_OK : QN_E_MEMORY;
}

static qn_code copy_bytes(qn_graph *g, const void *src, uint64_t n_bytes, const void **out, qn_err *err)
{
    void *p = qn_arena_get(&g->arena, n_bytes ? n_bytes : 1, 64, err);
    if (!p)
        return QN_E_MEMORY;
    if (n_bytes)
        memcpy(p, src, n_bytes);
    *out = p;
    return QN_OK;
}

static qn_code copy_attr(qn_graph *g, qn_attr *a, qn_err *err)
{
    const void *p = NULL;
    QN_TRY(copy_text(g, &a->name, err));
    switch ((qn_attr_type)a->type) {
    case QN_ATTR_INT:
    case QN_ATTR_FLOAT:
    case QN_ATTR_GRAPH: return QN_OK;
    case QN_ATTR_STRING: return copy_text(g, &a->v.s, err);
    case QN_ATTR_INTS:
        QN_TRY(copy_bytes(g, a->v.ints, a->n * sizeof *a->v.ints, &p, err));
        a->v.ints = p;
        return QN_OK;
    case QN_ATTR_FLOATS:
        QN_TRY(copy_bytes(g, a->v.floats, a->n * sizeof *a->v.floats, &p, err));
        a->v.floats = p;
        return QN_OK;
    case QN_ATTR_STRINGS: {
        const char **copy = qn_arena_get(&g->arena, (a->n ? a->n : 1) * sizeof *copy, 8, err);
        if (!copy)
            return QN_E_MEMORY;
        for (uint32_t i = 0; i < a->n; i++) {
            copy[i] = a->v.strings[i];
            QN_TRY(copy_text(g, &copy[i], err));
        }
        a->v.strings = copy;
        return QN_OK;
    }
    case QN_ATTR_TENSOR: {
        qn_array *t = qn_arena_get(&g->arena, sizeof *t, 8, err);
        if (!t)
            return QN_E_MEMORY;
        *t = *a->v.tensor;
        t->buffer = NULL;
        QN_TRY(copy_bytes(g, a->v.tensor->data, qn_array_bytes(t), &p, err));
        union {
            const void *in;
            void *out;
        } u = {.in = p};
        t->data = u.out;
        a->v.tensor = t;
        return QN_OK;
    }
    }
    return QN_BUG(err, "attribute '%s' of no type", a->name);
}

static qn_code copy_list(qn_graph *g, const uint32_t *src, unsigned n, uint32_t **out, qn_err *err)
{
    *out = qn_arena_get(&g->arena, (n ? n : 1) * sizeof **out, 4, err);
    if (!*out)
        return QN_E_MEMORY;
    if (n && src)
        memcpy(*out, src, n * sizeof **out);
    return QN_OK;
}

qn_code qn_graph_node(qn_graph *g, const char *domain, const char *type, unsigned version, const char *name, const uint32_t *in,
                      unsigned n_in, const qn_attr *attrs, unsigned n_attrs, const char *const *out_names, uint32_t *out,
                      unsigned n_out, qn_err *err)
{
    if (g->n_nodes >= UINT32_MAX - 1 || n_in > UINT16_MAX || n_out > UINT16_MAX || n_attrs > UINT16_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "node '%s' has more operands than are supported (%u in, %u out)", name, n_in, n_out);
    if (!g->n_blocks)
        QN_TRY(qn_graph_begin_block(g, "model", err));
    qn_node *grown = qn_mem_grow(g->env->alloc, g->nodes, g->n_nodes, &g->cap_nodes, (uint64_t)g->n_nodes + 1, sizeof *grown, err);
    if (!grown)
        return QN_E_MEMORY;
    g->nodes = grown;
    qn_node n = {.op = qn_op_find(domain, type), .name = name, .type = type, .domain = domain, .n_in = (uint16_t)n_in,
                 .n_out = (uint16_t)n_out, .n_attrs = (uint16_t)n_attrs, .version = (uint16_t)version, .block = g->n_blocks - 1};
    QN_TRY(copy_text(g, &n.name, err));
    QN_TRY(copy_text(g, &n.type, err));
    QN_TRY(copy_text(g, &n.domain, err));
    uint32_t *list;
    QN_TRY(copy_list(g, in, n_in, &list, err));
    n.in = list;
    qn_attr *a = qn_arena_get(&g->arena, (n_attrs ? n_attrs : 1) * sizeof *a, 8, err);
    if (!a)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < n_attrs; i++) {
        a[i] = attrs[i];
        QN_TRY(copy_attr(g, &a[i], err));
    }
    n.attrs = a;
    QN_TRY(copy_list(g, NULL, n_out, &list, err));
    n.out = list;
    for (unsigned i = 0; i < n_out; i++) {
        char made[512];
        const char *text = out_names ? out_names[i] : made;
        list[i] = QN_NO_VALUE;
        if (out_names && !*text)
            continue;
        if (!out_names)
            snprintf(made, sizeof made, n_out == 1 ? "%s" : "%s:%u", name, i);
        const qn_value v = {.kind = QN_VALUE_NODE, .node = g->n_nodes, .output = (uint16_t)i, .dtype = QN_BYTES};
        QN_TRY(add_value(g, text, NULL, QN_RANK_UNKNOWN, v, &list[i], err));
    }
    if (out)
        for (unsigned i = 0; i < n_out; i++)
            out[i] = list[i];
    g->nodes[g->n_nodes++] = n;
    g->blocks[g->n_blocks - 1].n_nodes++;
    return QN_OK;
}

uint32_t qn_graph_find(const qn_graph *g, const char *name)
{
    return g->names.slots ? qn_names_find(&g->names, name, name_of, g) : QN_NO_VALUE;
}

uint64_t qn_value_elems(const qn_value *v)
{
    uint64_t n = 1;
    for (unsigned k = 0; k < v->rank; k++)
        n *= (uint64_t)v->dims[k];
    return n;
}
