/* rule_move.c: operators that move elements: where an index of an axis ends up. */
#include "analysis/groups/impl.h"
#include <string.h>

void qn_rule_transpose(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const int rank = s->t.rank[y];
    unsigned count;
    const int64_t *perm = qn_node_ints(n, "perm", &count);
    for (int a = 0; a < rank; a++)
        qn_flow_axes(s, qn_axis_at(s, x, perm && a < (int)count ? (int)perm[a] : rank - 1 - a), qn_axis_at(s, y, a));
}

/* Part of an axis, index by index: x[x0 + i] is y[y0 + i]. */
static void part(qn_grouping *s, qn_axis x, uint32_t x0, qn_axis y, uint32_t y0, uint32_t n)
{
    for (uint32_t i = 0; i < n && x0 + i < x.n && y0 + i < y.n; i++)
        qn_flow(s, x.first + x0 + i, y.first + y0 + i);
}

static int place(int64_t axis, int rank)
{
    return (int)(axis < 0 ? axis + rank : axis);
}

void qn_rule_concat(qn_grouping *s, const qn_node *n)
{
    const uint32_t y = qn_out(s, n, 0);
    const int rank = s->t.rank[y], axis = place(qn_node_int(n, "axis", n->version < 4 ? 1 : 0), rank);
    uint32_t off = 0;
    for (unsigned i = 0; i < n->n_in; i++) {
        const uint32_t x = qn_in(s, n, i);
        for (int a = 0; a < rank; a++)
            if (a != axis)
                qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
        const qn_axis xa = qn_axis_at(s, x, axis);
        part(s, xa, 0, qn_axis_at(s, y, axis), off, xa.n);
        off += xa.n;
    }
}

/* quern's Split may have the parts again and again: `groups` times (sizes …). */
void qn_rule_split(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0);
    const int rank = s->t.rank[x];
    const bool own = !strcmp(n->domain, "quern");
    const int axis = own ? rank - 1 : place(qn_node_int(n, "axis", 0), rank);
    const uint32_t groups = own ? (uint32_t)qn_node_int(n, "groups", 1) : 1;
    const qn_axis xa = qn_axis_at(s, x, axis);
    uint32_t off = 0;
    for (unsigned i = 0; i < n->n_out; i++) {
        const uint32_t y = qn_out(s, n, i);
        if (y == QN_NO_VALUE) { /* left out: where the next one begins is not known */
            qn_freeze(s, xa, qn_reason(s, "outputs of node '%s' (%s) are left out", n->name, n->type));
            return;
        }
        const qn_axis ya = qn_axis_at(s, y, axis);
        for (int a = 0; a < rank; a++)
            if (a != axis)
                qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
        const uint32_t size = groups ? ya.n / groups : 0;
        for (uint32_t k = 0; k < groups; k++)
            part(s, xa, k * (xa.n / groups) + off, ya, k * size, size);
        off += size;
    }
    /* Parts that repeat: what is left must repeat too. A repeat goes as a whole (a head), or the same place of all. */
    const uint32_t per = groups > 1 ? xa.n / groups : 0;
    for (uint32_t i = 0; i < xa.n && per; i++)
        qn_tie(s, xa.first + i, xa.first + (s->o && s->o->inner ? i % per : i - i % per));
}

static bool varies(const qn_grouping *s, uint32_t v, int axis)
{
    return s->varies[qn_axis_number(v, (unsigned)axis)];
}

/* The indices of these axes are not what they are: what is cut there depends on the run. */
static void keep(qn_grouping *s, const qn_node *n, uint32_t x, uint32_t y, int axis, const char *what)
{
    const uint32_t why = qn_reason(s, "%s of node '%s' (%s)", what, n->name, n->type);
    qn_freeze(s, qn_axis_at(s, x, axis), why);
    qn_freeze(s, qn_axis_at(s, y, axis), why);
}

void qn_rule_slice(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const int rank = s->t.rank[x];
    unsigned n_starts, n_axes, n_steps;
    bool known[3];
    const int64_t *starts = qn_list(s, n, "starts", 1, &n_starts, &known[0]), *axes = qn_list(s, n, "axes", 3, &n_axes, &known[1]);
    const int64_t *steps = qn_list(s, n, NULL, 4, &n_steps, &known[2]);
    if (!known[1] || (axes == NULL && !known[0])) {
        qn_freeze_node(s, n, qn_reason(s, "axes of node '%s' (%s) are not known", n->name, n->type));
        return;
    }
    if (!axes)
        n_axes = n_starts;
    bool sliced[QN_ARRAY_RANK_MAX] = {false};
    for (unsigned k = 0; k < n_axes; k++) {
        const int a = place(axes ? axes[k] : (int64_t)k, rank);
        if (a < 0 || a >= rank)
            continue;
        sliced[a] = true;
        const qn_axis xa = qn_axis_at(s, x, a), ya = qn_axis_at(s, y, a);
        const int64_t step = steps && k < n_steps ? steps[k] : 1, d = xa.n;
        int64_t start = known[0] && k < n_starts ? starts[k] : 0;
        if (known[0] && known[2] && step == 1 && ya.n == xa.n && varies(s, x, a) == varies(s, y, a)) { /* all of it, however long it is */
            qn_flow_axes(s, xa, ya);
            continue;
        }
        if (!known[0] || !known[2] || varies(s, x, a) || varies(s, y, a)) {
            keep(s, n, x, y, a, "the range");
            continue;
        }
        start += start < 0 ? d : 0;
        start = start < 0 ? 0 : start > d ? d : start;
        if (step != 1) {
            keep(s, n, x, y, a, "the step");
            continue;
        }
        part(s, xa, (uint32_t)start, ya, 0, ya.n);
    }
    for (int a = 0; a < rank; a++)
        if (!sliced[a])
            qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
    for (unsigned i = 1; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], qn_reason_dull(s, "says where to cut"));
}

/* Y axes: those of x before `axis`, those of the indices, those of x behind it. */
void qn_rule_gather(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), index = qn_in(s, n, 1), y = qn_out(s, n, 0);
    const int rank = s->t.rank[x], r = s->t.rank[index], axis = place(qn_node_int(n, "axis", 0), rank);
    for (int a = 0; a < rank; a++)
        if (a != axis)
            qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a < axis ? a : a + r - 1));
    const qn_axis xa = qn_axis_at(s, x, axis);
    unsigned count;
    const int64_t *at = qn_in_ints(s, n, 1, &count);
    const uint32_t why = qn_reason(s, "%s of node '%s' picks from it", n->type, n->name);
    if (r == 1 && at && count == qn_axis_at(s, y, axis).n && !varies(s, x, axis)) {
        /* A selection that is always the same: it is renumbered. The indices themselves stay what they are. */
        const qn_axis ya = qn_axis_at(s, y, axis);
        for (uint32_t i = 0; i < ya.n; i++) {
            const int64_t k = at[i] + (at[i] < 0 ? (int64_t)xa.n : 0);
            if (k >= 0 && k < (int64_t)xa.n)
                qn_flow(s, xa.first + (uint32_t)k, ya.first + i);
        }
        return;
    }
    if (r == 0 && at && count == 1 && !varies(s, x, axis)) { /* one of them, and the axis is gone */
        const int64_t k = at[0] + (at[0] < 0 ? (int64_t)xa.n : 0);
        if (k >= 0 && k < (int64_t)xa.n)
            qn_freeze(s, (qn_axis){xa.first + (uint32_t)k, 1}, why);
        return;
    }
    qn_freeze(s, xa, why);
    for (int a = 0; a < r; a++) {
        qn_tie_axes(s, qn_axis_at(s, index, a), qn_axis_at(s, y, axis + a));
        qn_freeze(s, qn_axis_at(s, y, axis + a), why);
    }
}

/* pads: all begins, then all ends. What is put in belongs to nobody, and may go like anything else: with a constant. */
void qn_rule_pad(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const int rank = s->t.rank[x];
    unsigned count, n_axes;
    bool known, known_axes;
    const int64_t *pads = qn_list(s, n, qn_node_attr(n, "paddings") ? "paddings" : "pads", 1, &count, &known);
    const int64_t *axes = qn_list(s, n, NULL, 3, &n_axes, &known_axes);
    const bool constant = !strcmp(qn_node_string(n, "mode", "constant"), "constant");
    for (int a = 0; a < rank; a++) {
        const qn_axis xa = qn_axis_at(s, x, a), ya = qn_axis_at(s, y, a);
        int64_t before = 0, behind = 0;
        bool said = known && known_axes && pads;
        if (said && axes) {
            for (unsigned k = 0; k < n_axes && 2 * n_axes == count; k++)
                if (place(axes[k], rank) == a) {
                    before = pads[k];
                    behind = pads[k + n_axes];
                }
        } else if (said && count == 2 * (unsigned)rank) {
            before = pads[a];
            behind = pads[a + rank];
        } else {
            said = false;
        }
        if (said && !before && !behind && xa.n == ya.n) {
            qn_flow_axes(s, xa, ya);
        } else if (!said || !constant || before < 0 || behind < 0 || varies(s, x, a)) {
            keep(s, n, x, y, a, "the padding");
        } else {
            part(s, xa, 0, ya, (uint32_t)before, xa.n);
        }
    }
    for (unsigned i = 1; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], qn_reason_dull(s, "says where to pad"));
    /* Another constant than 0 at the border of an axis: whole slices of the others are not 0 any more. */
    const uint32_t value = n->n_in > 2 ? n->in[2] : QN_NO_VALUE;
    const qn_array *c = value != QN_NO_VALUE ? &s->t.content[value] : NULL;
    const bool zero = constant && (value == QN_NO_VALUE ? qn_node_float(n, "value", 0) == 0
                                                        : c->dtype == QN_F32 && c->n == 1 && *(const float *)c->data == 0);
    for (int a = 0; a < rank && constant && !zero; a++)
        qn_fill(s, qn_axis_at(s, y, a));
}

void qn_rule_tile(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    for (int a = 0; a < s->t.rank[y]; a++) {
        const qn_axis xa = qn_axis_at(s, x, a), ya = qn_axis_at(s, y, a);
        if (xa.n > 1 && ya.n != xa.n && varies(s, y, a)) {
            keep(s, n, x, y, a, "the repeats");
            continue;
        }
        for (uint32_t i = 0; i < ya.n && xa.n > 1; i++)
            qn_flow(s, xa.first + i % xa.n, ya.first + i);
        if (xa.n == 1 && ya.n > 1)
            qn_fill(s, ya);
    }
    for (unsigned i = 1; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], qn_reason_dull(s, "says how often to repeat"));
}

void qn_rule_expand(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const int rank = s->t.rank[y], own = s->t.rank[x];
    for (int a = 0; a < rank; a++) {
        const qn_axis xa = a >= rank - own ? qn_axis_at(s, x, a - (rank - own)) : (qn_axis){0, 0}, ya = qn_axis_at(s, y, a);
        if (xa.n > 1)
            qn_flow_axes(s, xa, ya);
        else
            qn_fill(s, ya);
    }
    for (unsigned i = 1; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], qn_reason_dull(s, "says how often to repeat"));
}

/* Blocks of b · b channels are a pixel each: DCR has the block's place outermost, CRD the channel. deep: the value with more channels. */
static void depth(qn_grouping *s, const qn_node *n, uint32_t deep, uint32_t flat, bool from_deep)
{
    const qn_axis d = qn_axis_at(s, deep, 1), f = qn_axis_at(s, flat, 1);
    const bool crd = !strcmp(qn_node_string(n, "mode", "DCR"), "CRD");
    const uint32_t why = qn_reason_dull(s, "is a spatial axis");
    if (!f.n || d.n % f.n) {
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (%s)", n->name, n->type));
        return;
    }
    const uint32_t blocks = d.n / f.n;
    for (uint32_t i = 0; i < d.n; i++) {
        const uint32_t c = f.first + (crd ? i / blocks : i % f.n);
        if (from_deep)
            qn_flow(s, d.first + i, c);
        else
            qn_flow(s, c, d.first + i);
    }
    qn_tie_axes(s, qn_axis_at(s, deep, 0), qn_axis_at(s, flat, 0));
    for (int a = 2; a < 4; a++) {
        qn_freeze(s, qn_axis_at(s, deep, a), why);
        qn_freeze(s, qn_axis_at(s, flat, a), why);
    }
}

void qn_rule_depth_to_space(qn_grouping *s, const qn_node *n)
{
    depth(s, n, qn_in(s, n, 0), qn_out(s, n, 0), true);
}

void qn_rule_space_to_depth(qn_grouping *s, const qn_node *n)
{
    depth(s, n, qn_out(s, n, 0), qn_in(s, n, 0), false);
}
