/* rule_conv.c: convolutions: in one piece, depthwise, in groups; transposed ones.
 *
 * In groups, two units are right, and the finer one is taken: whole groups (group q takes its inputs and outputs along), or the same channel of
 * every group (all groups keep the same survivors). Either way the new number of groups is channels / weight.shape[1] of what is left. */
#include "analysis/groups/impl.h"
#include "base/num.h"

static uint32_t number(uint32_t v, unsigned axis)
{
    return qn_axis_number(v, axis);
}

/* Axes from `from` on are the operator's own. */
static void freeze_spatial(qn_grouping *s, uint32_t v, int from)
{
    const uint32_t why = qn_reason_dull(s, "is a spatial axis");
    for (int a = from; v != QN_NO_VALUE && a < s->t.rank[v]; a++)
        qn_freeze(s, qn_axis_at(s, v, a), why);
}

static bool whole_groups(uint32_t groups, uint32_t in, uint32_t out)
{
    return groups > qn_min_u64(in, out);
}

/* Atoms i and i + step … of an axis of n, from `first` on, are one. */
static void tie_every(qn_grouping *s, qn_axis a, uint32_t step)
{
    for (uint32_t i = step; i < a.n; i++)
        qn_tie(s, a.first + i % step, a.first + i);
}

/* Runs of `run` atoms are one each. */
static void tie_runs(qn_grouping *s, qn_axis a, uint32_t run)
{
    for (uint32_t i = 0; i < a.n; i++)
        qn_tie(s, a.first + i - i % run, a.first + i);
}

void qn_rule_conv(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), w = qn_in(s, n, 1), b = qn_in(s, n, 2), y = qn_out(s, n, 0);
    const qn_axis xc = qn_axis_at(s, x, 1), w_out = qn_axis_at(s, w, 0), w_in = qn_axis_at(s, w, 1), yc = qn_axis_at(s, y, 1);
    const int64_t groups = qn_node_int(n, "group", 1);
    if (groups < 1 || !w_in.n || (int64_t)w_in.n * groups != xc.n || w_out.n != yc.n || w_out.n % groups) {
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (Conv)", n->name));
        return;
    }
    const uint32_t g = (uint32_t)groups, cin = w_in.n, cout = w_out.n / g;
    qn_flow_axes(s, qn_axis_at(s, x, 0), qn_axis_at(s, y, 0));
    if (b != QN_NO_VALUE)
        qn_fill(s, qn_axis_at(s, y, 0));
    freeze_spatial(s, x, 2);
    freeze_spatial(s, w, 2);
    freeze_spatial(s, y, 2);
    bool sums = true; /* over channels that go one by one */
    qn_factor_axes(s, w_out, yc);
    if (g == 1) {
        qn_contract_axes(s, xc, w_in);
    } else if (cin == 1) {
        for (uint32_t i = 0; i < yc.n; i++)
            qn_factor(s, xc.first + i / cout, yc.first + i);
        sums = false;
    } else if (whole_groups(g, cin, cout)) {
        for (uint32_t i = 0; i < yc.n; i++)
            qn_factor(s, xc.first + i / cout * cin, yc.first + i);
        tie_runs(s, xc, cin);
        qn_freeze(s, w_in, qn_reason_dull(s, "is the width of a group of a convolution"));
        sums = false;
    } else {
        tie_every(s, yc, cout);
        for (uint32_t i = 0; i < xc.n; i++)
            qn_contract(s, xc.first + i, w_in.first + i % cin);
    }
    if (b != QN_NO_VALUE)
        qn_flow_axes(s, qn_axis_at(s, b, 0), yc);
    qn_mark(s, yc, QN_MARK_CHANNELS);
    uint32_t per = 1;
    for (int a = 2; a < s->t.rank[w]; a++)
        per *= qn_axis_at(s, w, a).n;
    qn_note_product(s, &(qn_product_spec){.operand = w, .out_axis = 0, .in_axis = sums ? 1 : -1, .per_index = per, .tapped = true,
                                          .bias = b != QN_NO_VALUE ? b : qn_bias_behind(s, y, yc.n, s->t.rank[y] - 1u),
                                          .axes = {number(y, 1), sums ? number(w, 1) : UINT32_MAX}, .n_axes = 2,
                                          .macs = qn_elems(s, y) * (double)cin * (double)per});
}

void qn_rule_conv_transpose(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), w = qn_in(s, n, 1), b = qn_in(s, n, 2), y = qn_out(s, n, 0);
    const qn_axis xc = qn_axis_at(s, x, 1), w_in = qn_axis_at(s, w, 0), w_out = qn_axis_at(s, w, 1), yc = qn_axis_at(s, y, 1);
    const int64_t groups = qn_node_int(n, "group", 1);
    if (groups < 1 || !w_out.n || (int64_t)w_out.n * groups != yc.n || w_in.n != xc.n || w_in.n % groups) {
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (ConvTranspose)", n->name));
        return;
    }
    const uint32_t g = (uint32_t)groups, cin = w_in.n / g, cout = w_out.n;
    qn_flow_axes(s, qn_axis_at(s, x, 0), qn_axis_at(s, y, 0));
    if (b != QN_NO_VALUE)
        qn_fill(s, qn_axis_at(s, y, 0));
    freeze_spatial(s, x, 2);
    freeze_spatial(s, w, 2);
    freeze_spatial(s, y, 2);
    bool sums = true;
    if (g == 1) {
        qn_factor_axes(s, w_out, yc);
        qn_contract_axes(s, xc, w_in);
    } else if (whole_groups(g, cin, cout) || cin == 1) {
        for (uint32_t i = 0; i < yc.n; i++) {
            qn_factor(s, xc.first + i / cout * cin, yc.first + i);
            qn_factor(s, w_in.first + i / cout * cin, yc.first + i);
        }
        tie_runs(s, xc, cin);
        tie_runs(s, w_in, cin);
        qn_freeze(s, w_out, qn_reason_dull(s, "is the width of a group of a convolution"));
        sums = false;
    } else {
        for (uint32_t i = 0; i < yc.n; i++)
            qn_factor(s, w_out.first + i % cout, yc.first + i);
        tie_every(s, w_in, cin);
        for (uint32_t i = 0; i < xc.n; i++)
            qn_contract(s, xc.first + i, w_in.first + i);
    }
    if (b != QN_NO_VALUE)
        qn_flow_axes(s, qn_axis_at(s, b, 0), yc);
    qn_mark(s, yc, QN_MARK_CHANNELS);
    uint32_t per = 1;
    for (int a = 2; a < s->t.rank[w]; a++)
        per *= qn_axis_at(s, w, a).n;
    /* on_input shows rows of one value a channel. Cut in whole groups, the weight's axis 0 makes the outputs. */
    qn_note_product(s, &(qn_product_spec){.operand = w, .out_axis = sums ? 1 : 0, .in_axis = sums ? 0 : -1, .per_index = 1, .tapped = true,
                                          .bias = b != QN_NO_VALUE ? b : qn_bias_behind(s, y, yc.n, s->t.rank[y] - 1u),
                                          .axes = {number(y, 1), sums ? number(w, 0) : UINT32_MAX}, .n_axes = 2,
                                          .macs = qn_elems(s, x) * (double)cout * (double)per});
}
