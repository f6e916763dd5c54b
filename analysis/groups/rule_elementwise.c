/* rule_elementwise.c: operators that look at one place of each operand: broadcast axes, aligned at the end, are one axis; an operand of size 1
 * there takes no part. Which of them keep a 0: zero_tab.c. */
#include "analysis/groups/impl.h"
#include "analysis/groups/zero.h"
#include <string.h>

static qn_zero_kind table_kind(const char *op)
{
    unsigned i = 0;
    while (qn_zero_rows[i].op && strcmp(qn_zero_rows[i].op, op) != 0)
        i++;
    return qn_zero_rows[i].kind;
}

/* One number that an input holds, or an attribute; `otherwise` when neither is there; not known: NAN's comparison is false either way. */
static double number(const qn_grouping *s, const qn_node *n, const char *attr, unsigned input, double otherwise)
{
    const qn_attr *a = qn_node_attr(n, attr);
    if (a && a->type == QN_ATTR_FLOAT)
        return a->v.f;
    if (input >= n->n_in || n->in[input] == QN_NO_VALUE)
        return otherwise;
    const qn_array *c = &s->t.content[n->in[input]];
    if (c->dtype == QN_F32 && c->n == 1)
        return (double)*(const float *)c->data;
    if (c->dtype == QN_F64 && c->n == 1)
        return *(const double *)c->data;
    if (c->dtype == QN_I64 && c->n == 1)
        return (double)*(const int64_t *)c->data;
    return -1e300;
}

static qn_zero_kind kind_of(const qn_grouping *s, const qn_node *n)
{
    const qn_zero_kind k = table_kind(n->type);
    if (!strcmp(n->type, "Clip")) {
        const double low = number(s, n, "min", 1, -1), high = number(s, n, "max", 2, 1);
        return low > -1e300 && low <= 0 && high >= 0 ? k : QN_LOSES;
    }
    if (!strcmp(n->type, "Pow"))
        return number(s, n, "", 1, -1) > 0 ? k : QN_LOSES;
    if (!strcmp(n->type, "Act") && !strcmp(qn_node_string(n, "kind", ""), "sigmoid"))
        return QN_LOSES;
    return k;
}

/* Does operand i decide about the 0 of the result? */
static bool counts(const qn_node *n, qn_zero_kind k, unsigned i)
{
    switch (k) {
    case QN_KEEPS: return true;
    case QN_MULTIPLIES: return i || strcmp(n->type, "Gated") != 0 || strcmp(qn_node_string(n, "kind", ""), "sigmoid") != 0;
    case QN_FIRST:
    case QN_DIVIDES: return i == 0;
    case QN_BRANCHES: return i > 0;
    case QN_LOSES:
    case QN_POLE: return false;
    }
    return false;
}

static void one_operand(qn_grouping *s, const qn_node *n, unsigned i, qn_zero_kind k, uint32_t y)
{
    const uint32_t x = n->in[i];
    const int rank = s->t.rank[y], own = s->t.rank[x];
    for (int a = 0; a < rank; a++) {
        const qn_axis out = qn_axis_at(s, y, a), in = a >= rank - own ? qn_axis_at(s, x, a - (rank - own)) : (qn_axis){0, 0};
        if (out.n <= 1)
            continue;
        if (in.n <= 1) { /* repeated along it */
            if (counts(n, k, i) && k != QN_MULTIPLIES)
                qn_fill(s, out);
        } else if (!counts(n, k, i)) {
            qn_tie_axes(s, in, out);
        } else if (k == QN_MULTIPLIES) {
            qn_factor_axes(s, in, out);
        } else {
            qn_flow_axes(s, in, out);
        }
        if (k == QN_POLE || (k == QN_DIVIDES && i == 1))
            qn_refuse_zero(s, in, "would divide by 0");
    }
}

void qn_rule_elementwise(qn_grouping *s, const qn_node *n)
{
    const uint32_t y = qn_out(s, n, 0);
    const qn_zero_kind k = kind_of(s, n);
    for (unsigned i = 0; i < n->n_in; i++) {
        if (n->in[i] == QN_NO_VALUE || (!strcmp(n->domain, "quern") && s->t.dtype[n->in[i]] != QN_F32))
            continue; /* starts of sequences */
        if (qn_in(s, n, i) != QN_NO_VALUE && s->t.rank[n->in[i]] <= s->t.rank[y])
            one_operand(s, n, i, k, y);
    }
    if (!strcmp(n->type, "Gated"))
        qn_mark(s, qn_axis_at(s, y, -1), QN_MARK_GATED);
    for (unsigned i = 1; i < n->n_out; i++) { /* Dropout's mask */
        const uint32_t z = qn_out(s, n, i);
        for (int a = 0; z != QN_NO_VALUE && a < s->t.rank[z]; a++)
            qn_tie_axes(s, qn_axis_at(s, z, a), qn_axis_at(s, y, a));
    }
}

/* QuantizeLinear, DequantizeLinear: a scale and a zero point for all, or along `axis`. In blocks: not known. A quantized 0 stands for 0. */
void qn_rule_quantize(qn_grouping *s, const qn_node *n)
{
    const uint32_t x = qn_in(s, n, 0), y = qn_out(s, n, 0);
    if (qn_node_int(n, "block_size", 0)) {
        qn_freeze_node(s, n, qn_reason(s, "scales in blocks of node '%s' (%s)", n->name, n->type));
        return;
    }
    for (int a = 0; a < s->t.rank[y]; a++)
        qn_flow_axes(s, qn_axis_at(s, x, a), qn_axis_at(s, y, a));
    const qn_axis along = qn_axis_at(s, x, (int)qn_node_int(n, "axis", 1));
    for (unsigned i = 1; i < n->n_in; i++) {
        const qn_axis p = qn_axis_at(s, qn_in(s, n, i), 0);
        if (p.n > 1)
            qn_tie_axes(s, p, along);
    }
}
