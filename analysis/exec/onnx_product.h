/* onnx_product.h: a matrix product of any dtype that ONNX multiplies. */
#ifndef QN_ANALYSIS_EXEC_ONNX_PRODUCT_H
#define QN_ANALYSIS_EXEC_ONNX_PRODUCT_H

#include "analysis/exec/onnx_help.h"

/* C (m, n) = A (m, k) · B, contiguous; B is (n, k) when b_t, else (k, n). f32 by qn_gemm; f64, i32, i64, u32, u64 directly (integers
 * wrap). Another dtype: QN_E_INPUT. */
qn_code qn_onnx_product_of(qn_exec *x, qn_dtype t, bool b_t, uint64_t m, uint64_t n, uint64_t k, const void *a, const void *b, void *c,
                           qn_err *err) QN_MUST_CHECK;

#endif
