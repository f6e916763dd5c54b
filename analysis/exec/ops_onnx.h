/* ops_onnx.h: shape rules and forward passes that op_onnx_tab.c puts together; signatures: qn_op in analysis/graph/op.h. */
#ifndef QN_ANALYSIS_EXEC_OPS_ONNX_H
#define QN_ANALYSIS_EXEC_OPS_ONNX_H

#include "analysis/exec/exec.h"

#ifndef QN_OP_SHAPE
#define QN_OP_SHAPE(name)   qn_code name(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err) QN_MUST_CHECK
#define QN_OP_FORWARD(name) qn_code name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err) QN_MUST_CHECK
#endif

/* operators that compute much */
QN_OP_SHAPE(qn_onnx_conv_integer_shape);
QN_OP_SHAPE(qn_onnx_conv_shape);
QN_OP_SHAPE(qn_onnx_conv_transpose_shape);
QN_OP_SHAPE(qn_onnx_dequantize_shape);
QN_OP_SHAPE(qn_onnx_dft_shape);
QN_OP_SHAPE(qn_onnx_dynamic_quantize_shape);
QN_OP_SHAPE(qn_onnx_einsum_shape);
QN_OP_SHAPE(qn_onnx_gemm_shape);
QN_OP_SHAPE(qn_onnx_global_pool_shape);
QN_OP_SHAPE(qn_onnx_grid_sample_shape);
QN_OP_SHAPE(qn_onnx_layer_norm_shape);
QN_OP_SHAPE(qn_onnx_matmul_integer_shape);
QN_OP_SHAPE(qn_onnx_matmul_shape);
QN_OP_SHAPE(qn_onnx_pool_shape);
QN_OP_SHAPE(qn_onnx_qlinear_conv_shape);
QN_OP_SHAPE(qn_onnx_qlinear_matmul_shape);
QN_OP_SHAPE(qn_onnx_quantize_shape);
QN_OP_SHAPE(qn_onnx_resize_shape);
QN_OP_SHAPE(qn_onnx_rnn_shape);
QN_OP_SHAPE(qn_onnx_same_shape);
QN_OP_SHAPE(qn_onnx_window_shape);
QN_OP_FORWARD(qn_onnx_average_pool);
QN_OP_FORWARD(qn_onnx_batch_norm);
QN_OP_FORWARD(qn_onnx_blackman);
QN_OP_FORWARD(qn_onnx_conv);
QN_OP_FORWARD(qn_onnx_conv_integer);
QN_OP_FORWARD(qn_onnx_conv_transpose);
QN_OP_FORWARD(qn_onnx_dequantize);
QN_OP_FORWARD(qn_onnx_dft);
QN_OP_FORWARD(qn_onnx_dynamic_quantize);
QN_OP_FORWARD(qn_onnx_einsum);
QN_OP_FORWARD(qn_onnx_gemm);
QN_OP_FORWARD(qn_onnx_global_average_pool);
QN_OP_FORWARD(qn_onnx_global_lp_pool);
QN_OP_FORWARD(qn_onnx_global_max_pool);
QN_OP_FORWARD(qn_onnx_grid_sample);
QN_OP_FORWARD(qn_onnx_group_norm);
QN_OP_FORWARD(qn_onnx_hamming);
QN_OP_FORWARD(qn_onnx_hann);
QN_OP_FORWARD(qn_onnx_hardmax);
QN_OP_FORWARD(qn_onnx_instance_norm);
QN_OP_FORWARD(qn_onnx_layer_norm);
QN_OP_FORWARD(qn_onnx_log_softmax);
QN_OP_FORWARD(qn_onnx_lp_norm);
QN_OP_FORWARD(qn_onnx_lp_pool);
QN_OP_FORWARD(qn_onnx_lrn);
QN_OP_FORWARD(qn_onnx_matmul);
QN_OP_FORWARD(qn_onnx_matmul_integer);
QN_OP_FORWARD(qn_onnx_max_pool);
QN_OP_FORWARD(qn_onnx_max_roi_pool);
QN_OP_FORWARD(qn_onnx_max_unpool);
QN_OP_FORWARD(qn_onnx_mel);
QN_OP_FORWARD(qn_onnx_mvn);
QN_OP_FORWARD(qn_onnx_qlinear_conv);
QN_OP_FORWARD(qn_onnx_qlinear_matmul);
QN_OP_FORWARD(qn_onnx_quantize);
QN_OP_FORWARD(qn_onnx_random);
QN_OP_FORWARD(qn_onnx_resize);
QN_OP_FORWARD(qn_onnx_rms_norm);
QN_OP_FORWARD(qn_onnx_rnn);
QN_OP_FORWARD(qn_onnx_roi_align);
QN_OP_FORWARD(qn_onnx_softmax);
QN_OP_FORWARD(qn_onnx_stft);

#endif
