/* rule.c: which rule an operator's row names; what has none freezes what it touches, and is named. */
#include "analysis/groups/impl.h"

static const qn_rule rules[] = {
    [QN_AXIS_ELEMENTWISE] = qn_rule_elementwise,
    [QN_AXIS_LINEAR] = qn_rule_linear,
    [QN_AXIS_GEMM] = qn_rule_gemm,
    [QN_AXIS_MATMUL] = qn_rule_matmul,
    [QN_AXIS_EINSUM] = qn_rule_einsum,
    [QN_AXIS_CONV] = qn_rule_conv,
    [QN_AXIS_CONV_TRANSPOSE] = qn_rule_conv_transpose,
    [QN_AXIS_NORM] = qn_rule_norm,
    [QN_AXIS_LM_NORM] = qn_rule_lm_norm,
    [QN_AXIS_GROUP_NORM] = qn_rule_group_norm,
    [QN_AXIS_BATCH_NORM] = qn_rule_batch_norm,
    [QN_AXIS_ALONG] = qn_rule_along,
    [QN_AXIS_UNIT] = qn_rule_unit,
    [QN_AXIS_LRN] = qn_rule_lrn,
    [QN_AXIS_MVN] = qn_rule_mvn,
    [QN_AXIS_LAST_TWO] = qn_rule_last_two,
    [QN_AXIS_SPATIAL] = qn_rule_spatial,
    [QN_AXIS_RESIZE] = qn_rule_resize,
    [QN_AXIS_ROI] = qn_rule_roi,
    [QN_AXIS_REDUCE] = qn_rule_reduce,
    [QN_AXIS_REDUCE_ONE] = qn_rule_reduce_one,
    [QN_AXIS_RESHAPE] = qn_rule_reshape,
    [QN_AXIS_TRANSPOSE] = qn_rule_transpose,
    [QN_AXIS_CONCAT] = qn_rule_concat,
    [QN_AXIS_SPLIT] = qn_rule_split,
    [QN_AXIS_SLICE] = qn_rule_slice,
    [QN_AXIS_GATHER] = qn_rule_gather,
    [QN_AXIS_PAD] = qn_rule_pad,
    [QN_AXIS_TILE] = qn_rule_tile,
    [QN_AXIS_EXPAND] = qn_rule_expand,
    [QN_AXIS_DEPTH_TO_SPACE] = qn_rule_depth_to_space,
    [QN_AXIS_SPACE_TO_DEPTH] = qn_rule_space_to_depth,
    [QN_AXIS_RECURRENT] = qn_rule_recurrent,
    [QN_AXIS_QUANTIZE] = qn_rule_quantize,
    [QN_AXIS_EMBED] = qn_rule_embed,
    [QN_AXIS_ROPE] = qn_rule_rope,
    [QN_AXIS_ATTENTION] = qn_rule_attention,
    [QN_AXIS_EXPERTS] = qn_rule_experts,
};

/* Rules may count on the ranks of all operands that are there. */
static bool all_known(const qn_grouping *s, const qn_node *n)
{
    for (unsigned i = 0; i < n->n_in; i++)
        if (n->in[i] != QN_NO_VALUE && s->t.rank[n->in[i]] == QN_RANK_UNKNOWN)
            return false;
    for (unsigned i = 0; i < n->n_out; i++)
        if (n->out[i] != QN_NO_VALUE && s->g->last_use[n->out[i]] != QN_NO_NODE && s->t.rank[n->out[i]] == QN_RANK_UNKNOWN)
            return false;
    for (unsigned i = 0; n->op && i < n->op->min_out; i++)
        if (qn_out(s, n, i) == QN_NO_VALUE)
            return false;
    return true;
}

/* What graphs in attributes read of this one. */
static void freeze_outer(qn_grouping *s, const qn_node *n, uint32_t why)
{
    for (unsigned k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH) {
            const qn_graph *sub = n->attrs[k].v.graph;
            for (uint32_t v = 0; v < sub->n_values; v++)
                if (sub->values[v].kind == QN_VALUE_OUTER)
                    qn_freeze_value(s, sub->values[v].outer, why);
        }
}

/* One value all over: as long as anybody likes; the shape is worked out anew when what it is made for gets narrower. */
static void fill(qn_grouping *s, const qn_node *n)
{
    const uint32_t y = qn_out(s, n, 0);
    const qn_attr *a = qn_node_attr(n, "value");
    const bool zero = !a || (a->type == QN_ATTR_TENSOR && a->v.tensor->n == 1 && a->v.tensor->dtype == QN_F32 && *(const float *)a->v.tensor->data == 0);
    for (unsigned i = 0; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], qn_reason_dull(s, "is made from shapes"));
    for (int k = 0; y != QN_NO_VALUE && k < s->t.rank[y]; k++) {
        const qn_axis axis = qn_axis_at(s, y, k);
        if (s->varies[qn_axis_number(y, (unsigned)k)])
            qn_freeze(s, axis, qn_reason_dull(s, "differs between runs"));
        for (uint32_t j = 0; s->zero_pass && j < axis.n; j++)
            s->zero[axis.first + j] = zero ? QN_ZERO_YES : QN_ZERO_NO;
    }
}

void qn_rule_apply(qn_grouping *s, const qn_node *n)
{
    const unsigned axis = n->op ? n->op->axis : QN_AXIS_FREEZE;
    if (s->late && axis != QN_AXIS_RESHAPE)
        return;
    if (axis == QN_AXIS_NONE) {
        for (unsigned i = 0; i < n->n_out; i++)
            qn_freeze_value(s, n->out[i], qn_reason_dull(s, "is made from shapes"));
        return;
    }
    if (axis == QN_AXIS_FILL) {
        fill(s, n);
        return;
    }
    if (axis == QN_AXIS_FREEZE || axis >= sizeof rules / sizeof rules[0] || !rules[axis]) {
        const uint32_t why = qn_reason(s, "operator %s%s%s of node '%s' has no rule", n->domain, *n->domain ? "." : "", n->type, n->name);
        qn_freeze_node(s, n, why);
        freeze_outer(s, n, why);
        return;
    }
    if (!all_known(s, n)) {
        qn_freeze_node(s, n, qn_reason(s, "shapes at node '%s' (%s) are not known", n->name, n->type));
        return;
    }
    rules[axis](s, n);
}
