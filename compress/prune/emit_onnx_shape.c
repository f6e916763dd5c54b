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

/* What a shape has to become. */
typedef struct target {
    int64_t want[QN_ARRAY_RANK_MAX];  /* numbers; 0 and −1 as they are; QN_INT_UNKNOWN: worked out while the model runs */
    int64_t sizes[QN_ARRAY_RANK_MAX]; /* what those must give for the traced inputs                                     */
    bool copies[QN_ARRAY_RANK_MAX];   /* is the input's axis of the same number, so that 0 may stand for it              */
    unsigned n;
    bool free_one;                    /* one −1 may stand in it                                                         */
} target;

static bool is_right(const target *t, unsigned i, int64_t now)
{
    return now == (t->want[i] == QN_INT_UNKNOWN ? t->sizes[i] : t->want[i]);
}

/* The parts of a Concat that are numbers become other numbers; *followed false: it is no such thing, or a part that is worked out would give
 * something else. */
static qn_code set_pieces(qn_onnx_emission *e, uint32_t value, const target *t, bool *followed, qn_err *err)
{
    *followed = false;
    while (e->g->values[value].kind == QN_VALUE_NODE && is(&e->g->nodes[e->g->values[value].node], "Cast"))
        value = e->g->nodes[e->g->values[value].node].in[0];
    const qn_value *v = &e->g->values[value];
    if (v->kind != QN_VALUE_NODE || !is(&e->g->nodes[v->node], "Concat"))
        return QN_OK;
    const qn_node *concat = &e->g->nodes[v->node];
    for (unsigned write = 0; write < 2; write++) { /* nothing is written before all is known to be right */
        unsigned at = 0;
        for (unsigned k = 0; k < concat->n_in; k++) {
            const qn_array *now = &e->now[concat->in[k]];
            if (!now->data || now->rank != 1 || now->n > t->n - at)
                return QN_OK;
            bool right = true, sure = true;
            for (unsigned i = 0; i < now->n; i++) {
                sure = sure && t->want[at + i] != QN_INT_UNKNOWN;
                right = right && is_right(t, at + i, qn_emit_int_at(now, i));
            }
            if (!right && !sure)
                return QN_OK;
            if (!right && write)
                QN_TRY(set_piece(e, v->node, k, t->want + at, now->n, err));
            at += (unsigned)now->n;
        }
        if (at != t->n)
            return QN_OK;
    }
    *followed = true;
    return QN_OK;
}

/* Input k of the node must become this. */
static qn_code put_shape(qn_onnx_emission *e, uint32_t node, unsigned k, target *t, qn_err *err)
{
    const uint32_t v = e->g->nodes[node].in[k];
    const qn_array *now = &e->now[v];
    bool right = now->data && now->n == t->n, followed = false;
    unsigned n_unknown = 0;
    for (unsigned i = 0; i < t->n; i++) {
        right = right && is_right(t, i, qn_emit_int_at(now, i));
        n_unknown += t->want[i] == QN_INT_UNKNOWN;
    }
    if (right)
        return QN_OK;
    if (n_unknown > 0)
        QN_TRY(set_pieces(e, v, t, &followed, err));
    if (followed)
        return QN_OK;
    bool free_one = t->free_one;
    for (unsigned i = 0; i < t->n; i++)
        free_one = free_one && t->want[i] != -1;
    for (unsigned i = 0; i < t->n; i++)
        if (t->want[i] == QN_INT_UNKNOWN && t->copies[i]) {
            t->want[i] = 0;
            n_unknown--;
        }
    for (unsigned i = 0; i < t->n && free_one; i++)
        if (t->want[i] == QN_INT_UNKNOWN) {
            t->want[i] = -1;
            n_unknown--;
            free_one = false;
        }
    return n_unknown == 0 ? qn_emit_literal(e, node, k, t->want, t->n, 1, err)
                          : qn_emit_refuse(e, node, "its shape is worked out in a way that cannot be followed", err);
}

/* ---- operators ---- */

/* The new shape of an output: numbers where the old shape has numbers. */
static void want_shape(const qn_onnx_emission *e, uint32_t node, const int64_t *list, unsigned n, target *t)
{
    const qn_node *d = &e->g->nodes[node];
    const uint32_t x = d->in[0], y = d->out[0];
    const bool zero_copies = !qn_node_int(d, "allowzero", 0);
    const bool *varies = e->cut->groups->varies;
    *t = (target){.n = n, .free_one = true};
    for (unsigned k = 0; k < n; k++) {
        const bool there = k < qn_emit_rank(e, x), same = there && qn_emit_new(e, x, k) == qn_emit_new(e, y, k);
        t->want[k] = list[k];
        t->sizes[k] = qn_emit_new(e, y, k);
        t->copies[k] = zero_copies && same && varies[(uint64_t)x * QN_ARRAY_RANK_MAX + k] && varies[(uint64_t)y * QN_ARRAY_RANK_MAX + k] &&
                       qn_emit_old(e, x, k) == qn_emit_new(e, x, k) && qn_emit_old(e, y, k) == qn_emit_new(e, y, k);
        if (list[k] > 0 || (list[k] == 0 && zero_copies && !same))
            t->want[k] = t->sizes[k];
    }
}

qn_code qn_emit_reshape(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const uint32_t x = n->in[0], y = n->out[0], shape = qn_emit_in(n, 1);
    int64_t *list = NULL;
    uint64_t count = 0;
    unsigned n_attr = 0;
    uint32_t file;
    target t;
    const int64_t *attr = shape == QN_NO_VALUE ? qn_node_ints(n, "shape", &n_attr) : NULL;
    if (qn_emit_rank(e, y) > QN_ARRAY_RANK_MAX || qn_emit_rank(e, x) > QN_ARRAY_RANK_MAX)
        return QN_OK;
    if (attr && n_attr == qn_emit_rank(e, y)) {
        want_shape(e, node, attr, n_attr, &t);
        if (!memcmp(attr, t.want, n_attr * sizeof *attr))
            return QN_OK;
        QN_TRY(qn_emit_file_node(e, node, &file, err));
        return qn_onnx_edit_attr(&e->edit, file, "shape", t.want, n_attr, err);
    }
    QN_TRY(qn_emit_ints(e, shape, &list, &count, err));
    if (!list || count != qn_emit_rank(e, y))
        return e->touched[x] || e->touched[y] ? qn_emit_refuse(e, node, "its shape is not known", err) : QN_OK;
    want_shape(e, node, list, (unsigned)count, &t);
    return put_shape(e, node, 1, &t, err);
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
    int64_t *list;
    uint64_t count;
    target t = {0};
    if (shape == QN_NO_VALUE || rank > QN_ARRAY_RANK_MAX)
        return QN_OK; /* Resize by scales: channels have scale 1 */
    QN_TRY(qn_emit_ints(e, shape, &list, &count, err));
    if (!list || count > rank)
        return e->touched[n->out[0]] ? qn_emit_refuse(e, node, "its shape is not known", err) : QN_OK;
    if (is(n, "Tile"))
        return check_tile(e, node, list, count, err);
    t.n = (unsigned)count;
    for (unsigned i = 0; i < count; i++) {
        /* Expand lines its shape up at the end; 1 leaves an axis as it is */
        const unsigned axis = is(n, "Expand") ? rank - (unsigned)count + i : axis_of_entry(n, i, rank);
        t.want[i] = list[i];
        t.sizes[i] = qn_emit_int_at(&e->old[shape], i);
        if (axis < rank && t.sizes[i] == qn_emit_old(e, n->out[0], axis))
            t.sizes[i] = qn_emit_new(e, n->out[0], axis);
        if (list[i] > 0)
            t.want[i] = t.sizes[i];
    }
    return put_shape(e, node, k, &t, err);
}

/* ---- numbers that come from shapes and are none ---- */

/* Its content as it is in the model before: a width that scales an attention, a count. */
static qn_code freeze_operand(qn_onnx_emission *e, uint32_t node, unsigned k, qn_err *err)
{
    static const uint8_t types[][2] = {{QN_F32, QN_ONNX_FLOAT}, {QN_F64, QN_ONNX_DOUBLE}, {QN_I64, QN_ONNX_INT64}, {QN_I32, QN_ONNX_INT32},
                                       {QN_BOOL, QN_ONNX_BOOL}};
    const uint32_t v = e->g->nodes[node].in[k];
    const qn_array *a = &e->old[v], *b = &e->other[v];
    const char *name;
    uint32_t file;
    uint8_t type = QN_ONNX_UNDEFINED;
    for (unsigned i = 0; i < sizeof types / sizeof types[0]; i++)
        type = a->dtype == types[i][0] ? types[i][1] : type;
    const bool fixed = b->data && b->n == a->n && b->dtype == a->dtype && !memcmp(a->data, b->data, qn_array_bytes(a));
    if (!fixed || type == QN_ONNX_UNDEFINED || !e->name[v])
        return qn_emit_refuse(e, node, "it reads a number that is worked out from a width and a size", err);
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
        known = known && n->out[k] != QN_NO_VALUE && e->old[n->out[k]].data;
    if (known) /* its readers are looked at */
        return QN_OK;
    for (unsigned k = 0; k < n->n_in; k++)
        if (n->in[k] != QN_NO_VALUE && !e->touched[n->in[k]] && qn_emit_drifts(e, n->in[k]) && !qn_emit_is_shape_slot(n, k))
            QN_TRY(freeze_operand(e, node, k, err));
    return QN_OK;
}
