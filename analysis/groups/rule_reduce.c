/* rule_reduce.c: pooling, other sizes, and reductions over axes. */
#include "analysis/groups/impl.h"
#include <string.h>

/* Pooling, GridSample: axes 0 and 1 pass, the others are the operator's own. */
void qn_rule_spatial(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0), why = qn_reason_dull(s, "is a spatial axis");
    for (int a = 0; a < 2; a++)
        qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
    for (int a = 2; a < s->t.rank[x]; a++)
        qn_freeze(s, qn_axis_at(s, x, a), why);
    for (int a = 2; a < s->t.rank[y]; a++)
        qn_freeze(s, qn_axis_at(s, y, a), why);
    if (n->n_in > 1) { /* the grid: a set of points for each image */
        const uint32_t grid = qn_in(s, n, 1);
        qn_tie_axes(s, qn_axis_at(s, grid, 0), qn_axis_at(s, x, 0));
        for (int a = 1; grid != QN_NO_VALUE && a < s->t.rank[grid]; a++)
            qn_freeze(s, qn_axis_at(s, grid, a), why);
    }
    if (n->n_out > 1 && n->out[1] != QN_NO_VALUE && s->g->last_use[n->out[1]] != QN_NO_NODE) /* places of MaxPool count all channels */
        qn_freeze_node(s, n, qn_reason(s, "places of node '%s' (%s)", n->name, n->type));
}

void qn_rule_resize(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0), why = qn_reason_dull(s, "is a spatial axis");
    for (int a = 0; a < s->t.rank[y]; a++) {
        const qn_axis xa = qn_axis_at(s, x, a), ya = qn_axis_at(s, y, a);
        if (a < 2 && xa.n == ya.n) {
            qn_flow_axes(s, xa, ya);
        } else {
            qn_freeze(s, xa, why);
            qn_freeze(s, ya, why);
        }
    }
    for (unsigned i = 1; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], why);
    if (!strcmp(qn_node_string(n, "coordinate_transformation_mode", ""), "tf_crop_and_resize"))
        qn_fill(s, qn_axis_at(s, y, 1));
}

void qn_rule_roi(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0), why = qn_reason_dull(s, "is a spatial axis");
    qn_flow_axes(s, qn_axis_at(s, x, 1), qn_axis_at(s, y, 1));
    for (int a = 0; a < 4; a++)
        if (a != 1) {
            qn_freeze(s, qn_axis_at(s, x, a), why);
            qn_freeze(s, qn_axis_at(s, y, a), why);
        }
    for (unsigned i = 1; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], why);
}

static bool is(const qn_node *n, const char *a, const char *b)
{
    return !strcmp(n->type, a) || !strcmp(n->type, b);
}

/* Sums are as good without what is 0; means have another divisor; a largest value may be that 0. */
static void over(qn_grouping *s, const qn_node *n, qn_axis a)
{
    if (is(n, "ReduceSum", "ReduceL1") || is(n, "ReduceL2", "ReduceSumSquare"))
        qn_sum(s, a);
    else if (!strcmp(n->type, "ReduceMean"))
        qn_inexact(s, a, qn_reason(s, "the mean of node '%s' is over it", n->name));
    else
        qn_freeze(s, a, qn_reason(s, "%s of node '%s' goes over it", n->type, n->name));
    if (!strcmp(n->type, "ReduceMean"))
        qn_mark(s, a, QN_MARK_WIDTH);
}

static void pass(qn_grouping *s, const qn_node *n, qn_axis x, qn_axis y)
{
    if (is(n, "ReduceLogSum", "ReduceLogSumExp") || is(n, "ArgMax", "ArgMin"))
        qn_tie_axes(s, x, y);
    else
        qn_flow_axes(s, x, y);
    if (!strcmp(n->type, "ReduceLogSum"))
        qn_refuse_zero(s, x, "would take the logarithm of 0");
}

/* reduced: per axis of x. Outputs without the axes, or with size 1. */
static void reduce(qn_grouping *s, const qn_node *n, const bool *reduced)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const bool keep = s->t.rank[y] == s->t.rank[x];
    int at = 0;
    for (int a = 0; a < s->t.rank[x]; a++) {
        const qn_axis xa = qn_axis_at(s, x, a);
        if (reduced[a]) {
            over(s, n, xa);
            at += keep;
            continue;
        }
        pass(s, n, xa, qn_axis_at(s, y, at++));
    }
}

void qn_rule_reduce(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0);
    const int rank = s->t.rank[x];
    unsigned count;
    bool known, reduced[QN_ARRAY_RANK_MAX] = {false};
    const int64_t *axes = qn_list(s, n, "axes", 1, &count, &known);
    if (!known) {
        qn_freeze_node(s, n, qn_reason(s, "axes of node '%s' (%s) are not known", n->name, n->type));
        return;
    }
    if (!count && !qn_node_int(n, "noop_with_empty_axes", 0))
        memset(reduced, true, sizeof reduced);
    for (unsigned k = 0; k < count; k++) {
        const int64_t a = axes[k] + (axes[k] < 0 ? rank : 0);
        if (a >= 0 && a < rank)
            reduced[a] = true;
    }
    reduce(s, n, reduced);
}

/* ArgMax, ArgMin: the axis goes; TopK: it stays, shorter. */
void qn_rule_reduce_one(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0);
    const int rank = s->t.rank[x];
    const bool top = !strcmp(n->type, "TopK");
    int64_t axis = qn_node_int(n, "axis", top ? -1 : 0);
    axis += axis < 0 ? rank : 0;
    if (!top) {
        bool reduced[QN_ARRAY_RANK_MAX] = {false};
        if (axis >= 0 && axis < rank)
            reduced[axis] = true;
        reduce(s, n, reduced);
        return;
    }
    const uint32_t why = qn_reason(s, "%s of node '%s' goes over it", n->type, n->name);
    for (int a = 0; a < rank; a++)
        for (unsigned i = 0; i < n->n_out; i++) {
            const uint32_t y = qn_out(s, n, i);
            if (a == axis) {
                qn_freeze(s, qn_axis_at(s, x, a), why);
                qn_freeze(s, qn_axis_at(s, y, a), why);
            } else if (y != QN_NO_VALUE) {
                qn_tie_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
            }
        }
}
