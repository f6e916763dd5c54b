/* fold.c: what can be computed before the model runs: chiefly the shapes that exported models work out with operators. */
#include "analysis/exec/exec_impl.h"
#include "base/err.h"
#include <string.h>

enum { INPUTS_MAX = 64, ELEMS_MAX = 1024, FOLD_BYTES = 1 << 20 };

/* Operators that move elements of their first operand (Concat: of all) and do not look at them. */
static bool moves(const qn_node *n)
{
    static const char *const names[] = {"Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
                                        "Unsqueeze"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(n->type, names[i]))
            return true;
    return !strcmp(n->type, "Cast") && qn_node_int(n, "to", 0) == 7; /* to INT64 */
}

/* Operators that look at the shape only: an array without data will do. */
static bool only_shape(const qn_node *n, const qn_info *in, qn_array *a)
{
    const bool shape = !strcmp(n->type, "Shape"), size = !strcmp(n->type, "Size");
    if ((!shape && !size) || n->n_in != 1 || in->rank == QN_RANK_UNKNOWN)
        return false;
    *a = (qn_array){.dtype = QN_F32, .rank = in->rank, .n = 1};
    for (unsigned k = 0; k < in->rank; k++) {
        if (size && in->dims[k] == QN_DIM_UNKNOWN)
            return false;
        a->dims[k] = in->dims[k] == QN_DIM_UNKNOWN ? QN_INT_UNKNOWN : in->dims[k];
        if (size && __builtin_mul_overflow(a->n, (uint64_t)in->dims[k], &a->n))
            return false;
    }
    return true;
}

static bool collect(const qn_node *n, const qn_info *in, qn_array *arrays)
{
    if (only_shape(n, in, arrays))
        return true;
    const bool move = moves(n), all = !strcmp(n->type, "Concat");
    for (unsigned i = 0; i < n->n_in; i++) {
        memset(&arrays[i], 0, sizeof arrays[i]);
        if (n->in[i] == QN_NO_VALUE)
            continue;
        const qn_array *a = move && (i == 0 || all) ? in[i].partly : in[i].value;
        if (!a || a->n > ELEMS_MAX)
            return false;
        arrays[i] = *a;
        arrays[i].buffer = NULL; /* borrowed: nobody may write it */
    }
    return n->n_in > 0;
}

qn_code qn_fold_node(const qn_env *env, const qn_graph *g, const qn_node *n, const qn_info *in, qn_fold_take take, void *ctx, qn_err *err)
{
    if (*n->domain || !n->op || !n->op->forward || n->op->by_rows || n->n_in > INPUTS_MAX || n->n_out > INPUTS_MAX)
        return QN_OK;
    for (unsigned k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH)
            return QN_OK;
    qn_array arrays[2 * INPUTS_MAX], *out = arrays + n->n_in;
    if (!collect(n, in, arrays))
        return QN_OK;
    memset(out, 0, n->n_out * sizeof *out);
    qn_exec x = {.env = env, .graph = g};
    x.pool.alloc = env->alloc;
    x.pool.limit_bytes = FOLD_BYTES;
    qn_err ignored = {0};
    /* Whatever fails is left to the executor: it will say it, should it come to that. */
    const bool ran = n->op->forward(&x, n, arrays, out, &ignored) == QN_OK;
    qn_code rc = QN_OK;
    for (unsigned i = 0; i < n->n_out; i++) {
        if (ran && rc == QN_OK && n->out[i] != QN_NO_VALUE && out[i].dtype != QN_BYTES && out[i].n <= ELEMS_MAX)
            rc = take(ctx, i, &out[i], err);
        qn_array_release(&out[i]);
    }
    return rc;
}

struct learner {
    qn_graph *g;
    const qn_node *n;
};

static qn_code learn(void *ctx, unsigned output, const qn_array *content, qn_err *err)
{
    const struct learner *l = ctx;
    return qn_graph_know(l->g, l->n->out[output], content, err);
}

qn_code qn_graph_fold(qn_graph *g, uint32_t node, const qn_info *in, qn_err *err)
{
    struct learner l = {g, &g->nodes[node]};
    return qn_fold_node(g->env, g, l.n, in, learn, &l, err);
}
