/* ops_lm.h: the operators of language models, domain "quern"; rows: op_lm_tab.c, signatures of the functions: qn_op in op.h.
 *
 * x is f32 (T, n): one row per token of a ragged batch; starts is i64 (S + 1), see graph.h. Attributes with a default may be left out.
 *
 *   RMSNorm    x, [weight (m)]             → y = x / √(mean x² + eps) · (offset + weight), over groups of m along the last axis
 *              eps; offset 0 | 1; without weight: size m
 *   LayerNorm  x, [weight (n)], [bias (n)] → y = (x − mean) / √(var + eps) · weight + bias
 *              eps
 *   Rope       x, starts, freq f64 (rotary / 2), [long_freq] → y: the first `rotary` channels of each head turned by position · freq
 *              head_dim; style "half" (pairs i, i + rotary / 2) | "interleaved" (pairs 2i, 2i + 1); scale 1.0: factor of cos and sin;
 *              original: sequences longer than this use long_freq;
 *              dynamic 0.0 (factor; 0: off), base, original: sequences longer than `original` use a base grown with their length
 *   Attention  q (T, heads · head_dim), k (T, kv_heads · head_dim), v (T, kv_heads · v_head_dim), starts, [slopes (heads)]
 *              → y (T, heads · v_head_dim); heads, kv_heads, head_dim, v_head_dim (= head_dim), scale (= head_dim^-½),
 *              window 0 (a token sees itself and window − 1 before), softcap 0.0, causal 1; slopes: ALiBi, score − slope · distance
 *   Act        x → y; kind: silu gelu gelu_tanh quick_gelu relu relu2 sigmoid tanh
 *   Gated      gate, up → y = act(gate) · up; kind as Act
 *   Add, Mul   x, y (of x's shape, or (n), or (T, 1)) → x + y, x · y
 *   Scale      x → by · x
 *   Softcap    x → cap · tanh(x / cap)
 *   Split      x → outputs along the last axis; sizes: of each; groups 1: the last axis is `groups` times (sizes …), output i is
 *              (T, groups · sizes[i])
 *   Experts    x, logits (T, E), weights … → y (T, n): Σ over the chosen experts e of p_e · down_e(act(gate_e x) · (up_e x))
 *              layout "separate": gate_0 … gate_E−1, up_0 …, down_0 … (each out × in, of any ffn width); "stacked": gate, up, down (E, out, in);
 *              "fused": gate_up (E, 2 · ffn, in), rows of gate first, and down
 *              experts, top_k; norm 1: the chosen probabilities are made to sum to 1, 0: not; kind as Act
 *   Linear     x (…, in), weight (out, in), [bias (out)] → x Wᵀ + b; layout "in_out": weight is (in, out)
 *   Embed      ids i64 (…), weight (vocabulary, width) → rows; scale 1.0 */
#ifndef QN_ANALYSIS_EXEC_OPS_LM_H
#define QN_ANALYSIS_EXEC_OPS_LM_H

#include "analysis/exec/exec.h"

#define QN_OP_SHAPE(name)   qn_code name(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err) QN_MUST_CHECK
#define QN_OP_FORWARD(name) qn_code name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err) QN_MUST_CHECK

QN_OP_SHAPE(qn_linear_shape);
QN_OP_FORWARD(qn_linear_forward);
QN_OP_SHAPE(qn_embed_shape);
QN_OP_FORWARD(qn_embed_forward);
QN_OP_SHAPE(qn_rms_norm_shape);
QN_OP_FORWARD(qn_rms_norm_forward);
QN_OP_SHAPE(qn_layer_norm_shape);
QN_OP_FORWARD(qn_layer_norm_forward);
QN_OP_SHAPE(qn_rope_shape);
QN_OP_FORWARD(qn_rope_forward);
QN_OP_SHAPE(qn_attention_shape);
QN_OP_FORWARD(qn_attention_forward);
QN_OP_SHAPE(qn_act_shape);
QN_OP_FORWARD(qn_act_forward);
QN_OP_SHAPE(qn_gated_shape);
QN_OP_FORWARD(qn_gated_forward);
QN_OP_SHAPE(qn_add_shape);
QN_OP_FORWARD(qn_add_forward);
QN_OP_SHAPE(qn_mul_shape);
QN_OP_FORWARD(qn_mul_forward);
QN_OP_SHAPE(qn_scale_shape);
QN_OP_FORWARD(qn_scale_forward);
QN_OP_SHAPE(qn_softcap_shape);
QN_OP_FORWARD(qn_softcap_forward);
QN_OP_SHAPE(qn_split_shape);
QN_OP_FORWARD(qn_split_forward);
QN_OP_SHAPE(qn_experts_shape);
QN_OP_FORWARD(qn_experts_forward);

#endif
