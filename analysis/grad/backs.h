/* backs.h: derivatives that backward_tab.c puts together; signature: qn_backward_fn in analysis/grad/grad.h. */
#ifndef QN_ANALYSIS_GRAD_BACKS_H
#define QN_ANALYSIS_GRAD_BACKS_H

#include "analysis/grad/grad_help.h"

/* grad_onnx_batch_norm.c */
QN_BACKWARD(batch_norm)
/* grad_onnx_binary.c */
QN_BACKWARD(div) QN_BACKWARD(extreme) QN_BACKWARD(mean) QN_BACKWARD(mul) QN_BACKWARD(pow) QN_BACKWARD(sub) QN_BACKWARD(sum) QN_BACKWARD(where)
/* grad_onnx_conv.c */
QN_BACKWARD(conv) QN_BACKWARD(conv_transpose)
/* grad_onnx_matmul.c */
QN_BACKWARD(gemm) QN_BACKWARD(matmul)
/* grad_onnx_move.c */
QN_BACKWARD(concat) QN_BACKWARD(expand) QN_BACKWARD(gather) QN_BACKWARD(move) QN_BACKWARD(split) QN_BACKWARD(transpose) QN_BACKWARD(view)
/* grad_onnx_norm.c */
QN_BACKWARD(group_norm) QN_BACKWARD(instance_norm) QN_BACKWARD(layer_norm) QN_BACKWARD(rms_norm)
/* grad_onnx_pool.c */
QN_BACKWARD(average_pool) QN_BACKWARD(global_average_pool) QN_BACKWARD(global_max_pool) QN_BACKWARD(max_pool)
/* grad_onnx_reduce.c */
QN_BACKWARD(reduce_extreme) QN_BACKWARD(reduce_l1) QN_BACKWARD(reduce_l2) QN_BACKWARD(reduce_log_sum) QN_BACKWARD(reduce_log_sum_exp)
QN_BACKWARD(reduce_mean) QN_BACKWARD(reduce_sum) QN_BACKWARD(reduce_sum_square)
/* grad_onnx_resize.c */
QN_BACKWARD(resize)
/* grad_onnx_softmax.c */
QN_BACKWARD(log_softmax) QN_BACKWARD(softmax)
/* grad_onnx_unary.c */
QN_BACKWARD(abs) QN_BACKWARD(bias_gelu) QN_BACKWARD(celu) QN_BACKWARD(clip) QN_BACKWARD(cos) QN_BACKWARD(elu) QN_BACKWARD(erf) QN_BACKWARD(exp)
QN_BACKWARD(fast_gelu) QN_BACKWARD(gelu) QN_BACKWARD(hard_sigmoid) QN_BACKWARD(hard_swish) QN_BACKWARD(leaky_relu) QN_BACKWARD(log)
QN_BACKWARD(mish) QN_BACKWARD(neg) QN_BACKWARD(prelu) QN_BACKWARD(quick_gelu) QN_BACKWARD(reciprocal) QN_BACKWARD(relu) QN_BACKWARD(same)
QN_BACKWARD(selu) QN_BACKWARD(sigmoid) QN_BACKWARD(sin) QN_BACKWARD(softplus) QN_BACKWARD(softsign) QN_BACKWARD(sqrt) QN_BACKWARD(tanh)
QN_BACKWARD(thresholded_relu)
/* grad_lm_*.c: of language models (exec/ops_lm.h) */
QN_BACKWARD(lm_act) QN_BACKWARD(lm_add) QN_BACKWARD(lm_attention) QN_BACKWARD(lm_embed) QN_BACKWARD(lm_experts) QN_BACKWARD(lm_gated)
QN_BACKWARD(lm_group_norm) QN_BACKWARD(lm_layer_norm) QN_BACKWARD(lm_linear) QN_BACKWARD(lm_mul) QN_BACKWARD(lm_rms_norm) QN_BACKWARD(lm_rope)
QN_BACKWARD(lm_scale) QN_BACKWARD(lm_softcap) QN_BACKWARD(lm_split)

#endif
