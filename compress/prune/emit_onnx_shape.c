/* emit_onnx_shape.c: operands that are shapes. A shape is made from the new shape of what the node gives, not edited: where the old one was a number,
 * the new one is; 0, −1 and what depends on the input stay as they are. A shape that is a constant gets a constant of its own in its place, so
 * that other readers keep theirs. One that is put together (Concat of a computed batch size and numbers) stays so, with other numbers. */
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/emit_onnx.h"
#include <string.h>

static bool is(const qn_node *n, const char *type)
{
    return !*n->domain && !strcmp(n->type, type);
}

bool qn_emit_is_shape_slot(const qn_node *n, unsigned k)
{
    if (is(n, "ConstantOfShape"))
        return k == 0;
    if (is(n, "Reshape") || is(n, "Expand") || is(n, "Tile") || is(n, "Split"))
        return k == 1;
    if (is(n, "Slice"))
        return k == 1 || k == 2;
    return is(n, "Resize") && k == 3;
}

/* ---- shapes that are put together ---- */

static qn_code set_piece(qn_onnx_emission *e, uint32_t concat, unsigned k, const int64_t *want, uint64_t n, qn_err *err)
{
    for (uint64_t i = 0; i < e->n_pieces; i++)
        if (e->pieces[i].node == concat && e->pieces[i].k == k)
            return e->pieces[i].n == n && !memcmp(e->pieces[i].ints, want, n * sizeof *want)
                       ? QN_OK : qn_emit_refuse(e, concat, "two nodes would want different shapes of it", err);
    struct qn_emit_piece *p = qn_mem_grow(e->env->alloc, e->pieces, e->n_pieces, &e->cap_pieces, e->n_pieces + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    e->pieces = p;
    int64_t *own = qn_arena_get(&e->edit.arena, (n + 1) * sizeof *own, 8, err);
    if (!own)
        return QN_E_MEMORY;
    memcpy(own, want, n * sizeof *own);
    p[e->n_pieces++] = (struct qn_emit_piece){concat, k, own, n};
    return qn_emit_literal(e, concat, k, want, n, 1, err);
}

/* The parts of a Concat whose numbers are known become numbers; *followed false: it is no such thing. */
static qn_code set_pieces(qn_onnx_emission *e, uint32_t value, const int64_t *want, uint64_t n, bool *followed, qn_err *err)
{
    const qn_value *v = &e->g->values[value];
    *followed = false;
    if (v->kind != QN_VALUE_NODE || !is(&e->g->nodes[v->node], "Concat"))
        return QN_OK;
    const qn_node *concat = &e->g->nodes[v->node];
    uint64_t at = 0;
    for (unsigned k = 0; k < concat->n_in; k++) {
        const qn_value *part = &e->g->values[concat->in[k]];
        int64_t *have;
        uint64_t n_have;
        if (part->rank != 1 || part->dims[0] < 0 || (uint64_t)part->dims[0] > n - at)
            return QN_OK;
        QN_TRY(qn_emit_ints(e, concat->in[k], &have, &n_have, err));
        bool known = have != NULL, other = false;
        for (uint64_t i = 0; i < (uint64_t)part->dims[0]; i++) {
            known = known && have[i] != QN_INT_UNKNOWN && want[at + i] != QN_INT_UNKNOWN;
            other = other || (have && have[i] != want[at + i]);
        }
        if (known && (other || e->tainted[concat->in[k]]))
            QN_TRY(set_piece(e, v->node, k, want + at, (uint64_t)part->dims[0], err));
        else if (other && have)
            return QN_OK;
        at += (uint64_t)part->dims[0];
    }
    *followed = at == n;
    return QN_OK;
}

/* Is it the very shape of a value whose new shape is this? */
static bool is_shape_of(const qn_onnx_emission *e, uint32_t value, const int64_t *want, uint64_t n)
{
    const qn_value *v = &e->g->values[value];
    if (v->kind != QN_VALUE_NODE || !is(&e->g->nodes[v->node], "Shape") || e->g->nodes[v->node].n_attrs)
        return false;
    const uint32_t x = e->g->nodes[v->node].in[0];
    if (x == QN_NO_VALUE || qn_emit_rank(e, x) != n)
        return false;
    for (unsigned k = 0; k < n; k++)
        if (want[k] != QN_INT_UNKNOWN && want[k] != qn_emit_new(e, x, k))
            return false;
    return true;
}

/* Input k of the node, which was have[], becomes want[]: QN_INT_UNKNOWN where it is worked out while the model runs. free_one: one of these may be
 * left to the operator as −1. */
static qn_code put_shape(qn_onnx_emission *e, uint32_t node, unsigned k, const int64_t *have, int64_t *want, uint64_t n, bool free_one, qn_err *err)
{
    const uint32_t v = e->g->nodes[node].in[k];
    bool other = false, followed, has_free = false;
    uint64_t n_unknown = 0, unknown = 0;
    for (uint64_t i = 0; i < n; i++) {
        other = other || have[i] != want[i];
        has_free = has_free || want[i] == -1;
        if (want[i] == QN_INT_UNKNOWN) {
            n_unknown++;
            unknown = i;
        }
    }
    if ((!other && !e->tainted[v]) || is_shape_of(e, v, want, n))
        return QN_OK;
    if (n_unknown == 1 && free_one && !has_free) {
        want[unknown] = -1;
        n_unknown = 0;
    }
    if (n_unknown == 0)
        return qn_emit_literal(e, node, k, want, n, 1, err);
    QN_TRY(set_pieces(e, v, want, n, &followed, err));
    return followed || !other ? QN_OK : qn_emit_refuse(e, node, "its shape is worked out in a way that cannot be followed", err);
}

/* ---- operators ---- */

static qn_code reshape_by_attr(qn_onnx_emission *e, uint32_t node, const int64_t *have, const int64_t *want, uint64_t n, qn_err *err)
{
    uint32_t file;
    if (!memcmp(have, want, n * sizeof *have))
        return QN_OK;
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    return qn_onnx_edit_attr(&e->edit, file, "shape", want, (uint32_t)n, err);
}

qn_code qn_emit_reshape(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const uint32_t x = n->in[0], y = n->out[0], shape = qn_emit_in(n, 1);
    const bool zero_is_zero = qn_node_int(n, "allowzero", 0) != 0;
    int64_t *list = NULL, want[QN_ARRAY_RANK_MAX], have[QN_ARRAY_RANK_MAX];
    uint64_t count = 0;
    unsigned n_attr = 0;
    const int64_t *attr = shape == QN_NO_VALUE ? qn_node_ints(n, "shape", &n_attr) : NULL;
    QN_TRY(qn_emit_ints(e, shape, &list, &count, err));
    if (attr) {
        list = qn_arena_get(&e->edit.arena, (n_attr + 1u) * sizeof *list, 8, err);
        if (!list)
            return QN_E_MEMORY;
        memcpy(list, attr, n_attr * sizeof *list);
        count = n_attr;
    }
    if (qn_emit_rank(e, y) > QN_ARRAY_RANK_MAX || qn_emit_rank(e, x) > QN_ARRAY_RANK_MAX)
        return QN_OK;
    if (!list || count != qn_emit_rank(e, y))
        return !e->touched[x] && !e->touched[y] ? QN_OK
               : shape != QN_NO_VALUE && is_shape_of(e, shape, &e->dims[(uint64_t)y * QN_ARRAY_RANK_MAX], qn_emit_rank(e, y))
                   ? QN_OK : qn_emit_refuse(e, node, "its shape is not known", err);
    for (unsigned k = 0; k < count; k++) {
        have[k] = want[k] = list[k];
        const bool copies = list[k] == 0 && !zero_is_zero && k < qn_emit_rank(e, x) && qn_emit_new(e, x, k) == qn_emit_new(e, y, k);
        if (list[k] > 0 || (list[k] == 0 && !copies && !zero_is_zero))
            want[k] = qn_emit_new(e, y, k);
    }
    return attr ? reshape_by_attr(e, node, have, want, count, err) : put_shape(e, node, 1, have, want, count, true, err);
}

/* Tile says how often, which must come out. */
static qn_code check_tile(qn_onnx_emission *e, uint32_t node, const int64_t *list, uint64_t n, qn_err *err)
{
    const qn_node *d = &e->g->nodes[node];
    for (unsigned k = 0; k < n && k < qn_emit_rank(e, d->in[0]); k++) {
        const bool changed = qn_emit_new(e, d->in[0], k) != qn_emit_old(e, d->in[0], k) || qn_emit_new(e, d->out[0], k) != qn_emit_old(e, d->out[0], k);
        if (changed && (list[k] == QN_INT_UNKNOWN || list[k] * qn_emit_new(e, d->in[0], k) != qn_emit_new(e, d->out[0], k)))
            return qn_emit_refuse(e, node, "its copies would keep different parts", err);
    }
    return QN_OK;
}

/* Which axis of the output entry i of a shape is: those of Resize may be some of them only, since version 18. */
static unsigned axis_of_entry(const qn_node *n, uint64_t i, unsigned rank)
{
    unsigned count;
    const int64_t *axes = is(n, "Resize") ? qn_node_ints(n, "axes", &count) : NULL;
    if (!axes || i >= count)
        return (unsigned)i;
    return (unsigned)(axes[i] < 0 ? axes[i] + (int64_t)rank : axes[i]);
}

qn_code qn_emit_sizes(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const unsigned k = is(n, "ConstantOfShape") ? 0 : is(n, "Resize") ? 3 : 1, rank = qn_emit_rank(e, n->out[0]);
    const uint32_t shape = qn_emit_in(n, k);
    int64_t *list, want[QN_ARRAY_RANK_MAX], have[QN_ARRAY_RANK_MAX];
    uint64_t count;
    if (shape == QN_NO_VALUE || rank > QN_ARRAY_RANK_MAX)
        return QN_OK; /* Resize by scales: channels have scale 1 */
    QN_TRY(qn_emit_ints(e, shape, &list, &count, err));
    if (!list || count > rank)
        return e->touched[n->out[0]] ? qn_emit_refuse(e, node, "its shape is not known", err) : QN_OK;
    if (is(n, "Tile"))
        return check_tile(e, node, list, count, err);
    for (unsigned i = 0; i < count; i++) {
        /* Expand lines its shape up at the end; 1 leaves an axis as it is */
        const unsigned axis = is(n, "Expand") ? rank - (unsigned)count + i : axis_of_entry(n, i, rank);
        have[i] = want[i] = list[i];
        if (axis < rank && list[i] > 0 && list[i] == qn_emit_old(e, n->out[0], axis))
            want[i] = qn_emit_new(e, n->out[0], axis);
    }
    return put_shape(e, node, k, have, want, count, false, err);
}

/* ---- numbers that come from shapes and are none ---- */

/* A known content as it is now: a width that scales an attention, a count. */
static qn_code freeze_operand(qn_onnx_emission *e, uint32_t node, unsigned k, qn_err *err)
{
    static const uint8_t types[][2] = {{QN_F32, QN_ONNX_FLOAT}, {QN_F64, QN_ONNX_DOUBLE}, {QN_I64, QN_ONNX_INT64}, {QN_I32, QN_ONNX_INT32},
                                       {QN_BOOL, QN_ONNX_BOOL}};
    const uint32_t v = e->g->nodes[node].in[k];
    const qn_array *a = &e->g->values[v].data;
    const char *name;
    uint32_t file;
    uint8_t type = QN_ONNX_UNDEFINED;
    for (unsigned i = 0; i < sizeof types / sizeof types[0]; i++)
        type = a->dtype == types[i][0] ? types[i][1] : type;
    for (uint64_t i = 0; a->dtype == QN_I64 && i < a->n; i++)
        if (((const int64_t *)a->data)[i] == QN_INT_UNKNOWN)
            return QN_OK;
    if (type == QN_ONNX_UNDEFINED || !e->name[v])
        return QN_OK;
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    QN_TRY(qn_onnx_edit_new_name(&e->edit, e->name[v], &name, err));
    void *data = qn_mem_get(e->env->alloc, qn_array_bytes(a) + 1, err);
    if (!data)
        return QN_E_MEMORY;
    memcpy(data, a->data, qn_array_bytes(a));
    QN_TRY(qn_onnx_edit_add(&e->edit, name, type, a->dims, a->rank, data, 0, err));
    return qn_onnx_edit_input(&e->edit, file, k, name, err);
}

qn_code qn_emit_frozen_operands(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    bool known = n->n_out > 0;
    for (unsigned k = 0; k < n->n_out; k++)
        known = known && n->out[k] != QN_NO_VALUE && e->g->values[n->out[k]].data.data;
    if (known) /* its readers are looked at */
        return QN_OK;
    for (unsigned k = 0; k < n->n_in; k++)
        if (n->in[k] != QN_NO_VALUE && e->tainted[n->in[k]] && !qn_emit_is_shape_slot(n, k))
            QN_TRY(freeze_operand(e, node, k, err));
    return QN_OK;
}
