/* rule_norm.c: normalizations and what looks at an axis as a whole. A statistic over an axis changes when something of it goes: inexact. */
#include "analysis/groups/impl.h"
#include <string.h>

static bool is_rms(const qn_node *n)
{
    return !strncmp(n->type, "RMS", 3);
}

static uint32_t statistic(qn_grouping *s, const qn_node *n)
{
    return qn_reason(s, "%s of node '%s' is over the whole width", is_rms(n) ? "the mean square" : "the mean", n->name);
}

/* x with scale and bias (QN_NO_VALUE: none) on the atoms of one axis, which end up at y. */
static void scaled(qn_grouping *s, qn_axis x, qn_axis scale, qn_axis bias, qn_axis y, bool keeps_zero)
{
    if (scale.n > 1)
        qn_factor_axes(s, scale, y);
    if (keeps_zero)
        qn_factor_axes(s, x, y);
    else
        qn_tie_axes(s, x, y);
    if (bias.n > 1)
        qn_flow_axes(s, bias, y);
    else if (bias.n == 1)
        qn_fill(s, y);
}

/* ONNX LayerNormalization, RMSNormalization: over all axes from `axis` on; scale and bias are aligned at the end. */
void qn_rule_norm(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), w = qn_in(s, n, 1), b = qn_in(s, n, 2), y = qn_out(s, n, 0);
    const int rank = s->t.rank[y];
    int axis = (int)qn_node_int(n, "axis", -1);
    axis += axis < 0 ? rank : 0;
    const uint32_t why = statistic(s, n);
    for (int a = 0; a < rank; a++) {
        const qn_axis none = {0, 0};
        const int wa = w == QN_NO_VALUE ? -1 : a - rank + s->t.rank[w], ba = b == QN_NO_VALUE ? -1 : a - rank + s->t.rank[b];
        scaled(s, qn_axis_at(s, x, a), wa >= 0 ? qn_axis_at(s, w, wa) : none, ba >= 0 ? qn_axis_at(s, b, ba) : none, qn_axis_at(s, y, a),
               is_rms(n));
        if (a < axis) {
            if (b != QN_NO_VALUE)
                qn_fill(s, qn_axis_at(s, y, a));
            continue;
        }
        qn_inexact(s, qn_axis_at(s, x, a), why);
        qn_mark(s, qn_axis_at(s, x, a), QN_MARK_WIDTH);
    }
    for (unsigned i = 1; i < n->n_out; i++) /* mean, deviation */
        qn_freeze_value(s, n->out[i], qn_reason(s, "is a statistic of node '%s'", n->name));
}

/* quern's norms: over runs of the last axis. GroupNorm: `groups` of them, a parameter for each value; the others: as long as the weight, which all
 * share: then whole runs (heads) can go exactly, and the weight stays. */
void qn_rule_lm_norm(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), w = qn_in(s, n, 1), b = qn_in(s, n, 2), y = qn_out(s, n, 0);
    const qn_axis xa = qn_axis_at(s, x, -1), ya = qn_axis_at(s, y, -1), wa = qn_axis_at(s, w, 0), ba = qn_axis_at(s, b, 0);
    const bool group_norm = !strcmp(n->type, "GroupNorm"), rms = is_rms(n);
    const uint32_t why = statistic(s, n);
    for (int a = 0; a + 1 < s->t.rank[x]; a++) {
        qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
        if (b != QN_NO_VALUE)
            qn_fill(s, qn_axis_at(s, y, a));
    }
    if (group_norm || wa.n == xa.n || (!wa.n && qn_node_int(n, "size", xa.n) == xa.n)) {
        scaled(s, xa, qn_node_int(n, "offset", 0) ? (qn_axis){0, 0} : wa, ba, ya, rms);
        qn_tie_axes(s, xa, wa.n ? wa : xa);
        qn_inexact(s, xa, why);
        qn_mark(s, xa, QN_MARK_WIDTH);
        return;
    }
    const uint32_t m = wa.n ? wa.n : (uint32_t)qn_node_int(n, "size", 1);
    if (!m || xa.n % m) {
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (%s)", n->name, n->type));
        return;
    }
    for (uint32_t i = 0; i < xa.n; i++) {
        if (rms)
            qn_factor(s, xa.first + i, ya.first + i);
        else
            qn_tie(s, xa.first + i, ya.first + i);
        if (s->o && s->o->inner && wa.n)
            qn_tie(s, xa.first + i, wa.first + i % m);
        else if (s->o && s->o->inner)
            qn_tie(s, xa.first + i, xa.first + i % m);
        else
            qn_tie(s, xa.first + i, xa.first + i - i % m);
        if (s->o && s->o->inner && ba.n == m)
            qn_tie(s, xa.first + i, ba.first + i % m);
    }
    if (s->o && s->o->inner) {
        qn_inexact(s, xa, why);
        return;
    }
    qn_freeze(s, wa, qn_reason_dull(s, "is common to all heads"));
    qn_freeze(s, ba, qn_reason_dull(s, "is common to all heads"));
}

/* ONNX GroupNormalization: runs of C / groups channels go as a whole; scale and bias for each channel, or (version 18) for each group. */
void qn_rule_group_norm(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const qn_axis xa = qn_axis_at(s, x, 1), ya = qn_axis_at(s, y, 1);
    const int64_t groups = qn_node_int(n, "num_groups", 1);
    if (groups < 1 || xa.n % groups || xa.n != ya.n) {
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (%s)", n->name, n->type));
        return;
    }
    const uint32_t per = xa.n / (uint32_t)groups, why = qn_reason_dull(s, "is a spatial axis");
    for (int a = 0; a < s->t.rank[x]; a++)
        if (a != 1) {
            qn_tie_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
            if (a > 1)
                qn_freeze(s, qn_axis_at(s, x, a), why);
        }
    for (unsigned k = 1; k < 3; k++) {
        const qn_axis p = qn_axis_at(s, qn_in(s, n, k), 0);
        for (uint32_t i = 0; i < ya.n && p.n > 0; i++) {
            const uint32_t atom = p.first + (p.n == ya.n ? i : i / per < p.n ? i / per : 0);
            if (k == 1)
                qn_factor(s, atom, ya.first + i);
            else
                qn_flow(s, atom, ya.first + i);
        }
    }
    for (uint32_t i = 0; i < xa.n; i++) {
        qn_tie(s, xa.first + i, ya.first + i);
        qn_tie(s, xa.first + i, xa.first + i - i % per);
    }
}

/* BatchNormalization, InstanceNormalization: parameters along axis 1; the last computes statistics over what comes behind. */
void qn_rule_batch_norm(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const qn_axis ya = qn_axis_at(s, y, 1);
    const bool instance = !strcmp(n->type, "InstanceNormalization");
    const uint32_t why = qn_reason(s, "the mean of node '%s' is over it", n->name);
    qn_factor_axes(s, qn_axis_at(s, qn_in(s, n, 1), 0), ya);
    qn_flow_axes(s, qn_axis_at(s, qn_in(s, n, 2), 0), ya);
    for (int a = 0; a < s->t.rank[y]; a++) {
        const qn_axis xa = qn_axis_at(s, x, a);
        qn_tie_axes(s, xa, qn_axis_at(s, y, a));
        if (a != 1)
            qn_fill(s, qn_axis_at(s, y, a));
        if (instance && a > 1)
            qn_freeze(s, xa, why);
    }
    for (unsigned i = 3; i < n->n_in; i++)
        qn_tie_axes(s, qn_axis_at(s, qn_in(s, n, i), 0), ya);
    for (unsigned i = 1; i < n->n_out; i++)
        qn_tie_axes(s, qn_axis_at(s, qn_out(s, n, i), 0), ya);
}

/* Softmax and the like, sums along an axis: that axis stays; before version 13 Softmax took all from `axis` on for one. */
void qn_rule_along(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const int rank = s->t.rank[y];
    const bool sum = !strcmp(n->type, "CumSum"), old = !sum && n->version && n->version < 13;
    int64_t axis = qn_node_int(n, "axis", old ? 1 : -1);
    if (sum) {
        unsigned count;
        const int64_t *at = qn_in_ints(s, n, 1, &count);
        if (!at || count != 1) {
            qn_freeze_node(s, n, qn_reason(s, "axis of node '%s' (%s) is not known", n->name, n->type));
            return;
        }
        axis = at[0];
    }
    axis += axis < 0 ? rank : 0;
    const uint32_t why = qn_reason(s, "%s of node '%s' goes over it", n->type, n->name);
    for (int a = 0; a < rank; a++) {
        if (sum)
            qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
        else
            qn_tie_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
        if (a == axis || (old && a > axis))
            qn_freeze(s, qn_axis_at(s, x, a), why);
    }
}

/* x / norm of x along an axis: inexact only where what goes is not 0; but an empty norm divides by 0, as everywhere. */
void qn_rule_unit(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    int64_t axis = qn_node_int(n, "axis", -1);
    axis += axis < 0 ? s->t.rank[y] : 0;
    for (int a = 0; a < s->t.rank[y]; a++) {
        const qn_axis xa = qn_axis_at(s, x, a);
        if (a == axis) {
            qn_flow_axes(s, xa, qn_axis_at(s, y, a));
            qn_sum(s, xa);
            qn_mark(s, xa, QN_MARK_WIDTH);
        } else {
            qn_tie_axes(s, xa, qn_axis_at(s, y, a));
            qn_refuse_zero(s, xa, "would divide by 0");
        }
    }
}

/* Channels see their neighbours: none may go. */
void qn_rule_lrn(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    for (int a = 0; a < s->t.rank[y]; a++)
        qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
    qn_freeze(s, qn_axis_at(s, x, 1), qn_reason(s, "%s of node '%s' looks at neighbours", n->type, n->name));
}

void qn_rule_mvn(qn_grouping *s, const qn_node *n)
{
    static const int64_t usual[] = {0, 2, 3};
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    unsigned count;
    const int64_t *axes = qn_node_ints(n, "axes", &count);
    const uint32_t why = statistic(s, n);
    if (!axes) {
        axes = usual;
        count = 3;
    }
    for (int a = 0; a < s->t.rank[y]; a++)
        qn_tie_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
    for (unsigned k = 0; k < count; k++)
        qn_inexact(s, qn_axis_at(s, x, (int)axes[k]), why);
}

void qn_rule_last_two(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    const uint32_t why = qn_reason(s, "%s of node '%s' goes over it", n->type, n->name);
    for (int a = 0; a < s->t.rank[y]; a++) {
        qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
        if (a >= s->t.rank[y] - 2)
            qn_freeze(s, qn_axis_at(s, x, a), why);
    }
}
