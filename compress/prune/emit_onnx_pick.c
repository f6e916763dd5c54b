/* emit_onnx_pick.c: operators that pick parts of an axis by number: Gather, Slice, Split. Numbers count what is left. */
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/emit_onnx.h"
#include <string.h>

/* place[i]: how many of those before i stay. */
static qn_code places(qn_onnx_emission *e, const uint8_t *keep, uint64_t n, int64_t **place, qn_err *err)
{
    *place = qn_arena_get(&e->edit.arena, (n + 1) * sizeof **place, 8, err);
    if (!*place)
        return QN_E_MEMORY;
    int64_t at = 0;
    for (uint64_t i = 0; i < n; i++) {
        (*place)[i] = at;
        at += keep[i];
    }
    (*place)[n] = at;
    return QN_OK;
}

static bool changes(const qn_onnx_emission *e, uint32_t v, unsigned axis)
{
    return qn_emit_old(e, v, axis) != qn_emit_new(e, v, axis);
}

static unsigned axis_of(int64_t axis, unsigned rank)
{
    return (unsigned)(axis < 0 ? axis + (int64_t)rank : axis);
}

/* ---- Gather ---- */

qn_code qn_emit_gather(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const uint32_t x = n->in[0], idx = n->in[1], y = n->out[0];
    const unsigned rank = qn_emit_rank(e, x), axis = axis_of(qn_node_int(n, "axis", 0), rank), idx_rank = qn_emit_rank(e, idx);
    uint8_t *keep, *keep_out = NULL;
    uint64_t kept, n_idx, n_new = 0;
    int64_t *list, *place;
    if (rank > QN_ARRAY_RANK_MAX || axis >= rank || idx_rank > QN_ARRAY_RANK_MAX)
        return QN_OK;
    bool any = changes(e, x, axis);
    for (unsigned k = 0; k < idx_rank; k++)
        any = any || changes(e, y, axis + k);
    if (!any)
        return QN_OK;
    QN_TRY(qn_emit_ints(e, idx, &list, &n_idx, err));
    if (!list)
        return qn_emit_refuse(e, node, "its indices are not known", err);
    QN_TRY(qn_onnx_emission_axis(e, x, axis, &keep, &kept, err));
    QN_TRY(places(e, keep, (uint64_t)qn_emit_old(e, x, axis), &place, err));
    if (idx_rank == 1)
        QN_TRY(qn_onnx_emission_axis(e, y, axis, &keep_out, &kept, err));
    for (unsigned k = 0; idx_rank > 1 && k < idx_rank; k++)
        if (changes(e, y, axis + k))
            return qn_emit_refuse(e, node, "part of a block of indices would go", err);
    for (uint64_t i = 0; i < n_idx; i++) {
        const int64_t size = qn_emit_old(e, x, axis), at = list[i] < 0 ? list[i] + size : list[i];
        if (keep_out && !keep_out[i])
            continue;
        if (list[i] == QN_INT_UNKNOWN || at < 0 || at >= size || !keep[at])
            return qn_emit_refuse(e, node, "an index points at what would go", err);
        list[n_new++] = place[at];
    }
    if (idx_rank < 2)
        return qn_emit_literal(e, node, 1, list, n_new, idx_rank, err);
    /* A block keeps its shape: a constant of that shape. */
    const uint32_t v = idx;
    const uint8_t type = e->g->values[v].dtype == QN_I32 ? QN_ONNX_INT32 : QN_ONNX_INT64;
    const unsigned bytes = type == QN_ONNX_INT32 ? 4 : 8;
    const char *name;
    uint32_t file;
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    QN_TRY(qn_onnx_edit_new_name(&e->edit, e->name[v], &name, err));
    uint8_t *data = qn_mem_get(e->env->alloc, n_new * 8 + 1, err);
    if (!data)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n_new; i++)
        qn_store64(data + bytes * i, (uint64_t)list[i]); /* of I32 the upper half is overwritten by the next */
    QN_TRY(qn_onnx_edit_add(&e->edit, name, type, &e->dims[(uint64_t)v * QN_ARRAY_RANK_MAX], idx_rank, data, 0, err));
    return qn_onnx_edit_input(&e->edit, file, 1, name, err);
}

/* ---- Slice ---- */

enum { STARTS, ENDS, AXES, STEPS, LISTS };

typedef struct slice {
    int64_t *list[LISTS];
    uint64_t n;
    bool by_attr;
} slice;

static qn_code read_attrs(qn_onnx_emission *e, const qn_node *n, slice *s, qn_err *err)
{
    static const char *const names[LISTS - 1] = {"starts", "ends", "axes"};
    for (unsigned k = 0; k < LISTS - 1; k++) {
        unsigned count;
        const int64_t *list = qn_node_ints(n, names[k], &count);
        if (!list)
            continue;
        s->n = count;
        s->list[k] = qn_arena_get(&e->edit.arena, (count + 1u) * sizeof *list, 8, err);
        if (!s->list[k])
            return QN_E_MEMORY;
        if (count)
            memcpy(s->list[k], list, count * sizeof *list);
    }
    return QN_OK;
}

/* *known false: some list is computed in ways that are not known. */
static qn_code read_slice(qn_onnx_emission *e, const qn_node *n, slice *s, bool *known, qn_err *err)
{
    *known = true;
    s->by_attr = n->n_in < 2;
    if (s->by_attr) {
        QN_TRY(read_attrs(e, n, s, err));
    } else {
        for (unsigned k = 0; k < LISTS; k++) {
            uint64_t count;
            QN_TRY(qn_emit_ints(e, qn_emit_in(n, k + 1), &s->list[k], &count, err));
            if (s->list[k])
                s->n = k == STARTS ? count : qn_min_u64(s->n, count);
            *known = *known && (s->list[k] || qn_emit_in(n, k + 1) == QN_NO_VALUE);
        }
    }
    *known = *known && s->list[STARTS] && s->list[ENDS] && s->n <= QN_ARRAY_RANK_MAX;
    return QN_OK;
}

/* Does the operand, worked out anew, give this by itself? */
static bool comes_out(const qn_onnx_emission *e, const qn_node *n, unsigned k, const int64_t *want, uint64_t count)
{
    const uint32_t v = qn_emit_in(n, k);
    bool right = v != QN_NO_VALUE && e->now[v].data && e->now[v].n == count;
    for (uint64_t i = 0; right && i < count; i++)
        right = qn_emit_int_at(&e->now[v], i) == want[i];
    return right;
}

/* Start and number of what a slice of an axis of `size` gives: ONNX's rules for negative and large numbers. */
static int64_t span_of(int64_t size, int64_t *start, int64_t end, int64_t step)
{
    const int64_t least = step < 0 ? -1 : 0, most = step < 0 ? size - 1 : size;
    *start = *start < 0 ? *start + size : *start;
    *start = *start < 0 ? 0 : *start > most ? most : *start;
    end = end < 0 ? (end < -size ? least : end + size) : end;
    end = end < least ? least : end > size ? size : end;
    const int64_t n = step > 0 ? (end - *start + step - 1) / step : (*start - end - step - 1) / -step;
    return n > 0 ? n : 0;
}

/* The new start, end and step of one axis; or, when what is left is no arithmetic run, *gather: its indices. */
static qn_code slice_axis(qn_onnx_emission *e, uint32_t node, unsigned axis, int64_t *start, int64_t *end, int64_t *step, int64_t **gather,
                          uint64_t *n_gather, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const int64_t size = qn_emit_old(e, n->in[0], axis);
    int64_t first = *start, *place, *list;
    uint8_t *keep, *keep_out;
    uint64_t kept, m = 0;
    const int64_t count = span_of(size, &first, *end, *step);
    if (*step == 0 || count != qn_emit_old(e, n->out[0], axis))
        return qn_emit_refuse(e, node, "it does not give what was traced", err);
    QN_TRY(qn_onnx_emission_axis(e, n->in[0], axis, &keep, &kept, err));
    QN_TRY(places(e, keep, (uint64_t)size, &place, err));
    QN_TRY(qn_onnx_emission_axis(e, n->out[0], axis, &keep_out, &kept, err));
    list = qn_arena_get(&e->edit.arena, ((uint64_t)count + 1) * sizeof *list, 8, err);
    if (!list)
        return QN_E_MEMORY;
    for (int64_t j = 0; j < count; j++) {
        const int64_t at = first + j * *step;
        if (!keep_out[j])
            continue;
        if (!keep[at])
            return qn_emit_refuse(e, node, "part of what it gives would go", err);
        list[m++] = place[at];
    }
    bool run = true;
    const int64_t by = m > 1 ? list[1] - list[0] : *step > 0 ? 1 : -1;
    for (uint64_t i = 1; i < m; i++)
        run = run && list[i] - list[i - 1] == by;
    *gather = run ? NULL : list;
    *n_gather = m;
    *step = by;
    *start = m ? list[0] : 0;
    *end = m ? list[m - 1] + (by > 0 ? 1 : -1) : 0;
    if (*end < 0)
        *end = INT32_MIN; /* before the first */
    return QN_OK;
}

static qn_code to_gather(qn_onnx_emission *e, uint32_t node, unsigned axis, const int64_t *list, uint64_t n_list, qn_err *err)
{
    static const char *const attrs[] = {"starts", "ends", "axes"};
    const int64_t as = axis;
    uint32_t file;
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    for (unsigned i = 0; i < 3; i++)
        if (qn_node_attr(&e->g->nodes[node], attrs[i]))
            QN_TRY(qn_onnx_edit_drop_attr(&e->edit, file, attrs[i], err));
    QN_TRY(qn_onnx_edit_type(&e->edit, file, "Gather", err));
    QN_TRY(qn_onnx_edit_n_inputs(&e->edit, file, 1, err));
    QN_TRY(qn_emit_literal(e, node, 1, list, n_list, 1, err));
    return qn_onnx_edit_attr(&e->edit, file, "axis", &as, QN_ONNX_ONE_INT, err);
}

static qn_code write_slice(qn_onnx_emission *e, uint32_t node, const slice *s, bool steps, qn_err *err)
{
    uint32_t file;
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    if (s->by_attr) {
        QN_TRY(qn_onnx_edit_attr(&e->edit, file, "starts", s->list[STARTS], (uint32_t)s->n, err));
        return qn_onnx_edit_attr(&e->edit, file, "ends", s->list[ENDS], (uint32_t)s->n, err);
    }
    for (unsigned k = 0; k < 2; k++) {
        const int64_t *list = s->list[k == 0 ? STARTS : ENDS];
        bool whole = true; /* an entry that depends on the input cannot be written down */
        for (uint64_t i = 0; i < s->n; i++)
            whole = whole && list[i] != QN_INT_UNKNOWN;
        if (comes_out(e, &e->g->nodes[node], k + 1, list, s->n))
            continue;
        if (!whole)
            return qn_emit_refuse(e, node, "where it begins and ends depends on the input", err);
        QN_TRY(qn_emit_literal(e, node, k + 1, list, s->n, 1, err));
    }
    return steps ? qn_emit_literal(e, node, 4, s->list[STEPS], s->n, 1, err) : QN_OK;
}

qn_code qn_emit_slice(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const unsigned rank = qn_emit_rank(e, n->in[0]);
    slice s = {0};
    bool known, edited = false, steps = false;
    if (rank > QN_ARRAY_RANK_MAX || (!e->touched[n->in[0]] && !e->touched[n->out[0]]))
        return QN_OK;
    QN_TRY(read_slice(e, n, &s, &known, err));
    for (unsigned k = 0; !known && k < rank; k++)
        if (changes(e, n->in[0], k) || changes(e, n->out[0], k))
            return qn_emit_refuse(e, node, "where it begins and ends is not known", err);
    for (uint64_t i = 0; known && i < s.n; i++) {
        const unsigned axis = axis_of(s.list[AXES] ? s.list[AXES][i] : (int64_t)i, rank);
        int64_t step = s.list[STEPS] ? s.list[STEPS][i] : 1, *gather = NULL;
        const int64_t old = step;
        uint64_t n_gather = 0;
        if (axis >= rank || (!changes(e, n->in[0], axis) && !changes(e, n->out[0], axis)))
            continue;
        if (s.list[STARTS][i] == QN_INT_UNKNOWN || s.list[ENDS][i] == QN_INT_UNKNOWN || step == QN_INT_UNKNOWN)
            return qn_emit_refuse(e, node, "where it begins and ends is not known", err);
        QN_TRY(slice_axis(e, node, axis, &s.list[STARTS][i], &s.list[ENDS][i], &step, &gather, &n_gather, err));
        if (gather)
            return s.n == 1 ? to_gather(e, node, axis, gather, n_gather, err)
                            : qn_emit_refuse(e, node, "what is left is at no regular distance", err);
        if (step != old && !s.list[STEPS])
            return qn_emit_refuse(e, node, "what is left is at no regular distance", err);
        if (s.list[STEPS])
            s.list[STEPS][i] = step;
        steps = steps || step != old;
        edited = true;
    }
    return edited ? write_slice(e, node, &s, steps, err) : QN_OK;
}

/* ---- Split ---- */

qn_code qn_emit_split(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const unsigned rank = qn_emit_rank(e, n->in[0]);
    if (rank > QN_ARRAY_RANK_MAX || !e->touched[n->in[0]])
        return QN_OK;
    const unsigned axis = axis_of(qn_node_int(n, "axis", 0), rank);
    if (axis >= rank || !changes(e, n->in[0], axis))
        return QN_OK;
    int64_t *sizes = qn_arena_get(&e->edit.arena, (n->n_out + 1u) * sizeof *sizes, 8, err);
    bool equal = true;
    uint32_t file;
    if (!sizes)
        return QN_E_MEMORY;
    for (unsigned k = 0; k < n->n_out; k++) {
        if (n->out[k] == QN_NO_VALUE)
            return qn_emit_refuse(e, node, "an output is left out", err);
        sizes[k] = qn_emit_new(e, n->out[k], axis);
        equal = equal && sizes[k] == sizes[0];
    }
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    if (n->version < 13)
        return !equal || qn_node_attr(n, "split") ? qn_onnx_edit_attr(&e->edit, file, "split", sizes, n->n_out, err) : QN_OK;
    if (qn_emit_in(n, 1) == QN_NO_VALUE && equal)
        return QN_OK;
    if (qn_node_attr(n, "num_outputs"))
        QN_TRY(qn_onnx_edit_drop_attr(&e->edit, file, "num_outputs", err));
    return qn_emit_literal(e, node, 1, sizes, n->n_out, 1, err);
}
