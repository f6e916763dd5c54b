/* rule_product.c: matrix products: Linear, Gemm, MatMul, Einsum. */
#include "analysis/groups/impl.h"
#include <string.h>

static uint32_t number(const qn_grouping *s, uint32_t v, int axis)
{
    if (v == QN_NO_VALUE)
        return UINT32_MAX;
    if (axis < 0)
        axis += s->t.rank[v];
    return axis >= 0 && axis < s->t.rank[v] ? qn_axis_number(v, (unsigned)axis) : UINT32_MAX;
}

/* y += b, broadcast. */
static void add(qn_grouping *s, uint32_t b, uint32_t y)
{
    if (b == QN_NO_VALUE)
        return;
    const int rank = s->t.rank[y], own = s->t.rank[b];
    for (int a = 0; a < rank; a++) {
        const qn_axis out = qn_axis_at(s, y, a), in = a >= rank - own ? qn_axis_at(s, b, a - (rank - own)) : (qn_axis){0, 0};
        if (out.n > 1 && in.n > 1)
            qn_flow_axes(s, in, out);
        else if (out.n > 1)
            qn_fill(s, out);
    }
}

/* quern: y = x Wᵀ + b. */
void qn_rule_linear(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), w = qn_in(s, n, 1), b = qn_in(s, n, 2), y = qn_out(s, n, 0);
    const bool in_out = !strcmp(qn_node_string(n, "layout", "out_in"), "in_out");
    const int rank = s->t.rank[y];
    for (int a = 0; a + 1 < rank; a++)
        qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
    qn_flow_axes(s, qn_axis_at(s, w, in_out), qn_axis_at(s, y, -1));
    add(s, b, y);
    const qn_axis k = qn_axis_at(s, x, -1);
    qn_contract_axes(s, k, qn_axis_at(s, w, !in_out));
    qn_note_product(s, &(qn_product_spec){.operand = w, .out_axis = in_out, .in_axis = !in_out,
                                          .bias = b != QN_NO_VALUE ? b : qn_bias_behind(s, y, qn_axis_at(s, y, -1).n, 1), .tapped = true,
                                          .axes = {number(s, y, -1), number(s, x, -1)}, .n_axes = 2, .macs = qn_elems(s, y) * (double)k.n});
}

void qn_rule_gemm(qn_grouping *s, const qn_node *n)
{
    const uint32_t a = qn_in(s, n, 0), b = qn_in(s, n, 1), c = qn_in(s, n, 2), y = qn_out(s, n, 0);
    const bool ta = qn_node_int(n, "transA", 0) != 0, tb = qn_node_int(n, "transB", 0) != 0;
    const double alpha = qn_node_float(n, "alpha", 1), beta = qn_node_float(n, "beta", 1);
    qn_flow_axes(s, qn_axis_at(s, a, ta), qn_axis_at(s, y, 0));
    qn_flow_axes(s, qn_axis_at(s, b, !tb), qn_axis_at(s, y, 1));
    add(s, c, y);
    const qn_axis k = qn_axis_at(s, a, !ta);
    qn_contract_axes(s, k, qn_axis_at(s, b, tb));
    const bool bias_fits = c != QN_NO_VALUE && beta == 1 && qn_elems(s, c) == (double)qn_axis_at(s, y, 1).n;
    int dummy = -1;
    const bool left = qn_weight_behind(s, a, &dummy) != QN_NO_VALUE && qn_weight_behind(s, b, &dummy) == QN_NO_VALUE;
    qn_note_product(s, &(qn_product_spec){
                           .operand = left ? a : b, .out_axis = left ? ta : !tb, .in_axis = left ? !ta : tb, .tapped = !left && alpha == 1,
                           .bias = bias_fits && !left ? c : c == QN_NO_VALUE && !left ? qn_bias_behind(s, y, qn_axis_at(s, y, 1).n, 1) : QN_NO_VALUE,
                           .axes = {number(s, y, 0), number(s, y, 1), number(s, a, !ta)}, .n_axes = 3, .macs = qn_elems(s, y) * (double)k.n});
}

/* numpy's rules: a vector is a row on the left, a column on the right; leading axes are broadcast. */
void qn_rule_matmul(qn_grouping *s, const qn_node *n)
{
    const uint32_t a = qn_in(s, n, 0), b = qn_in(s, n, 1), y = qn_out(s, n, 0);
    const int ra = s->t.rank[a], rb = s->t.rank[b], ry = s->t.rank[y];
    const int y_n = rb > 1 ? ry - 1 : -1, y_m = ra > 1 ? ry - 1 - (rb > 1) : -1; /* axes of y; -1: not there */
    const int batch = ry - (ra > 1) - (rb > 1);
    for (int i = 0; i < batch; i++) {
        const qn_axis out = qn_axis_at(s, y, i);
        const int ia = i - batch + ra - 2, ib = i - batch + rb - 2;
        const qn_axis in[2] = {ia >= 0 ? qn_axis_at(s, a, ia) : (qn_axis){0, 0}, ib >= 0 ? qn_axis_at(s, b, ib) : (qn_axis){0, 0}};
        for (unsigned k = 0; k < 2; k++)
            if (in[k].n > 1)
                qn_factor_axes(s, in[k], out);
        if (in[0].n > 1 && in[1].n > 1)
            qn_mark(s, out, QN_MARK_HEADS);
    }
    if (y_m >= 0)
        qn_flow_axes(s, qn_axis_at(s, a, ra - 2), qn_axis_at(s, y, y_m));
    if (y_n >= 0)
        qn_flow_axes(s, qn_axis_at(s, b, rb - 1), qn_axis_at(s, y, y_n));
    const qn_axis k = qn_axis_at(s, a, ra - 1);
    qn_contract_axes(s, k, qn_axis_at(s, b, rb > 1 ? rb - 2 : 0));
    int dummy = -1;
    const bool wb = qn_weight_behind(s, b, &dummy) != QN_NO_VALUE, wa = qn_weight_behind(s, a, &dummy) != QN_NO_VALUE;
    qn_product_spec p = {.operand = QN_NO_VALUE, .out_axis = -1, .in_axis = -1, .bias = QN_NO_VALUE, .macs = qn_elems(s, y) * (double)k.n};
    if (wb) {
        p.operand = b;
        p.out_axis = rb > 1 ? rb - 1 : -1;
        p.in_axis = rb > 1 ? rb - 2 : 0;
        p.tapped = rb == 2;
        p.bias = y_n >= 0 ? qn_bias_behind(s, y, qn_axis_at(s, y, y_n).n, 1) : QN_NO_VALUE;
    } else if (wa) {
        p.operand = a;
        p.out_axis = ra > 1 ? ra - 2 : -1;
        p.in_axis = ra - 1;
    }
    p.axes[p.n_axes++] = number(s, a, ra - 1);
    if (y_m >= 0)
        p.axes[p.n_axes++] = number(s, y, y_m);
    if (y_n >= 0)
        p.axes[p.n_axes++] = number(s, y, y_n);
    for (int i = 0; i < batch && p.n_axes < QN_PRODUCT_AXES; i++)
        p.axes[p.n_axes++] = number(s, y, i);
    if (!wa && !wb)
        qn_mark(s, k, QN_MARK_HEAD_SIZE);
    qn_note_product(s, &p);
}

/* ---- Einsum: a letter is a class; letters that the output lacks are summed over ---- */

struct letters {
    char of[8][QN_ARRAY_RANK_MAX + 1]; /* of each operand; [7]: of the output */
    unsigned n_in;
};

/* False: an ellipsis, too many operands, letters that do not fit the ranks. */
static bool parse(const qn_grouping *s, const qn_node *n, struct letters *l)
{
    const char *p = qn_node_string(n, "equation", "");
    unsigned i = 0, k = 0;
    bool arrow = false;
    memset(l, 0, sizeof *l);
    for (; *p; p++) {
        if (*p == ' ')
            continue;
        if (*p == ',') {
            k = 0;
            if (++i >= 7)
                return false;
        } else if (*p == '-' && p[1] == '>') {
            arrow = true;
            l->n_in = i + 1;
            i = 7;
            k = 0;
            p++;
        } else if (*p == '.' || k >= QN_ARRAY_RANK_MAX) {
            return false;
        } else {
            l->of[i][k++] = *p;
        }
    }
    if (!arrow || l->n_in != n->n_in)
        return false;
    for (i = 0; i < l->n_in; i++)
        if (qn_in(s, n, i) == QN_NO_VALUE || strlen(l->of[i]) != s->t.rank[n->in[i]])
            return false;
    return strlen(l->of[7]) == s->t.rank[n->out[0]];
}

static qn_axis axis_of_letter(const qn_grouping *s, const char *letters, uint32_t v, char c)
{
    const char *at = strchr(letters, c);
    return at ? qn_axis_at(s, v, (int)(at - letters)) : (qn_axis){0, 0};
}

void qn_rule_einsum(qn_grouping *s, const qn_node *n)
{
    struct letters l;
    const uint32_t y = qn_out(s, n, 0);
    if (!parse(s, n, &l)) {
        qn_freeze_node(s, n, qn_reason(s, "equation of node '%s' (Einsum)", n->name));
        return;
    }
    for (unsigned i = 0; i < l.n_in; i++)
        for (unsigned k = 0; l.of[i][k]; k++) {
            const qn_axis in = qn_axis_at(s, n->in[i], (int)k), out = axis_of_letter(s, l.of[7], y, l.of[i][k]);
            const char *again = strchr(l.of[i] + k + 1, l.of[i][k]);
            if (again) { /* a diagonal */
                const uint32_t why = qn_reason(s, "diagonal of node '%s' (Einsum)", n->name);
                qn_freeze(s, in, why);
                qn_freeze(s, qn_axis_at(s, n->in[i], (int)(again - l.of[i])), why);
            }
            if (out.n) {
                qn_factor_axes(s, in, out);
                continue;
            }
            bool paired = false;
            for (unsigned j = 0; j < l.n_in; j++) {
                const qn_axis other = axis_of_letter(s, l.of[j], n->in[j], l.of[i][k]);
                if (j != i && other.n) {
                    paired = true;
                    if (j > i)
                        qn_contract_axes(s, in, other);
                }
            }
            if (!paired)
                qn_sum(s, in);
        }
    /* Multiplications: the size of the loop nest. A weight is noted where it stands second. */
    double macs = qn_elems(s, y);
    qn_product_spec p = {.operand = QN_NO_VALUE, .out_axis = -1, .in_axis = -1, .bias = QN_NO_VALUE};
    for (unsigned k = 0; l.of[7][k] && p.n_axes < QN_PRODUCT_AXES; k++)
        p.axes[p.n_axes++] = number(s, y, (int)k);
    for (unsigned i = 0; i < l.n_in; i++)
        for (unsigned k = 0; l.of[i][k]; k++) {
            bool before = strchr(l.of[7], l.of[i][k]) != NULL;
            for (unsigned j = 0; j < i && !before; j++)
                before = strchr(l.of[j], l.of[i][k]) != NULL;
            if (before)
                continue;
            macs *= (double)qn_axis_at(s, n->in[i], (int)k).n;
            if (p.n_axes < QN_PRODUCT_AXES)
                p.axes[p.n_axes++] = number(s, n->in[i], (int)k);
        }
    p.macs = macs;
    int dummy = -1;
    if (l.n_in == 2 && qn_weight_behind(s, n->in[1], &dummy) != QN_NO_VALUE) {
        p.operand = n->in[1];
        for (unsigned k = 0; l.of[1][k]; k++) {
            const bool kept = strchr(l.of[7], l.of[1][k]) != NULL, shared = strchr(l.of[0], l.of[1][k]) != NULL;
            if (kept && !shared)
                p.out_axis = (int)k;
            else if (!kept && shared)
                p.in_axis = (int)k;
        }
    }
    qn_note_product(s, &p);
}
