/* rule_lm.c: operators of language models whose axes are more than one thing: rows of an embedding, heads × size, experts; and the recurrent ones
 * of ONNX. */
#include "analysis/groups/impl.h"
#include <string.h>

static uint32_t number(const qn_grouping *s, uint32_t v, int axis)
{
    axis += axis < 0 ? s->t.rank[v] : 0;
    return qn_axis_number(v, (unsigned)axis);
}

void qn_rule_embed(qn_grouping *s, const qn_node *n)
{
    const uint32_t ids = qn_in(s, n, 0), w = qn_in(s, n, 1), y = qn_out(s, n, 0);
    for (int a = 0; a < s->t.rank[ids]; a++)
        qn_tie_axes(s, qn_axis_at(s, ids, a), qn_axis_at(s, y, a));
    qn_flow_axes(s, qn_axis_at(s, w, 1), qn_axis_at(s, y, -1));
    qn_freeze(s, qn_axis_at(s, w, 0), qn_reason(s, "node '%s' (%s) picks from it", n->name, n->type));
    qn_freeze_value(s, ids, qn_reason_dull(s, "holds indices"));
}

/* x (T, heads · head_dim): heads go as they come. Within a head (options.inner), pairs belong together, and the table of frequencies would have to
 * be cut: that stays. */
void qn_rule_rope(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0), freq = qn_in(s, n, 2);
    const qn_axis xa = qn_axis_at(s, x, -1);
    qn_tie_axes(s, qn_axis_at(s, x, 0), qn_axis_at(s, y, 0));
    qn_flow_axes(s, xa, qn_axis_at(s, y, -1));
    const uint32_t pairs = qn_axis_at(s, freq, 0).n;
    const int64_t size = qn_node_int(n, "head_dim", 0);
    if (size < 1 || xa.n % size || 2 * (int64_t)pairs > size) {
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (%s)", n->name, n->type));
        return;
    }
    if (s->o && s->o->inner)
        for (uint32_t i = 0; i < xa.n; i++)
            if (i % (uint32_t)size < 2 * pairs)
                qn_freeze(s, (qn_axis){xa.first + i, 1}, qn_reason(s, "node '%s' (%s) turns it by its own frequency", n->name, n->type));
    for (unsigned i = 1; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], qn_reason_dull(s, "holds positions"));
}

/* q (T, heads · size), k (T, kv · size), v (T, kv · v_size) → y (T, heads · v_size). A key head goes with the query heads that share it. */
void qn_rule_attention(qn_grouping *s, const qn_node *n)
{
    const uint32_t q = qn_in(s, n, 0), k = qn_in(s, n, 1), v = qn_in(s, n, 2), slopes = qn_in(s, n, 4), y = qn_out(s, n, 0);
    const qn_axis a[4] = {qn_axis_at(s, q, -1), qn_axis_at(s, k, -1), qn_axis_at(s, v, -1), qn_axis_at(s, y, -1)};
    const uint32_t heads = (uint32_t)qn_node_int(n, "heads", 1), kv = (uint32_t)qn_node_int(n, "kv_heads", heads);
    const uint32_t of[4] = {heads, kv, kv, heads}, rep = kv ? heads / kv : 0;
    const bool inner = s->o && s->o->inner;
    bool good = heads && kv && heads % kv == 0;
    for (unsigned i = 0; i < 4 && good; i++)
        good = a[i].n % of[i] == 0 && a[i].n;
    good = good && a[0].n / heads == a[1].n / kv && a[2].n / kv == a[3].n / heads;
    if (!good) {
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (%s)", n->name, n->type));
        return;
    }
    for (unsigned i = 0; i < 4; i++) {
        const uint32_t size = a[i].n / of[i];
        for (uint32_t j = 0; j < a[i].n; j++) {
            const uint32_t head = j / size, group = i == 1 || i == 2 ? head : head / rep;
            if (inner) /* sizes: the same of all heads; of q with k, of v with y */
                qn_tie(s, a[i].first + j, a[i < 2 ? 1 : 2].first + j % size);
            else
                qn_tie(s, a[i].first + j, a[1].first + group * (a[1].n / kv));
        }
    }
    for (uint32_t j = 0; j < a[3].n; j++) { /* a head whose values are 0 gives 0 */
        const uint32_t size = a[3].n / heads;
        qn_flow(s, a[2].first + j / size / rep * size + j % size, a[3].first + j);
    }
    if (inner)
        for (uint32_t j = 0; j < a[0].n; j++) {
            const uint32_t size = a[0].n / heads;
            qn_contract(s, a[0].first + j, a[1].first + j / size / rep * size + j % size);
        }
    qn_tie_axes(s, qn_axis_at(s, q, 0), qn_axis_at(s, y, 0));
    qn_mark(s, a[0], inner ? QN_MARK_HEAD_SIZE : QN_MARK_HEADS);
    qn_mark(s, a[2], inner ? QN_MARK_HEAD_SIZE : QN_MARK_HEADS);
    qn_freeze_value(s, qn_in(s, n, 3), qn_reason_dull(s, "holds positions"));
    if (slopes != QN_NO_VALUE && !inner) { /* one for each query head */
        const qn_axis sa = qn_axis_at(s, slopes, 0);
        for (uint32_t h = 0; h < heads && h < sa.n; h++)
            qn_tie(s, sa.first + h, a[0].first + h * (a[0].n / heads));
    } else {
        qn_freeze_value(s, slopes, qn_reason_dull(s, "is common to all sizes"));
    }
    const double rows = (double)qn_axis_at(s, q, 0).n;
    qn_note_product(s, &(qn_product_spec){.operand = QN_NO_VALUE, .axes = {number(s, q, -1)}, .n_axes = 1, .macs = rows * rows * (double)a[0].n});
    qn_note_product(s, &(qn_product_spec){.operand = QN_NO_VALUE, .axes = {number(s, y, -1)}, .n_axes = 1, .macs = rows * rows * (double)a[3].n});
}

/* One weight of an expert, (out, in) in its last two axes. */
static void expert_product(qn_grouping *s, uint32_t w, double rows, double share)
{
    const int r = s->t.rank[w];
    const double macs = rows * share * qn_elems(s, w);
    qn_note_product(s, &(qn_product_spec){.operand = w, .out_axis = r - 2, .in_axis = r - 1, .bias = QN_NO_VALUE, .tapped = true,
                                          .axes = {number(s, w, -2), number(s, w, -1)}, .n_axes = 2, .macs = macs});
}

/* x (T, width), logits (T, E), gate, up (ffn, width), down (width, ffn) of each expert. Experts stay; the width of their ffn goes, of each for
 * itself where its weights are its own tensors, else of all. */
void qn_rule_experts(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), logits = qn_in(s, n, 1), y = qn_out(s, n, 0);
    const char *layout = qn_node_string(n, "layout", "separate");
    const bool separate = !strcmp(layout, "separate"), fused = !strcmp(layout, "fused");
    const int64_t experts = qn_node_int(n, "experts", 1), top = qn_node_int(n, "top_k", 1);
    const unsigned n_sets = separate ? (unsigned)experts : 1, parts = fused ? 2 : 3;
    const qn_axis xa = qn_axis_at(s, x, -1), ya = qn_axis_at(s, y, -1);
    const uint32_t chosen = qn_reason(s, "node '%s' (%s) chooses among it", n->name, n->type);
    qn_freeze(s, qn_axis_at(s, logits, -1), chosen);
    qn_tie_axes(s, qn_axis_at(s, x, 0), qn_axis_at(s, y, 0));
    qn_tie_axes(s, qn_axis_at(s, x, 0), qn_axis_at(s, logits, 0));
    for (unsigned e = 0; e < n_sets && 2 + parts * n_sets <= n->n_in; e++) {
        const uint32_t gate = qn_in(s, n, 2 + e), up = fused ? gate : qn_in(s, n, 2 + n_sets + e), down = qn_in(s, n, 2 + (parts - 1) * n_sets + e);
        const qn_axis f = qn_axis_at(s, down, -1), out = qn_axis_at(s, gate, -2);
        qn_contract_axes(s, xa, qn_axis_at(s, gate, -1));
        if (!fused)
            qn_contract_axes(s, xa, qn_axis_at(s, up, -1));
        qn_flow_axes(s, qn_axis_at(s, down, -2), ya);
        if (fused && out.n == 2 * f.n) {
            for (uint32_t i = 0; i < out.n; i++)
                qn_tie(s, out.first + i, f.first + i % f.n);
        } else {
            qn_tie_axes(s, out, f);
            qn_tie_axes(s, qn_axis_at(s, up, -2), f);
        }
        if (!separate)
            for (unsigned i = 0; i < 3; i++)
                qn_freeze(s, qn_axis_at(s, i == 0 ? gate : i == 1 ? up : down, 0), chosen);
        qn_mark(s, f, QN_MARK_EXPERTS);
        const double rows = (double)qn_axis_at(s, x, 0).n, share = (double)top / (double)(experts > 0 ? experts : 1);
        expert_product(s, gate, rows, share);
        if (!fused)
            expert_product(s, up, rows, share);
        expert_product(s, down, rows, share);
    }
}

/* LSTM, GRU, RNN: x (time, batch, in), W (directions, gates · hidden, in): the input width goes; the hidden one has no rule. */
void qn_rule_recurrent(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), w = qn_in(s, n, 1), why = qn_reason(s, "hidden state of node '%s' (%s)", n->name, n->type);
    for (unsigned i = 2; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], why);
    for (unsigned i = 0; i < n->n_out; i++)
        qn_freeze_value(s, n->out[i], why);
    for (int a = 0; a < 2; a++) {
        qn_freeze(s, qn_axis_at(s, x, a), why);
        qn_freeze(s, qn_axis_at(s, w, a), why);
    }
    qn_contract_axes(s, qn_axis_at(s, x, 2), qn_axis_at(s, w, 2));
    const double rows = qn_elems(s, x) / (double)(qn_axis_at(s, x, 2).n ? qn_axis_at(s, x, 2).n : 1);
    qn_note_product(s, &(qn_product_spec){.operand = w, .out_axis = 1, .in_axis = 2, .bias = QN_NO_VALUE, .tapped = true,
                                          .axes = {qn_axis_number(w, 1), qn_axis_number(w, 2)}, .n_axes = 2, .macs = rows * qn_elems(s, w)});
    const uint32_t r = qn_in(s, n, 2);
    qn_note_product(s, &(qn_product_spec){.operand = QN_NO_VALUE, .axes = {UINT32_MAX}, .n_axes = 1, .macs = rows * qn_elems(s, r)});
}
