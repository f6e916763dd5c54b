/* onnx_edit.c: see onnx_edit.h. */
#include "compress/prune/onnx_edit.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static int name_order(const void *pa, const void *pb)
{
    return strcmp(*(const char *const *)pa, *(const char *const *)pb);
}

static bool has_name(const char *const *list, uint64_t n, const char *name)
{
    return n && bsearch(&name, list, (size_t)n, sizeof name, name_order);
}

static qn_code add_name(qn_onnx_edit *e, const char ***list, uint64_t *n, uint64_t *cap, const char *name, qn_err *err)
{
    const char **p = qn_mem_grow(e->env->alloc, *list, *n, cap, *n + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    *list = p;
    p[(*n)++] = name;
    return QN_OK;
}

static qn_code see(qn_onnx_edit *e, const char *name, bool pin, qn_err *err)
{
    QN_TRY(add_name(e, &e->seen, &e->n_seen, &e->cap_seen, name, err));
    return pin ? add_name(e, &e->pinned, &e->n_pinned, &e->cap_pinned, name, err) : QN_OK;
}

static bool is_call(const qn_onnx_edit *e, const qn_onnx_node *d)
{
    for (uint32_t i = 0; i < e->model->n_functions; i++)
        if (!strcmp(e->model->functions[i].name, d->op_type) && !strcmp(e->model->functions[i].domain, d->domain))
            return true;
    return false;
}

/* All names of a graph; of one in an attribute each is pinned: it may mean what the graph around has. */
static qn_code see_graph(qn_onnx_edit *e, const qn_onnx_graph *g, bool inner, qn_err *err)
{
    for (uint32_t i = 0; i < g->n_initializers; i++)
        QN_TRY(see(e, g->initializers[i].name, inner, err));
    for (uint32_t i = 0; i < g->n_inputs; i++)
        QN_TRY(see(e, g->inputs[i].name, inner, err));
    for (uint32_t i = 0; i < g->n_outputs; i++)
        QN_TRY(see(e, g->outputs[i].name, true, err));
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_onnx_node *d = &g->nodes[i];
        const bool call = is_call(e, d);
        for (uint32_t k = 0; k < d->n_inputs; k++)
            QN_TRY(see(e, d->inputs[k], inner || call, err));
        for (uint32_t k = 0; k < d->n_outputs; k++)
            QN_TRY(see(e, d->outputs[k], inner || call, err));
        for (uint32_t k = 0; k < d->n_attrs; k++)
            if (d->attrs[k].type == QN_ONNX_ATTR_GRAPH || d->attrs[k].type == QN_ONNX_ATTR_GRAPHS)
                for (uint64_t j = 0; j < d->attrs[k].n; j++)
                    QN_TRY(see_graph(e, &d->attrs[k].v.graphs[j], true, err));
    }
    return QN_OK;
}

qn_code qn_onnx_edit_init(qn_onnx_edit *e, const qn_env *env, qn_source *s, qn_err *err)
{
    bool held = qn_onnx_source_model(s) != NULL;
    *e = (qn_onnx_edit){.env = env, .source = s};
    qn_arena_init(&e->arena, env->alloc);
    for (uint64_t i = 0; i < s->n_files && !held; i++)
        held = qn_text_ends(s->files[i].path, ".onnx");
    if (!held)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "is no ONNX model, and holds none"), s->path);
    QN_TRY(qn_err_in_path(err, qn_onnx_model_of(s, &e->arena, &e->model, &e->file, err), s->path));
    e->nodes = qn_mem_zeros(env->alloc, e->model->graph->n_nodes + 1ull, sizeof *e->nodes, err);
    if (!e->nodes)
        return QN_E_MEMORY;
    QN_TRY(see_graph(e, e->model->graph, false, err));
    if (e->n_seen)
        qsort(e->seen, (size_t)e->n_seen, sizeof *e->seen, name_order);
    if (e->n_pinned)
        qsort(e->pinned, (size_t)e->n_pinned, sizeof *e->pinned, name_order);
    return QN_OK;
}

void qn_onnx_edit_release(qn_onnx_edit *e)
{
    if (!e->env)
        return;
    const qn_alloc *a = e->env->alloc;
    for (uint64_t i = 0; i < e->n_contents; i++)
        qn_mem_put(a, e->contents[i].data);
    qn_mem_put(a, e->contents);
    qn_mem_put(a, e->made);
    qn_mem_put(a, e->nodes);
    qn_mem_put(a, e->tensors);
    qn_mem_put(a, e->added);
    qn_mem_put(a, e->added_nodes);
    qn_mem_put(a, e->dropped);
    qn_mem_put(a, e->seen);
    qn_mem_put(a, e->pinned);
    qn_arena_release(&e->arena);
    *e = (qn_onnx_edit){0};
}

bool qn_onnx_edit_is_pinned(const qn_onnx_edit *e, const char *name)
{
    return has_name(e->pinned, e->n_pinned, name);
}

qn_code qn_onnx_edit_new_name(qn_onnx_edit *e, const char *base, const char **name, qn_err *err)
{
    const size_t n = strlen(base) + 24;
    char *p = qn_arena_get(&e->arena, n, 1, err);
    if (!p)
        return QN_E_MEMORY;
    snprintf(p, n, "%s", base);
    for (uint64_t k = 2;; k++) {
        bool taken = has_name(e->seen, e->n_seen, p);
        for (uint64_t i = 0; i < e->n_added && !taken; i++)
            taken = !strcmp(e->added[i].name, p);
        for (uint64_t i = 0; i < e->n_added_nodes && !taken; i++)
            for (uint32_t j = 0; j < e->added_nodes[i].n_outputs && !taken; j++)
                taken = !strcmp(e->added_nodes[i].outputs[j], p);
        if (!taken)
            break;
        snprintf(p, n, "%s.%" PRIu64, base, k);
    }
    *name = p;
    return QN_OK;
}

/* ---- nodes ---- */

uint32_t qn_onnx_edit_find(const qn_onnx_edit *e, uint64_t origin)
{
    const qn_onnx_graph *g = e->model->graph;
    uint32_t lo = 0, hi = g->n_nodes; /* they stand in the order of the file */
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (g->nodes[mid].off < origin)
            lo = mid + 1;
        else
            hi = mid;
    }
    return origin && lo < g->n_nodes && g->nodes[lo].off == origin ? lo : QN_NO_NODE;
}

qn_code qn_onnx_edit_remove(qn_onnx_edit *e, uint32_t node, qn_err *err)
{
    (void)err;
    e->nodes[node].changed = e->nodes[node].removed = true;
    return QN_OK;
}

/* A list of names with room for `want`, as it is so far; those that are new are "". */
static qn_code own_list(qn_onnx_edit *e, const char ***list, uint32_t *n, const char *const *old, uint32_t n_old, uint32_t want, qn_err *err)
{
    const char *const *from = *list ? *list : old;
    const uint32_t have = *list ? *n : n_old, all = want > have ? want : have;
    const char **p = qn_arena_get(&e->arena, (all + 1ull) * sizeof *p, 8, err);
    if (!p)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < all; i++)
        p[i] = i < have ? from[i] : "";
    *list = p;
    *n = all;
    return QN_OK;
}

static qn_code own_name(qn_onnx_edit *e, const char *name, const char **own, qn_err *err)
{
    *own = qn_arena_str(&e->arena, name, strlen(name), err);
    return *own ? QN_OK : QN_E_MEMORY;
}

qn_code qn_onnx_edit_input(qn_onnx_edit *e, uint32_t node, uint32_t k, const char *name, qn_err *err)
{
    qn_onnx_node_edit *d = &e->nodes[node];
    const qn_onnx_node *old = &e->model->graph->nodes[node];
    if (!d->in || k >= d->n_in)
        QN_TRY(own_list(e, &d->in, &d->n_in, old->inputs, old->n_inputs, k + 1, err));
    d->changed = true;
    return own_name(e, name, &d->in[k], err);
}

qn_code qn_onnx_edit_n_inputs(qn_onnx_edit *e, uint32_t node, uint32_t n, qn_err *err)
{
    qn_onnx_node_edit *d = &e->nodes[node];
    const qn_onnx_node *old = &e->model->graph->nodes[node];
    QN_TRY(own_list(e, &d->in, &d->n_in, old->inputs, old->n_inputs, 0, err));
    d->changed = true;
    d->n_in = n < d->n_in ? n : d->n_in;
    return QN_OK;
}

qn_code qn_onnx_edit_output(qn_onnx_edit *e, uint32_t node, uint32_t k, const char *name, qn_err *err)
{
    qn_onnx_node_edit *d = &e->nodes[node];
    const qn_onnx_node *old = &e->model->graph->nodes[node];
    if (!d->out)
        QN_TRY(own_list(e, &d->out, &d->n_out, old->outputs, old->n_outputs, k + 1, err));
    d->changed = true;
    return own_name(e, name, &d->out[k], err);
}

qn_code qn_onnx_edit_type(qn_onnx_edit *e, uint32_t node, const char *op_type, qn_err *err)
{
    e->nodes[node].changed = true;
    return own_name(e, op_type, &e->nodes[node].op_type, err);
}

/* Room for an attribute of that name: the one that was set before, or one more. */
static qn_code attr_room(qn_onnx_edit *e, uint32_t node, const char *name, qn_onnx_new_attr **a, qn_err *err)
{
    qn_onnx_node_edit *d = &e->nodes[node];
    d->changed = true;
    for (uint32_t i = 0; i < d->n_attrs; i++)
        if (!strcmp(d->attrs[i].name, name)) {
            *a = &d->attrs[i];
            return QN_OK;
        }
    qn_onnx_new_attr *p = qn_arena_get(&e->arena, (d->n_attrs + 1ull) * sizeof *p, 8, err);
    if (!p)
        return QN_E_MEMORY;
    if (d->n_attrs)
        memcpy(p, d->attrs, d->n_attrs * sizeof *p);
    d->attrs = p;
    *a = &p[d->n_attrs];
    **a = (qn_onnx_new_attr){0};
    QN_TRY(own_name(e, name, &(*a)->name, err));
    d->n_attrs++;
    return QN_OK;
}

qn_code qn_onnx_edit_attr(qn_onnx_edit *e, uint32_t node, const char *name, const int64_t *ints, uint32_t n, qn_err *err)
{
    qn_onnx_new_attr *a;
    const uint64_t count = n == QN_ONNX_ONE_INT ? 1 : n;
    int64_t *own = qn_arena_get(&e->arena, (count + 1) * sizeof *own, 8, err);
    if (!own)
        return QN_E_MEMORY;
    if (count)
        memcpy(own, ints, count * sizeof *own);
    QN_TRY(attr_room(e, node, name, &a, err));
    a->ints = own;
    a->n = n;
    return QN_OK;
}

qn_code qn_onnx_edit_attr_float(qn_onnx_edit *e, uint32_t node, const char *name, float f, qn_err *err)
{
    qn_onnx_new_attr *a;
    QN_TRY(attr_room(e, node, name, &a, err));
    a->f = f;
    a->n = QN_ONNX_ONE_FLOAT;
    return QN_OK;
}

qn_code qn_onnx_edit_drop_attr(qn_onnx_edit *e, uint32_t node, const char *name, qn_err *err)
{
    qn_onnx_node_edit *d = &e->nodes[node];
    const char **p = qn_arena_get(&e->arena, (d->n_drops + 1ull) * sizeof *p, 8, err);
    if (!p)
        return QN_E_MEMORY;
    if (d->n_drops)
        memcpy(p, d->drops, d->n_drops * sizeof *p);
    d->drops = p;
    d->changed = true;
    QN_TRY(own_name(e, name, &p[d->n_drops], err));
    d->n_drops++;
    return QN_OK;
}

static qn_code own_names(qn_onnx_edit *e, const char *const *names, uint32_t n, const char *const **own, qn_err *err)
{
    const char **p = qn_arena_get(&e->arena, (n + 1ull) * sizeof *p, 8, err);
    if (!p)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < n; i++)
        QN_TRY(own_name(e, names[i], &p[i], err));
    *own = p;
    return QN_OK;
}

qn_code qn_onnx_edit_add_node(qn_onnx_edit *e, uint32_t behind, const qn_onnx_add_node *node, qn_err *err)
{
    qn_onnx_add_node *p = qn_mem_grow(e->env->alloc, e->added_nodes, e->n_added_nodes, &e->cap_added_nodes, e->n_added_nodes + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    e->added_nodes = p;
    p += e->n_added_nodes;
    *p = *node;
    p->behind = behind == QN_NO_NODE ? NULL : &e->model->graph->nodes[behind];
    qn_onnx_new_attr *attrs = qn_arena_get(&e->arena, (node->n_attrs + 1ull) * sizeof *attrs, 8, err);
    if (!attrs)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < node->n_attrs; i++) {
        const uint64_t n = node->attrs[i].n == QN_ONNX_ONE_INT ? 1 : node->attrs[i].n == QN_ONNX_ONE_FLOAT ? 0 : node->attrs[i].n;
        int64_t *ints = qn_arena_get(&e->arena, (n + 1) * sizeof *ints, 8, err);
        if (!ints)
            return QN_E_MEMORY;
        if (n)
            memcpy(ints, node->attrs[i].ints, n * sizeof *ints);
        attrs[i] = node->attrs[i];
        attrs[i].ints = ints;
        QN_TRY(own_name(e, node->attrs[i].name, &attrs[i].name, err));
    }
    p->attrs = attrs;
    QN_TRY(own_name(e, node->name, &p->name, err));
    QN_TRY(own_name(e, node->op_type, &p->op_type, err));
    QN_TRY(own_name(e, node->domain, &p->domain, err));
    QN_TRY(own_names(e, node->inputs, node->n_inputs, &p->inputs, err));
    QN_TRY(own_names(e, node->outputs, node->n_outputs, &p->outputs, err));
    e->n_added_nodes++;
    return QN_OK;
}

qn_code qn_onnx_edit_opset(qn_onnx_edit *e, const char *domain, int64_t version, qn_err *err)
{
    uint32_t i = 0;
    while (i < e->n_opsets && strcmp(e->opsets[i].key, domain))
        i++;
    if (i == sizeof e->opsets / sizeof e->opsets[0])
        return QN_BUG(err, "more domains than are kept");
    e->n_opsets += i == e->n_opsets;
    e->opsets[i].version = version;
    return own_name(e, domain, &e->opsets[i].key, err);
}

uint32_t qn_onnx_edit_count(const qn_onnx_edit *e, uint32_t node)
{
    return e->nodes[node].in ? e->nodes[node].n_in : e->model->graph->nodes[node].n_inputs;
}

const char *qn_onnx_edit_name(const qn_onnx_edit *e, uint32_t node, uint32_t k)
{
    return e->nodes[node].in ? e->nodes[node].in[k] : e->model->graph->nodes[node].inputs[k];
}

/* ---- tensors ---- */

static bool is_constant(const qn_onnx_node *d)
{
    return !strcmp(d->op_type, "Constant") && (!*d->domain || !strcmp(d->domain, "ai.onnx")) && d->n_outputs == 1;
}

const qn_onnx_tensor *qn_onnx_edit_tensor_of(const qn_onnx_edit *e, const char *name)
{
    const qn_onnx_graph *g = e->model->graph;
    for (uint32_t i = 0; i < g->n_initializers; i++)
        if (!strcmp(g->initializers[i].name, name))
            return &g->initializers[i];
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (is_constant(&g->nodes[i]) && !strcmp(g->nodes[i].outputs[0], name))
            for (uint32_t k = 0; k < g->nodes[i].n_attrs; k++)
                if (g->nodes[i].attrs[k].type == QN_ONNX_ATTR_TENSOR && g->nodes[i].attrs[k].n && !strcmp(g->nodes[i].attrs[k].name, "value"))
                    return g->nodes[i].attrs[k].v.tensors;
    return NULL;
}

/* data are the content's from the first line on, also when this fails. */
static qn_code add_content(qn_onnx_edit *e, void *data, uint64_t id, const int64_t *dims, unsigned rank, const uint64_t **own, qn_err *err)
{
    qn_onnx_edit_content *p = qn_mem_grow(e->env->alloc, e->contents, e->n_contents, &e->cap_contents, e->n_contents + 1, sizeof *p, err);
    if (!p) {
        qn_mem_put(e->env->alloc, data);
        return QN_E_MEMORY;
    }
    e->contents = p;
    p[e->n_contents++] = (qn_onnx_edit_content){data, id};
    uint64_t *d = qn_arena_get(&e->arena, (rank + 1u) * sizeof *d, 8, err);
    if (!d)
        return QN_E_MEMORY;
    for (unsigned k = 0; k < rank; k++)
        d[k] = (uint64_t)dims[k];
    *own = d;
    return QN_OK;
}

qn_code qn_onnx_edit_tensor(qn_onnx_edit *e, const qn_onnx_tensor *t, const int64_t *dims, unsigned rank, void *data, uint64_t id, qn_err *err)
{
    const uint64_t *own;
    QN_TRY(add_content(e, data, id, dims, rank, &own, err));
    qn_onnx_new_tensor *p = qn_mem_grow(e->env->alloc, e->tensors, e->n_tensors, &e->cap_tensors, e->n_tensors + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    e->tensors = p;
    p[e->n_tensors++] = (qn_onnx_new_tensor){.tensor = t, .dims = own, .rank = (uint8_t)rank, .id = e->n_contents - 1};
    return QN_OK;
}

qn_code qn_onnx_edit_add(qn_onnx_edit *e, const char *name, uint8_t data_type, const int64_t *dims, unsigned rank, void *data, uint64_t id,
                         qn_err *err)
{
    const uint64_t *own;
    const char *as;
    QN_TRY(add_content(e, data, id, dims, rank, &own, err));
    QN_TRY(own_name(e, name, &as, err));
    qn_onnx_add_tensor *p = qn_mem_grow(e->env->alloc, e->added, e->n_added, &e->cap_added, e->n_added + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    e->added = p;
    p[e->n_added++] = (qn_onnx_add_tensor){.name = as, .dims = own, .rank = (uint8_t)rank, .data_type = data_type, .id = e->n_contents - 1};
    return QN_OK;
}

qn_code qn_onnx_edit_drop(qn_onnx_edit *e, const char *initializer, qn_err *err)
{
    return add_name(e, &e->dropped, &e->n_dropped, &e->cap_dropped, initializer, err);
}

/* ---- what nobody reads any more ---- */

qn_code qn_onnx_edit_sweep(qn_onnx_edit *e, qn_err *err)
{
    const qn_onnx_graph *g = e->model->graph;
    const char **before = NULL, **after = NULL;
    uint64_t n_before = 0, n_after = 0, cap_before = 0, cap_after = 0;
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < g->n_nodes && rc == QN_OK; i++) {
        const qn_onnx_node_edit *d = &e->nodes[i];
        for (uint32_t k = 0; d->changed && k < g->nodes[i].n_inputs && rc == QN_OK; k++)
            rc = add_name(e, &before, &n_before, &cap_before, g->nodes[i].inputs[k], err);
        for (uint32_t k = 0; !d->removed && k < qn_onnx_edit_count(e, i) && rc == QN_OK; k++)
            rc = add_name(e, &after, &n_after, &cap_after, qn_onnx_edit_name(e, i, k), err);
    }
    for (uint64_t i = 0; i < e->n_added_nodes && rc == QN_OK; i++)
        for (uint32_t k = 0; k < e->added_nodes[i].n_inputs && rc == QN_OK; k++)
            rc = add_name(e, &after, &n_after, &cap_after, e->added_nodes[i].inputs[k], err);
    if (n_before)
        qsort(before, (size_t)n_before, sizeof *before, name_order);
    if (n_after)
        qsort(after, (size_t)n_after, sizeof *after, name_order);
    for (uint32_t i = 0; i < g->n_initializers && rc == QN_OK; i++) {
        const char *name = g->initializers[i].name;
        if (has_name(before, n_before, name) && !has_name(after, n_after, name) && !qn_onnx_edit_is_pinned(e, name))
            rc = add_name(e, &e->dropped, &e->n_dropped, &e->cap_dropped, name, err);
    }
    for (uint32_t i = 0; i < g->n_nodes && rc == QN_OK; i++) {
        const char *name = is_constant(&g->nodes[i]) ? g->nodes[i].outputs[0] : "";
        if (*name && has_name(before, n_before, name) && !has_name(after, n_after, name) && !qn_onnx_edit_is_pinned(e, name))
            rc = qn_onnx_edit_remove(e, i, err);
    }
    qn_mem_put(e->env->alloc, before);
    qn_mem_put(e->env->alloc, after);
    return rc;
}

/* ---- writing ---- */

bool qn_onnx_edit_changes(const qn_onnx_edit *e)
{
    bool any = e->n_tensors || e->n_added || e->n_added_nodes || e->n_dropped || e->n_opsets;
    for (uint32_t i = 0; i < e->model->graph->n_nodes && !any; i++)
        any = e->nodes[i].changed;
    return any;
}

static qn_code read_content(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    qn_onnx_edit *e = ctx;
    const qn_onnx_edit_content *c = &e->contents[id];
    const uint8_t *from = c->data;
    if (!from && (!e->made || e->made_content != id)) {
        qn_mem_put(e->env->alloc, e->made);
        e->made = NULL;
        QN_TRY(e->make(e->make_ctx, c->id, &e->made, &e->made_bytes, err));
        e->made_content = id;
    }
    if (!from) {
        from = e->made;
        if (off > e->made_bytes || n > e->made_bytes - off)
            return QN_BUG(err, "a content of %" PRIu64 " bytes, too few", e->made_bytes);
    }
    memcpy(dst, from + off, (size_t)n);
    return QN_OK;
}

/* A tensor that goes, or whose Constant goes, takes no new content. */
static bool is_dropped(const qn_onnx_edit *e, const qn_onnx_tensor *t)
{
    const qn_onnx_graph *g = e->model->graph;
    for (uint64_t i = 0; i < e->n_dropped; i++)
        if (*t->name && !strcmp(e->dropped[i], t->name))
            return true;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; e->nodes[i].removed && k < g->nodes[i].n_attrs; k++)
            if (g->nodes[i].attrs[k].type == QN_ONNX_ATTR_TENSOR && g->nodes[i].attrs[k].v.tensors == t)
                return true;
    return false;
}

qn_code qn_onnx_edit_write(qn_onnx_edit *e, const char *path, bool overwrite, bool drop_value_info, const qn_onnx_pair *props, uint32_t n_props,
                           qn_err *err)
{
    const qn_onnx_graph *g = e->model->graph;
    const qn_onnx_rewrite_options o = {.overwrite = overwrite, .external_bytes = e->external_bytes};
    qn_onnx_new_node *nodes = qn_arena_get(&e->arena, (g->n_nodes + 1ull) * sizeof *nodes, 8, err);
    uint32_t n = 0;
    uint64_t n_tensors = 0;
    if (!nodes)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_onnx_node_edit *d = &e->nodes[i];
        if (d->changed)
            nodes[n++] = (qn_onnx_new_node){.node = &g->nodes[i], .remove = d->removed, .inputs = d->in, .outputs = d->out, .n_inputs = d->n_in,
                                            .n_outputs = d->n_out, .op_type = d->op_type, .attrs = d->attrs, .n_attrs = d->n_attrs,
                                            .drop_attrs = d->drops, .n_drop_attrs = d->n_drops};
    }
    for (uint64_t i = 0; i < e->n_tensors; i++)
        if (!is_dropped(e, e->tensors[i].tensor))
            e->tensors[n_tensors++] = e->tensors[i];
    e->n_tensors = n_tensors;
    const qn_onnx_edits edits = {.model = e->model, .file = e->file, .tensors = e->tensors, .added = e->added, .nodes = nodes,
                                 .added_nodes = e->added_nodes, .drop_initializers = e->dropped, .props = props, .opsets = e->opsets,
                                 .ir_version = e->ir_version, .n_tensors = (uint32_t)e->n_tensors, .n_added = (uint32_t)e->n_added, .n_nodes = n,
                                 .n_added_nodes = (uint32_t)e->n_added_nodes, .n_opsets = e->n_opsets,
                                 .n_drop_initializers = (uint32_t)e->n_dropped, .n_props = n_props, .drop_value_info = drop_value_info,
                                 .read = read_content, .read_ctx = e};
    return qn_onnx_rewrite(e->env, e->source, &edits, path, &o, err);
}
