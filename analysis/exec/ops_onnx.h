/* ops_onnx.h: shape rules and forward passes that op_onnx_tab.c puts together; signatures: qn_op in analysis/graph/op.h. */
#ifndef QN_ANALYSIS_EXEC_OPS_ONNX_H
#define QN_ANALYSIS_EXEC_OPS_ONNX_H

#include "analysis/exec/onnx_kit.h"

#define QN_ONNX_FORWARD(name) \
    qn_code qn_onnx_##name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err) QN_MUST_CHECK;
#define QN_ONNX_SHAPE(name) qn_code qn_onnx_##name(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err) QN_MUST_CHECK;

/* ---- elementwise, shapes, data movement, control ---- */
QN_ONNX_FORWARD(abs) QN_ONNX_FORWARD(acos) QN_ONNX_FORWARD(acosh) QN_ONNX_FORWARD(add) QN_ONNX_FORWARD(and)
QN_ONNX_FORWARD(arg_max) QN_ONNX_FORWARD(arg_min) QN_ONNX_FORWARD(asin) QN_ONNX_FORWARD(asinh) QN_ONNX_FORWARD(atan)
QN_ONNX_FORWARD(atanh) QN_ONNX_FORWARD(bias_gelu) QN_ONNX_FORWARD(bit_and) QN_ONNX_FORWARD(bit_not)
QN_ONNX_FORWARD(bit_or) QN_ONNX_FORWARD(bit_shift) QN_ONNX_FORWARD(bit_xor) QN_ONNX_FORWARD(cast)
QN_ONNX_FORWARD(cast_like) QN_ONNX_FORWARD(ceil) QN_ONNX_FORWARD(celu) QN_ONNX_FORWARD(clip) QN_ONNX_FORWARD(compress)
QN_ONNX_FORWARD(concat) QN_ONNX_FORWARD(constant_of_shape) QN_ONNX_FORWARD(cos) QN_ONNX_FORWARD(cosh)
QN_ONNX_FORWARD(cum_sum) QN_ONNX_FORWARD(depth_to_space) QN_ONNX_FORWARD(div) QN_ONNX_FORWARD(dropout)
QN_ONNX_FORWARD(elu) QN_ONNX_FORWARD(equal) QN_ONNX_FORWARD(erf) QN_ONNX_FORWARD(exp) QN_ONNX_FORWARD(expand)
QN_ONNX_FORWARD(eye_like) QN_ONNX_FORWARD(fast_gelu) QN_ONNX_FORWARD(floor) QN_ONNX_FORWARD(gather)
QN_ONNX_FORWARD(gather_elements) QN_ONNX_FORWARD(gather_nd) QN_ONNX_FORWARD(gelu) QN_ONNX_FORWARD(greater)
QN_ONNX_FORWARD(greater_equal) QN_ONNX_FORWARD(hard_sigmoid) QN_ONNX_FORWARD(hard_swish) QN_ONNX_FORWARD(identity)
QN_ONNX_FORWARD(if) QN_ONNX_FORWARD(is_inf) QN_ONNX_FORWARD(is_nan) QN_ONNX_FORWARD(leaky_relu) QN_ONNX_FORWARD(less)
QN_ONNX_FORWARD(less_equal) QN_ONNX_FORWARD(log) QN_ONNX_FORWARD(loop) QN_ONNX_FORWARD(max) QN_ONNX_FORWARD(mean)
QN_ONNX_FORWARD(min) QN_ONNX_FORWARD(mish) QN_ONNX_FORWARD(mod) QN_ONNX_FORWARD(mul) QN_ONNX_FORWARD(neg)
QN_ONNX_FORWARD(non_max_suppression) QN_ONNX_FORWARD(non_zero) QN_ONNX_FORWARD(not) QN_ONNX_FORWARD(one_hot)
QN_ONNX_FORWARD(or) QN_ONNX_FORWARD(pad) QN_ONNX_FORWARD(pow) QN_ONNX_FORWARD(prelu) QN_ONNX_FORWARD(quick_gelu)
QN_ONNX_FORWARD(random) QN_ONNX_FORWARD(range) QN_ONNX_FORWARD(reciprocal) QN_ONNX_FORWARD(reduce_l1)
QN_ONNX_FORWARD(reduce_l2) QN_ONNX_FORWARD(reduce_log_sum) QN_ONNX_FORWARD(reduce_log_sum_exp)
QN_ONNX_FORWARD(reduce_max) QN_ONNX_FORWARD(reduce_mean) QN_ONNX_FORWARD(reduce_min) QN_ONNX_FORWARD(reduce_prod)
QN_ONNX_FORWARD(reduce_sum) QN_ONNX_FORWARD(reduce_sum_square) QN_ONNX_FORWARD(relu) QN_ONNX_FORWARD(reverse_sequence)
QN_ONNX_FORWARD(round) QN_ONNX_FORWARD(scan) QN_ONNX_FORWARD(scatter_elements) QN_ONNX_FORWARD(scatter_nd)
QN_ONNX_FORWARD(selu) QN_ONNX_FORWARD(shape) QN_ONNX_FORWARD(shrink) QN_ONNX_FORWARD(sigmoid) QN_ONNX_FORWARD(sign)
QN_ONNX_FORWARD(sin) QN_ONNX_FORWARD(sinh) QN_ONNX_FORWARD(size) QN_ONNX_FORWARD(slice) QN_ONNX_FORWARD(softplus)
QN_ONNX_FORWARD(softsign) QN_ONNX_FORWARD(space_to_depth) QN_ONNX_FORWARD(split) QN_ONNX_FORWARD(sqrt)
QN_ONNX_FORWARD(sub) QN_ONNX_FORWARD(sum) QN_ONNX_FORWARD(tan) QN_ONNX_FORWARD(tanh) QN_ONNX_FORWARD(thresholded_relu)
QN_ONNX_FORWARD(tile) QN_ONNX_FORWARD(top_k) QN_ONNX_FORWARD(transpose) QN_ONNX_FORWARD(trilu) QN_ONNX_FORWARD(unique)
QN_ONNX_FORWARD(unpack) QN_ONNX_FORWARD(view) QN_ONNX_FORWARD(where) QN_ONNX_FORWARD(xor)
QN_ONNX_SHAPE(arg_shape) QN_ONNX_SHAPE(binary_shape) QN_ONNX_SHAPE(cast_like_shape) QN_ONNX_SHAPE(cast_shape)
QN_ONNX_SHAPE(compress_shape) QN_ONNX_SHAPE(concat_shape) QN_ONNX_SHAPE(constant_of_shape_shape)
QN_ONNX_SHAPE(depth_to_space_shape) QN_ONNX_SHAPE(dropout_shape) QN_ONNX_SHAPE(expand_shape)
QN_ONNX_SHAPE(eye_like_shape) QN_ONNX_SHAPE(flatten_shape) QN_ONNX_SHAPE(gather_elements_shape)
QN_ONNX_SHAPE(gather_nd_shape) QN_ONNX_SHAPE(gather_shape) QN_ONNX_SHAPE(if_shape)
QN_ONNX_SHAPE(non_max_suppression_shape) QN_ONNX_SHAPE(non_zero_shape) QN_ONNX_SHAPE(one_hot_shape)
QN_ONNX_SHAPE(pad_shape) QN_ONNX_SHAPE(prelu_shape) QN_ONNX_SHAPE(range_shape) QN_ONNX_SHAPE(reduce_shape)
QN_ONNX_SHAPE(reshape_shape) QN_ONNX_SHAPE(same_shape) QN_ONNX_SHAPE(same_truth_shape) QN_ONNX_SHAPE(shape_shape)
QN_ONNX_SHAPE(size_shape) QN_ONNX_SHAPE(slice_shape) QN_ONNX_SHAPE(space_to_depth_shape) QN_ONNX_SHAPE(split_shape)
QN_ONNX_SHAPE(squeeze_shape) QN_ONNX_SHAPE(tile_shape) QN_ONNX_SHAPE(top_k_shape) QN_ONNX_SHAPE(transpose_shape)
QN_ONNX_SHAPE(truth_shape) QN_ONNX_SHAPE(unique_shape) QN_ONNX_SHAPE(unpack_shape) QN_ONNX_SHAPE(unsqueeze_shape)
QN_ONNX_SHAPE(where_shape)
/* ---- end of these ---- */

/* ---- that compute much ---- */
QN_ONNX_FORWARD(average_pool) QN_ONNX_FORWARD(batch_norm) QN_ONNX_FORWARD(blackman) QN_ONNX_FORWARD(conv)
QN_ONNX_FORWARD(conv_integer) QN_ONNX_FORWARD(conv_transpose) QN_ONNX_FORWARD(dequantize) QN_ONNX_FORWARD(dft)
QN_ONNX_FORWARD(dynamic_quantize) QN_ONNX_FORWARD(einsum) QN_ONNX_FORWARD(gemm) QN_ONNX_FORWARD(global_average_pool)
QN_ONNX_FORWARD(global_lp_pool) QN_ONNX_FORWARD(global_max_pool) QN_ONNX_FORWARD(grid_sample) QN_ONNX_FORWARD(group_norm)
QN_ONNX_FORWARD(hamming) QN_ONNX_FORWARD(hann) QN_ONNX_FORWARD(hardmax) QN_ONNX_FORWARD(instance_norm)
QN_ONNX_FORWARD(layer_norm) QN_ONNX_FORWARD(log_softmax) QN_ONNX_FORWARD(lp_norm) QN_ONNX_FORWARD(lp_pool)
QN_ONNX_FORWARD(lrn) QN_ONNX_FORWARD(matmul) QN_ONNX_FORWARD(matmul_integer) QN_ONNX_FORWARD(matmul_nbits)
QN_ONNX_FORWARD(max_pool)
QN_ONNX_FORWARD(max_roi_pool) QN_ONNX_FORWARD(max_unpool) QN_ONNX_FORWARD(mel) QN_ONNX_FORWARD(mvn)
QN_ONNX_FORWARD(qlinear_conv) QN_ONNX_FORWARD(qlinear_matmul) QN_ONNX_FORWARD(quantize)
QN_ONNX_FORWARD(resize) QN_ONNX_FORWARD(rms_norm) QN_ONNX_FORWARD(rnn) QN_ONNX_FORWARD(roi_align) QN_ONNX_FORWARD(softmax)
QN_ONNX_FORWARD(stft)
QN_ONNX_SHAPE(conv_integer_shape) QN_ONNX_SHAPE(conv_shape) QN_ONNX_SHAPE(conv_transpose_shape)
QN_ONNX_SHAPE(dequantize_shape) QN_ONNX_SHAPE(dft_shape) QN_ONNX_SHAPE(dynamic_quantize_shape) QN_ONNX_SHAPE(einsum_shape)
QN_ONNX_SHAPE(gemm_shape) QN_ONNX_SHAPE(global_pool_shape) QN_ONNX_SHAPE(grid_sample_shape) QN_ONNX_SHAPE(layer_norm_shape)
QN_ONNX_SHAPE(matmul_integer_shape) QN_ONNX_SHAPE(matmul_nbits_shape) QN_ONNX_SHAPE(matmul_shape) QN_ONNX_SHAPE(pool_shape) QN_ONNX_SHAPE(qlinear_conv_shape)
QN_ONNX_SHAPE(qlinear_matmul_shape) QN_ONNX_SHAPE(quantize_shape) QN_ONNX_SHAPE(resize_shape) QN_ONNX_SHAPE(rnn_shape)
QN_ONNX_SHAPE(window_shape)
/* ---- end of these ---- */

#endif
