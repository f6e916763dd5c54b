/* products.c: the loops that multiply, noted while the rules run: what cutting saves, which weights can be refitted. */
#include "analysis/groups/impl.h"
#include "base/err.h"
#include <string.h>

double qn_elems(const qn_grouping *s, uint32_t value)
{
    double n = 1;
    if (value == QN_NO_VALUE || s->t.rank[value] == QN_RANK_UNKNOWN)
        return 0;
    for (unsigned k = 0; k < s->t.rank[value]; k++)
        n *= (double)s->t.dims[qn_axis_number(value, k)];
    return n;
}

static bool is_float(const qn_grouping *s, uint32_t v)
{
    return s->g->values[v].dtype == QN_F32 || s->g->values[v].dtype == QN_F64;
}

bool qn_is_weight(const qn_grouping *s, uint32_t v)
{
    return s->g->values[v].kind == QN_VALUE_WEIGHT && is_float(s, v);
}

/* Elements of one index of an axis, and of all axes further in. */
static double behind(const qn_grouping *s, uint32_t v, int axis)
{
    double n = 1;
    for (int k = axis + 1; k < s->t.rank[v]; k++)
        n *= (double)s->t.dims[qn_axis_number(v, (unsigned)k)];
    return n;
}

/* The axis of `in` that `axis` of its reshaped form `out` is; -1: none is. */
static int same_axis(const qn_grouping *s, uint32_t out, int axis, uint32_t in)
{
    const int64_t want = s->t.dims[qn_axis_number(out, (unsigned)axis)];
    for (int k = 0; k < s->t.rank[in]; k++)
        if (s->t.dims[qn_axis_number(in, (unsigned)k)] == want && behind(s, in, k) <= behind(s, out, axis) && behind(s, in, k) >= behind(s, out, axis))
            return k;
    return -1;
}

uint32_t qn_weight_behind(const qn_grouping *s, uint32_t v, int *axis)
{
    for (unsigned steps = 0; steps < 16 && v != QN_NO_VALUE && s->t.rank[v] != QN_RANK_UNKNOWN; steps++) {
        const qn_value *x = &s->g->values[v];
        if (x->kind == QN_VALUE_WEIGHT)
            return is_float(s, v) ? v : QN_NO_VALUE;
        if (x->kind != QN_VALUE_NODE)
            return QN_NO_VALUE;
        const qn_node *n = &s->g->nodes[x->node];
        const uint32_t in = qn_in(s, n, 0);
        if (in == QN_NO_VALUE || !n->op)
            return QN_NO_VALUE;
        if (n->op->axis == QN_AXIS_TRANSPOSE) {
            unsigned count;
            const int64_t *perm = qn_node_ints(n, "perm", &count);
            if (*axis >= 0)
                *axis = perm && *axis < (int)count ? (int)perm[*axis] : s->t.rank[in] - 1 - *axis;
        } else if (n->op->axis == QN_AXIS_RESHAPE) {
            if (*axis >= 0) /* an axis that others were merged into is none of the weight's */
                *axis = same_axis(s, v, *axis, in);
        } else if (strcmp(n->type, "Identity") != 0 && strcmp(n->type, "Cast") != 0 && strcmp(n->type, "DequantizeLinear") != 0) {
            return QN_NO_VALUE;
        }
        v = in;
    }
    return QN_NO_VALUE;
}

uint32_t qn_bias_behind(const qn_grouping *s, uint32_t value, uint32_t channels, unsigned from_end)
{
    if (value == QN_NO_VALUE || s->n_readers[value] != 1 || s->g->last_use[value] == s->g->n_nodes)
        return QN_NO_VALUE;
    const qn_node *n = &s->g->nodes[s->only_reader[value]];
    if (strcmp(n->type, "Add") != 0 || n->n_in != 2)
        return QN_NO_VALUE;
    const uint32_t b = n->in[n->in[0] == value];
    if (b == QN_NO_VALUE || s->g->values[b].kind != QN_VALUE_WEIGHT || !is_float(s, b) || qn_elems(s, b) != (double)channels)
        return QN_NO_VALUE;
    return qn_axis_at(s, b, -(int)from_end).n == channels ? b : QN_NO_VALUE;
}

void qn_note_product(qn_grouping *s, const qn_product_spec *p)
{
    if (s->zero_pass || s->rc != QN_OK)
        return;
    if (s->n_products == s->cap_products) {
        qn_product *grown = qn_mem_grow(s->env->alloc, s->products, s->n_products, &s->cap_products, s->n_products + 1, sizeof *grown, s->err);
        if (!grown) {
            s->rc = QN_E_MEMORY;
            return;
        }
        s->products = grown;
    }
    qn_product *d = &s->products[s->n_products++];
    *d = (qn_product){.node = s->node, .macs = p->macs, .n_axes = 0, .weight = QN_NO_VALUE, .bias = QN_NO_VALUE, .out_axis = UINT8_MAX,
                      .in_axis = UINT8_MAX, .per_index = p->per_index ? p->per_index : 1};
    for (unsigned i = 0; i < p->n_axes; i++)
        if (p->axes[i] != UINT32_MAX)
            d->axis[d->n_axes++] = p->axes[i];
    if (p->operand == QN_NO_VALUE)
        return;
    int out = p->out_axis, in = p->in_axis;
    const uint32_t w = qn_weight_behind(s, p->operand, &out);
    if (qn_weight_behind(s, p->operand, &in) != w)
        in = -1;
    if (w == QN_NO_VALUE)
        return;
    d->weight = w;
    d->layer = true;
    d->tapped = p->tapped && w == p->operand;
    if (out >= 0) {
        d->out_axis = (uint8_t)out;
        s->role[qn_axis_number(w, (unsigned)out)] |= 1u << QN_MEMBER_PRODUCER;
    }
    if (in >= 0) {
        d->in_axis = (uint8_t)in;
        s->role[qn_axis_number(w, (unsigned)in)] |= 1u << QN_MEMBER_CONSUMER;
    }
    if (p->bias != QN_NO_VALUE && s->g->values[p->bias].kind == QN_VALUE_WEIGHT && is_float(s, p->bias))
        d->bias = p->bias;
}
