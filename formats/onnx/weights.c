/* weights.c: which tensors of a model are weights, and what each is called: an initializer by its name, the value of a Constant by
 * the node's output; in front, inside subgraphs, the names of the nodes that lead there. Where two scopes still give one
 * name, the later gets a number. In one scope a name must stand once. */
#include "base/err.h"
#include "base/num.h"
#include "formats/onnx/parse.h"
#include <stdio.h>
#include <stdlib.h>

enum { NESTING_MAX = QN_WIRE_DEPTH_MAX };

struct walk {
    qn_onnx_parse *p;
    qn_onnx_weight *list; /* NULL while they are counted */
    uint64_t n, room, n_scopes;
    const char *path[NESTING_MAX]; /* the nodes that lead here */
    unsigned depth;
};

static bool is_constant(const qn_onnx_node *d)
{
    return strcmp(d->op_type, "Constant") == 0 && d->n_outputs == 1 && d->outputs[0][0] &&
           (d->domain[0] == '\0' || strcmp(d->domain, "ai.onnx") == 0);
}

static qn_code add_weight(struct walk *w, const char *name, const qn_onnx_tensor *t, uint64_t scope, qn_err *err)
{
    if (!w->list) {
        w->n++;
        return QN_OK;
    }
    char full[QN_ONNX_NAME_BYTES_MAX + 1];
    size_t at = 0;
    for (unsigned i = 0; i <= w->depth; i++) {
        const char *part = i < w->depth ? w->path[i] : name;
        const size_t n = strlen(part);
        if (n > sizeof full - 2 - at)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, t->off, "its name and the names of the nodes around it are "
                                                 "longer than %d bytes", QN_ONNX_NAME_BYTES_MAX), name);
        memcpy(full + at, part, n);
        at += n;
        full[at++] = i < w->depth ? '/' : '\0';
    }
    qn_onnx_weight *x = &w->list[w->n++];
    *x = (qn_onnx_weight){.tensor = t, .scope = scope};
    return qn_onnx_intern(w->p, full, &x->name, err);
}

static qn_code walk_graph(struct walk *w, const qn_onnx_graph *g, qn_err *err);

static qn_code walk_attr(struct walk *w, const qn_onnx_node *d, const qn_onnx_attr *a, uint64_t scope, qn_err *err)
{
    if (a->type == QN_ONNX_ATTR_TENSOR && a->n && is_constant(d) && strcmp(a->name, "value") == 0)
        return add_weight(w, d->outputs[0], a->v.tensors, scope, err);
    const bool tensors = a->type == QN_ONNX_ATTR_TENSOR || a->type == QN_ONNX_ATTR_TENSORS;
    for (uint64_t i = 0; tensors && i < a->n; i++) /* its file would not be part of the source */
        if (a->v.tensors[i].data == QN_ONNX_DATA_EXTERNAL)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, a->v.tensors[i].off, "external data of attribute '%s', "
                                                 "which is no weight", a->name), d->name);
    if (a->type != QN_ONNX_ATTR_GRAPH && a->type != QN_ONNX_ATTR_GRAPHS)
        return QN_OK;
    if (w->depth == NESTING_MAX)
        return QN_FAIL(err, QN_E_INPUT, d->off, "graphs nested deeper than %d", NESTING_MAX);
    w->path[w->depth++] = d->name[0] ? d->name : d->n_outputs && d->outputs[0][0] ? d->outputs[0] : d->op_type;
    for (uint64_t i = 0; i < a->n; i++)
        QN_TRY(walk_graph(w, &a->v.graphs[i], err));
    w->depth--;
    return QN_OK;
}

static qn_code walk_nodes(struct walk *w, const qn_onnx_node *nodes, uint32_t n, uint64_t scope, qn_err *err)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < nodes[i].n_attrs; k++)
            QN_TRY(walk_attr(w, &nodes[i], &nodes[i].attrs[k], scope, err));
    return QN_OK;
}

static qn_code walk_graph(struct walk *w, const qn_onnx_graph *g, qn_err *err)
{
    const uint64_t scope = w->n_scopes++;
    for (uint32_t i = 0; i < g->n_initializers; i++)
        QN_TRY(add_weight(w, g->initializers[i].name, &g->initializers[i], scope, err));
    return walk_nodes(w, g->nodes, g->n_nodes, scope, err);
}

static qn_code walk_model(struct walk *w, const qn_onnx_model *m, qn_err *err)
{
    w->n = w->n_scopes = 0;
    QN_TRY(walk_graph(w, m->graph, err));
    for (uint32_t i = 0; i < m->n_functions; i++) {
        w->path[0] = m->functions[i].name;
        w->depth = 1;
        const uint64_t scope = w->n_scopes++;
        QN_TRY(walk_nodes(w, m->functions[i].nodes, m->functions[i].n_nodes, scope, err));
        w->depth = 0;
    }
    return QN_OK;
}

/* ---- one name each ---- */

/* By scope, then by name (interned: its address stands for it), then as walked. */
static int by_scope(const void *pa, const void *pb)
{
    const qn_onnx_weight *a = *(qn_onnx_weight *const *)pa, *b = *(qn_onnx_weight *const *)pb;
    if (a->scope != b->scope)
        return a->scope < b->scope ? -1 : 1;
    if (a->name != b->name)
        return (uintptr_t)a->name < (uintptr_t)b->name ? -1 : 1;
    return (a > b) - (a < b);
}

/* Of all doubles the first in the walk is reported, whatever order the addresses gave. */
static qn_code check_scopes(qn_onnx_weight **sorted, uint64_t n, qn_err *err)
{
    const qn_onnx_weight *twin = NULL;
    if (n)
        qsort(sorted, (size_t)n, sizeof(qn_onnx_weight *), by_scope);
    for (uint64_t i = 1; i < n; i++)
        if (sorted[i]->scope == sorted[i - 1]->scope && sorted[i]->name == sorted[i - 1]->name &&
            (!twin || sorted[i] < twin))
            twin = sorted[i];
    if (!twin)
        return QN_OK;
    return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, twin->tensor->off, "two tensors of one graph have this name"),
                            twin->name);
}

struct uniquely {
    qn_names table;
    const qn_onnx_weight *list;
};

static const char *weight_name(const void *ctx, uint32_t item)
{
    return ((const struct uniquely *)ctx)->list[item].name;
}

/* `next` of the weight that has a name first: the number to try for the next one. */
static qn_code number_names(qn_onnx_parse *p, qn_onnx_weight *list, uint64_t n, struct uniquely *u, uint32_t *next, qn_err *err)
{
    for (uint64_t i = 0; i < n; i++) {
        const uint32_t first = qn_names_add(&u->table, list[i].name, (uint32_t)i, weight_name, u);
        const char *plain = list[i].name;
        for (uint32_t twin = first; twin != QN_NAMES_NONE;) {
            char text[QN_ONNX_NAME_BYTES_MAX + 32];
            (void)snprintf(text, sizeof text, "%s.%lu", plain, (unsigned long)(next[first] += next[first] ? 1 : 2));
            if (strlen(text) > QN_ONNX_NAME_BYTES_MAX)
                return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, list[i].tensor->off, "its name with a number is longer "
                                                     "than %d bytes", QN_ONNX_NAME_BYTES_MAX), plain);
            QN_TRY(qn_onnx_intern(p, text, &list[i].name, err));
            twin = qn_names_add(&u->table, list[i].name, (uint32_t)i, weight_name, u);
        }
    }
    return QN_OK;
}

static qn_code make_unique(qn_onnx_parse *p, qn_onnx_weight *list, uint64_t n, qn_err *err)
{
    struct uniquely u = {.list = list};
    const uint64_t n_slots = qn_names_slots(n);
    qn_onnx_weight **sorted = qn_mem_zeros(p->alloc, n, sizeof *sorted, err);
    uint32_t *next = qn_mem_zeros(p->alloc, n, sizeof *next, err);
    qn_name_slot *slots = qn_mem_zeros(p->alloc, n_slots, sizeof *slots, err);
    qn_code rc = sorted && next && slots ? QN_OK : QN_E_MEMORY;
    for (uint64_t i = 0; rc == QN_OK && i < n; i++)
        sorted[i] = &list[i];
    if (rc == QN_OK)
        rc = check_scopes(sorted, n, err);
    if (rc == QN_OK) {
        qn_names_init(&u.table, slots, n_slots);
        rc = number_names(p, list, n, &u, next, err);
    }
    qn_mem_put(p->alloc, sorted);
    qn_mem_put(p->alloc, next);
    qn_mem_put(p->alloc, slots);
    return rc;
}

qn_code qn_onnx_list_weights(qn_onnx_parse *p, qn_onnx_model *m, qn_err *err)
{
    struct walk w = {.p = p};
    QN_TRY(walk_model(&w, m, err));
    if (w.n >= UINT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than 2^32 tensors");
    QN_TRY(qn_onnx_take(p, w.n, sizeof *w.list, &w.list, err));
    QN_TRY(walk_model(&w, m, err));
    m->weights = w.list;
    m->n_weights = w.n;
    return make_unique(p, w.list, w.n, err);
}
