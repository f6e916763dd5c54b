/* op_lm_tab.c: our own operators, of language models. Numbers: inputs least and most, outputs least and most. Operands and attributes:
 * exec/ops_lm.h. */
#include "analysis/exec/ops_lm.h"

const qn_op qn_ops_lm[] = {
    {"quern", "Linear", "y = x Wᵀ + b: x (…, in), W (out, in) or, with layout \"in_out\", (in, out), b (out)", 2, 3, 1, 1,
     QN_AXIS_LINEAR, true, qn_linear_shape, qn_linear_forward},
    {"quern", "Embed", "y[i] = scale · W[ids[i]]: ids i64 (…), W (vocabulary, width)", 2, 2, 1, 1, QN_AXIS_EMBED, true, qn_embed_shape,
     qn_embed_forward},
    {"quern", "RMSNorm", "y = x / √(mean x² + eps) · (offset + w), over groups of w's length (Zhang and Sennrich 2019)", 1, 2, 1, 1,
     QN_AXIS_NORM, false, qn_rms_norm_shape, qn_rms_norm_forward},
    {"quern", "LayerNorm", "y = (x − mean) / √(variance + eps) · w + b (Ba, Kiros and Hinton 2016)", 1, 3, 1, 1, QN_AXIS_NORM, false,
     qn_layer_norm_shape, qn_layer_norm_forward},
    {"quern", "Rope", "pairs of channels turned by position · frequency (Su et al. 2021)", 3, 4, 1, 1, QN_AXIS_ATTENTION, false,
     qn_rope_shape, qn_rope_forward},
    {"quern", "Attention", "softmax(scale · q kᵀ) v per sequence and head (Vaswani et al. 2017), key heads shared (Ainslie et al. 2023)", 4,
     5, 1, 1, QN_AXIS_ATTENTION, false, qn_attention_shape, qn_attention_forward},
    {"quern", "Act", "y = f(x), element by element", 1, 1, 1, 1, QN_AXIS_ELEMENTWISE, false, qn_act_shape, qn_act_forward},
    {"quern", "Gated", "y = f(gate) · up: SwiGLU, GeGLU (Shazeer 2020)", 2, 2, 1, 1, QN_AXIS_ELEMENTWISE, false, qn_gated_shape,
     qn_gated_forward},
    {"quern", "Add", "x + y; y of x's shape, one row, or one column", 2, 2, 1, 1, QN_AXIS_ELEMENTWISE, false, qn_add_shape, qn_add_forward},
    {"quern", "Mul", "x · y; y of x's shape, one row, or one column", 2, 2, 1, 1, QN_AXIS_ELEMENTWISE, false, qn_mul_shape, qn_mul_forward},
    {"quern", "Scale", "by · x", 1, 1, 1, 1, QN_AXIS_ELEMENTWISE, false, qn_scale_shape, qn_scale_forward},
    {"quern", "Softcap", "cap · tanh(x / cap) (Gemma 2 report 2024)", 1, 1, 1, 1, QN_AXIS_ELEMENTWISE, false, qn_softcap_shape,
     qn_softcap_forward},
    {"quern", "Split", "the parts of a fused projection's last axis", 1, 1, 1, 255, QN_AXIS_SPLIT, false, qn_split_shape, qn_split_forward},
    {"quern", "Experts", "Σ p_e · down_e(f(gate_e x) · up_e x) over the top_k experts of the router's softmax (Jiang et al. 2024)", 4, 255, 1,
     1, QN_AXIS_EXPERTS, true, qn_experts_shape, qn_experts_forward},
    {.name = NULL},
};
