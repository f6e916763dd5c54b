/* op_lm_tab.c: our own operators, of language models. Numbers: inputs least and most, outputs least and most. */
#include "analysis/exec/ops_lm.h"

const qn_op qn_ops_lm[] = {
    {"quern", "Linear", "y = x Wᵀ + b: x (…, in), W (out, in) or, with layout \"in_out\", (in, out), b (out)", 2, 3, 1, 1,
     QN_AXIS_LINEAR, true, qn_linear_shape, qn_linear_forward},
    {"quern", "Embed", "y[i] = scale · W[ids[i]]: ids i64 (…), W (vocabulary, width)", 2, 2, 1, 1, QN_AXIS_EMBED, true, qn_embed_shape,
     qn_embed_forward},
    {.name = NULL},
};
