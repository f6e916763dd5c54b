/* emit_onnx_eval.c: what a model works out from shapes and constants alone, before and after a cut. Each such node is run by itself, three times: with
 * the shapes as they are; with other sizes of whatever varies from run to run, which tells numbers from sizes; with the shapes after the cut, which tells
 * what comes out right by itself and what must be said anew. */
#include "base/err.h"
#include "compress/prune/emit_onnx.h"
#include <string.h>

enum { OPERANDS_MAX = 32 };

typedef enum pass { OLD, OTHER, NOW } pass;

int64_t qn_emit_int_at(const qn_array *a, uint64_t i)
{
    if (a->dtype == QN_I64)
        return ((const int64_t *)a->data)[i];
    if (a->dtype == QN_I32)
        return ((const int32_t *)a->data)[i];
    return QN_INT_UNKNOWN;
}

qn_code qn_emit_ints(qn_onnx_emission *e, uint32_t value, int64_t **list, uint64_t *n, qn_err *err)
{
    *list = NULL;
    *n = 0;
    if (value == QN_NO_VALUE || !e->old[value].data || (e->old[value].dtype != QN_I64 && e->old[value].dtype != QN_I32))
        return QN_OK;
    const qn_array *a = &e->old[value], *b = &e->other[value];
    const bool both = b->data && b->n == a->n && b->dtype == a->dtype;
    *list = qn_arena_get(&e->edit.arena, (a->n + 1) * sizeof **list, 8, err);
    if (!*list)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < a->n; i++)
        (*list)[i] = both && qn_emit_int_at(a, i) == qn_emit_int_at(b, i) ? qn_emit_int_at(a, i) : QN_INT_UNKNOWN;
    *n = a->n;
    return QN_OK;
}

static bool same(const qn_array *a, const qn_array *b)
{
    return a->data && b->data && a->dtype == b->dtype && a->n == b->n && (a->n == 0 || !memcmp(a->data, b->data, qn_array_bytes(a)));
}

bool qn_emit_drifts(const qn_onnx_emission *e, uint32_t value)
{
    return e->old[value].data && !same(&e->old[value], &e->now[value]);
}

/* Constants of the model; lists of integers that were too long to be looked at while the graph was built are read. */
static qn_code begin(qn_onnx_emission *e, uint32_t v, qn_err *err)
{
    const qn_value *x = &e->g->values[v];
    qn_array a = x->data;
    if (x->kind != QN_VALUE_CONST && x->kind != QN_VALUE_WEIGHT)
        return QN_OK;
    if (!a.data && x->kind == QN_VALUE_WEIGHT && (x->dtype == QN_I64 || x->dtype == QN_I32)) {
        void *data = qn_arena_get(&e->edit.arena, qn_value_elems(x) * 8 + 1, 64, err);
        if (!data)
            return QN_E_MEMORY;
        QN_TRY(qn_weight_from_source(e->env, e->g->source, e->g, v, 0, x->rank ? (uint64_t)x->dims[0] : 1, data, err));
        QN_TRY(qn_array_wrap(&a, (qn_dtype)x->dtype, x->dims, x->rank, data, err));
    }
    if (!a.data)
        return QN_OK;
    a.buffer = NULL;
    e->old[v] = e->other[v] = a;
    if (!e->touched[v])
        e->now[v] = a;
    return QN_OK;
}

/* The shape of a value in one of the passes. */
static bool shape_in(const qn_onnx_emission *e, uint32_t v, pass p, qn_info *i)
{
    const qn_groups *s = e->cut->groups;
    if (s->rank[v] > QN_ARRAY_RANK_MAX)
        return false;
    i->rank = s->rank[v];
    for (unsigned k = 0; k < i->rank; k++) {
        const int64_t d = p == NOW ? qn_emit_new(e, v, k) : qn_emit_old(e, v, k);
        i->dims[k] = p == OTHER && s->varies[(uint64_t)v * QN_ARRAY_RANK_MAX + k] ? 2 * d + 3 : d;
    }
    return true;
}

struct take {
    qn_onnx_emission *e;
    const qn_node *n;
    qn_array *known;
};

static qn_code take(void *ctx, unsigned output, const qn_array *content, qn_err *err)
{
    const struct take *t = ctx;
    qn_array *a = &t->known[t->n->out[output]];
    void *data = qn_arena_get(&t->e->edit.arena, qn_array_bytes(content) + 1, 64, err);
    if (!data)
        return QN_E_MEMORY;
    if (content->n)
        memcpy(data, content->data, qn_array_bytes(content));
    *a = *content;
    a->data = data;
    a->buffer = NULL;
    return QN_OK;
}

static qn_code eval_node(qn_onnx_emission *e, uint32_t node, pass p, qn_array *known, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    qn_info in[OPERANDS_MAX];
    const bool shape = !*n->domain && (!strcmp(n->type, "Shape") || !strcmp(n->type, "Size"));
    if (n->n_in == 0 || n->n_in > OPERANDS_MAX)
        return QN_OK;
    for (unsigned k = 0; k < n->n_in; k++) {
        in[k] = (qn_info){.rank = QN_RANK_UNKNOWN};
        if (n->in[k] == QN_NO_VALUE)
            continue;
        const qn_array *a = &known[n->in[k]];
        if (shape ? !shape_in(e, n->in[k], p, &in[k]) : !a->data)
            return QN_OK;
        if (!shape) {
            in[k].value = in[k].partly = a;
            in[k].dtype = a->dtype;
            in[k].rank = a->rank;
            memcpy(in[k].dims, a->dims, sizeof in[k].dims);
        }
    }
    struct take t = {e, n, known};
    return qn_fold_node(e->env, e->g, n, in, take, &t, err);
}

qn_code qn_emit_eval(qn_onnx_emission *e, qn_err *err)
{
    for (uint32_t v = 0; v < e->g->n_values; v++)
        QN_TRY(begin(e, v, err));
    qn_array *const passes[] = {e->old, e->other, e->now};
    for (unsigned p = 0; p < 3; p++)
        for (uint32_t i = 0; i < e->g->n_nodes; i++)
            QN_TRY(eval_node(e, i, (pass)p, passes[p], err));
    return QN_OK;
}
