/* reach.c: which weights of a graph training can and should move. */
#include "analysis/grad/grad.h"
#include "compress/train/train.h"
#include <string.h>

/* Operators whose weights are learned, and which of their inputs may be one (bit i: input i; all beyond 31 count as 31). */
static const struct learned {
    const char *domain, *name;
    uint32_t inputs;
} learned[] = {
    {"", "Conv", 6},         {"", "ConvTranspose", 6},
    {"", "Gemm", 7},         {"", "MatMul", 3},
    {"", "Add", 3},          {"", "Sub", 3},
    {"", "Mul", 3},          {"", "PRelu", 2},
    {"", "Einsum", 3},       {"", "BatchNormalization", 6}, /* scale and bias; mean and variance are statistics */
    {"", "LayerNormalization", 6}, {"", "RMSNormalization", 2},
    {"", "InstanceNormalization", 6}, {"", "GroupNormalization", 6},
    {"", "Gather", 1},
    {"quern", "Linear", 6},  {"quern", "Embed", 2},
    {"quern", "RMSNorm", 2}, {"quern", "LayerNorm", 6},
    {"quern", "GroupNorm", 6}, {"quern", "Add", 2},
    {"quern", "Mul", 2},     {"quern", "Experts", ~3u},
};

static uint32_t learned_inputs(const qn_node *n)
{
    for (size_t i = 0; i < sizeof learned / sizeof learned[0]; i++)
        if (!strcmp(learned[i].name, n->type) && !strcmp(learned[i].domain, strcmp(n->domain, "ai.onnx") ? n->domain : ""))
            return learned[i].inputs;
    return 0;
}

static bool is_float(const qn_value *v)
{
    return v->dtype == QN_F32 || v->dtype == QN_BYTES;
}

/* reached: does a derivative come to the value from an output? learn: is it a weight that is to be moved? */
static void walk(const qn_graph *g, bool *reached, bool *learn)
{
    for (uint32_t i = 0; i < g->n_outputs; i++)
        reached[g->outputs[i]] = is_float(&g->values[g->outputs[i]]);
    for (uint32_t i = g->n_nodes; i-- > 0;) {
        const qn_node *n = &g->nodes[i];
        bool hit = false;
        for (unsigned k = 0; k < n->n_out; k++)
            hit = hit || (n->out[k] != QN_NO_VALUE && reached[n->out[k]]);
        if (!hit || !n->op || !qn_backward_find(n->domain, n->type))
            continue;
        const uint32_t inputs = learned_inputs(n);
        for (unsigned k = 0; k < n->n_in; k++) {
            if (n->in[k] == QN_NO_VALUE || !is_float(&g->values[n->in[k]]))
                continue;
            reached[n->in[k]] = true;
            const qn_value *v = &g->values[n->in[k]];
            /* one number for all (a factor, a limit) is part of what the model is, not of what it has learned */
            if (inputs >> (k < 31 ? k : 31) & 1 && v->kind == QN_VALUE_WEIGHT && v->dtype == QN_F32 && qn_value_elems(v) > 1)
                learn[n->in[k]] = true;
        }
    }
}

qn_code qn_train_reach(const qn_env *env, const qn_graph *g, uint32_t *values, uint32_t *n, qn_err *err)
{
    *n = 0;
    bool *marks = qn_mem_zeros(env->alloc, 2 * (uint64_t)g->n_values + 1, sizeof *marks, err);
    if (!marks)
        return QN_E_MEMORY;
    walk(g, marks, marks + g->n_values);
    for (uint32_t v = 0; v < g->n_values; v++)
        if (marks[g->n_values + v])
            values[(*n)++] = v;
    qn_mem_put(env->alloc, marks);
    return QN_OK;
}
