/* rewrite_find.c: see rewrite_find.h. */
#include "formats/onnx/rewrite_find.h"
#include "base/err.h"
#include "base/num.h"
#include <stdlib.h>

static int place_order(const void *pa, const void *pb)
{
    const struct qn_onnx_by_place *a = pa, *b = pb;
    return (a->off > b->off) - (a->off < b->off);
}

static int name_order(const void *pa, const void *pb)
{
    return strcmp(((const struct qn_onnx_by_name *)pa)->name, ((const struct qn_onnx_by_name *)pb)->name);
}

const void *qn_onnx_at_place(const qn_onnx_places *l, uint64_t off)
{
    const struct qn_onnx_by_place key = {.off = off}, *found = l->n ? bsearch(&key, l->p, (size_t)l->n, sizeof key, place_order) : NULL;
    return found ? found->what : NULL;
}

const void *qn_onnx_named(const qn_onnx_named_list *l, const char *name)
{
    const struct qn_onnx_by_name key = {.name = name}, *found = l->n ? bsearch(&key, l->p, (size_t)l->n, sizeof key, name_order) : NULL;
    return found ? found->what : NULL;
}

static uint64_t place_of(const qn_onnx_add_node *a)
{
    return a->behind ? a->behind->off : 0; /* no message lies at 0: the model itself begins there */
}

static int behind_order(const void *pa, const void *pb)
{
    const qn_onnx_add_node *a = *(const qn_onnx_add_node *const *)pa, *b = *(const qn_onnx_add_node *const *)pb;
    const uint64_t x = place_of(a), y = place_of(b);
    return x != y ? (x > y) - (x < y) : ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b); /* of one array */
}

const qn_onnx_add_node *const *qn_onnx_behind(const qn_onnx_sought *w, uint64_t off, uint32_t *n)
{
    uint32_t lo = 0, hi = w->n_behind;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (place_of(w->behind[mid]) < off)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (hi = lo; hi < w->n_behind && place_of(w->behind[hi]) == off;)
        hi++;
    *n = hi - lo;
    return (const qn_onnx_add_node *const *)w->behind + lo;
}

static qn_code room(qn_arena *arena, uint64_t n, uint64_t size, void *pointer, qn_err *err)
{
    bool ovf = false;
    void *q = qn_arena_get(arena, qn_mul(n + 1, size, &ovf), 8, err);
    if (!q || ovf)
        return QN_E_MEMORY;
    memcpy(pointer, &q, sizeof q);
    return QN_OK;
}

static bool is_initializer(const qn_onnx_model *m, const qn_onnx_tensor *t)
{
    return (uintptr_t)t >= (uintptr_t)m->graph->initializers && (uintptr_t)t < (uintptr_t)(m->graph->initializers + m->graph->n_initializers);
}

static bool still_given(const qn_onnx_new_node *d, const char *name)
{
    for (uint32_t i = 0; i < d->n_outputs; i++)
        if (!strcmp(d->outputs[i], name))
            return true;
    return false;
}

static qn_code list_gone(qn_onnx_sought *w, qn_arena *arena, const qn_onnx_edits *e, qn_err *err)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < e->n_nodes; i++)
        n += e->nodes[i].node->n_outputs;
    QN_TRY(room(arena, n, sizeof *w->gone.p, &w->gone.p, err));
    for (uint32_t i = 0; i < e->n_nodes; i++) {
        const qn_onnx_new_node *d = &e->nodes[i];
        for (uint32_t k = 0; k < d->node->n_outputs; k++)
            if (d->remove || (d->outputs && !still_given(d, d->node->outputs[k])))
                w->gone.p[w->gone.n++] = (struct qn_onnx_by_name){d->node->outputs[k], d};
    }
    if (w->gone.n)
        qsort(w->gone.p, (size_t)w->gone.n, sizeof *w->gone.p, name_order);
    return QN_OK;
}

qn_code qn_onnx_sought_make(qn_onnx_sought *w, qn_arena *arena, const qn_onnx_model *m, const qn_onnx_edits *e, qn_err *err)
{
    QN_TRY(room(arena, e->n_tensors, sizeof *w->new_tensors.p, &w->new_tensors.p, err));
    QN_TRY(room(arena, e->n_tensors, sizeof *w->new_shapes.p, &w->new_shapes.p, err));
    QN_TRY(room(arena, e->n_nodes, sizeof *w->new_nodes.p, &w->new_nodes.p, err));
    QN_TRY(room(arena, m->n_weights, sizeof *w->weights.p, &w->weights.p, err));
    QN_TRY(room(arena, e->n_drop_initializers, sizeof *w->dropped.p, &w->dropped.p, err));
    QN_TRY(room(arena, e->n_added_nodes, sizeof *w->behind, &w->behind, err));
    for (; w->n_behind < e->n_added_nodes; w->n_behind++)
        w->behind[w->n_behind] = &e->added_nodes[w->n_behind];
    if (w->n_behind)
        qsort(w->behind, w->n_behind, sizeof *w->behind, behind_order);
    for (uint32_t i = 0; i < e->n_tensors; i++) {
        w->new_tensors.p[w->new_tensors.n++] = (struct qn_onnx_by_place){e->tensors[i].tensor->off, &e->tensors[i]};
        if (is_initializer(m, e->tensors[i].tensor))
            w->new_shapes.p[w->new_shapes.n++] = (struct qn_onnx_by_name){e->tensors[i].tensor->name, &e->tensors[i]};
    }
    for (uint32_t i = 0; i < e->n_nodes; i++)
        w->new_nodes.p[w->new_nodes.n++] = (struct qn_onnx_by_place){e->nodes[i].node->off, &e->nodes[i]};
    for (uint64_t i = 0; i < m->n_weights; i++)
        w->weights.p[w->weights.n++] = (struct qn_onnx_by_place){m->weights[i].tensor->off, m->weights[i].tensor};
    for (uint32_t i = 0; i < e->n_drop_initializers; i++)
        w->dropped.p[w->dropped.n++] = (struct qn_onnx_by_name){e->drop_initializers[i], e};
    qn_onnx_places *const places[] = {&w->new_tensors, &w->new_nodes, &w->weights};
    for (unsigned i = 0; i < 3; i++)
        if (places[i]->n)
            qsort(places[i]->p, (size_t)places[i]->n, sizeof *places[i]->p, place_order);
    qn_onnx_named_list *const names[] = {&w->new_shapes, &w->dropped};
    for (unsigned i = 0; i < 2; i++)
        if (names[i]->n)
            qsort(names[i]->p, (size_t)names[i]->n, sizeof *names[i]->p, name_order);
    return list_gone(w, arena, e, err);
}
