/* macs.c: multiplications of a node. */
#include "analysis/groups/macs.h"
#include "analysis/graph/op.h"
#include <string.h>

/* What is known of a node's operands. */
struct see {
    const qn_node *n;
    qn_dims_fn dims;
    const void *ctx;
};

static double product(const int64_t *dims, unsigned first, unsigned last)
{
    double p = 1;
    for (unsigned i = first; i < last; i++)
        p *= (double)(dims[i] > 0 ? dims[i] : 0);
    return p;
}

static bool shape(const struct see *s, uint32_t value, int64_t dims[QN_ARRAY_RANK_MAX], unsigned *rank)
{
    return value != QN_NO_VALUE && s->dims(s->ctx, value, dims, rank);
}

static bool operand(const struct see *s, unsigned i, int64_t dims[QN_ARRAY_RANK_MAX], unsigned *rank)
{
    return i < s->n->n_in && shape(s, s->n->in[i], dims, rank);
}

/* Elements of output 0 × what each is a sum over. */
static double out_times(const struct see *s, double each)
{
    int64_t y[QN_ARRAY_RANK_MAX];
    unsigned rank;
    return shape(s, s->n->out[0], y, &rank) ? product(y, 0, rank) * each : 0;
}

static double conv(const struct see *s)
{
    int64_t w[QN_ARRAY_RANK_MAX];
    unsigned rank;
    return operand(s, 1, w, &rank) && rank >= 2 ? out_times(s, product(w, 1, rank)) : 0;
}

static double conv_transpose(const struct see *s)
{
    int64_t x[QN_ARRAY_RANK_MAX], w[QN_ARRAY_RANK_MAX];
    unsigned rx, rw;
    if (!operand(s, 0, x, &rx) || !operand(s, 1, w, &rw) || rw < 2)
        return 0;
    return product(x, 0, rx) * product(w, 1, rw);
}

/* Sums over the last axis of x, or the one before when x is read transposed. */
static double linear(const struct see *s)
{
    int64_t x[QN_ARRAY_RANK_MAX];
    unsigned rank;
    if (!operand(s, 0, x, &rank) || rank == 0)
        return 0;
    const bool turned = rank == 2 && qn_node_int(s->n, "transA", 0) != 0;
    return out_times(s, (double)x[turned ? 0 : rank - 1]);
}

static double attention(const struct see *s)
{
    int64_t q[QN_ARRAY_RANK_MAX], v[QN_ARRAY_RANK_MAX];
    unsigned rq, rv;
    const double heads = (double)qn_node_int(s->n, "heads", 1), kv_heads = (double)qn_node_int(s->n, "kv_heads", 1);
    if (!operand(s, 0, q, &rq) || !operand(s, 2, v, &rv) || rq != 2 || rv != 2 || kv_heads < 1)
        return 0;
    const double pairs = (double)q[0] * (double)q[0] * (qn_node_int(s->n, "causal", 1) ? 0.5 : 1);
    return pairs * ((double)q[1] + (double)v[1] * heads / kv_heads);
}

/* Every weight of three or two axes once for each token, times the share of experts that a token goes to. */
static double experts(const struct see *s)
{
    int64_t x[QN_ARRAY_RANK_MAX], w[QN_ARRAY_RANK_MAX];
    unsigned rank;
    const double n = (double)qn_node_int(s->n, "experts", 1), k = (double)qn_node_int(s->n, "top_k", 1);
    if (!operand(s, 0, x, &rank) || rank == 0 || n < 1)
        return 0;
    const double tokens = product(x, 0, rank - 1);
    double sum = 0;
    for (unsigned i = 2; i < s->n->n_in; i++)
        if (operand(s, i, w, &rank) && rank >= 2)
            sum += product(w, 0, rank);
    return tokens * sum * k / n;
}

double qn_node_macs(const qn_node *n, qn_dims_fn dims, const void *ctx)
{
    const struct see s = {.n = n, .dims = dims, .ctx = ctx};
    if (!n->op || n->n_out == 0)
        return 0;
    switch ((qn_axis_rule)n->op->axis) {
    case QN_AXIS_CONV: return conv(&s);
    case QN_AXIS_CONV_TRANSPOSE: return conv_transpose(&s);
    case QN_AXIS_LINEAR:
    case QN_AXIS_GEMM:
    case QN_AXIS_MATMUL: return linear(&s);
    case QN_AXIS_EXPERTS: return experts(&s);
    case QN_AXIS_ATTENTION: return !strcmp(n->type, "Attention") && !strcmp(n->domain, "quern") ? attention(&s) : 0;
    default: return 0;
    }
}
