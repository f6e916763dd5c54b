/* grad_lm.h: derivatives of the operators of language models (exec/ops_lm.h, GroupNorm of exec/ops_scan.h); rows: backward_tab.c. Signature and contract:
 * qn_backward_fn in grad.h. */
#ifndef QN_ANALYSIS_GRAD_GRAD_LM_H
#define QN_ANALYSIS_GRAD_GRAD_LM_H

#include "analysis/grad/grad.h"

#define QN_OP_BACKWARD(name)                                                                                                               \
    qn_code name(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,           \
                 qn_array *d_in, qn_err *err) QN_MUST_CHECK

QN_OP_BACKWARD(qn_linear_back);
QN_OP_BACKWARD(qn_embed_back);
QN_OP_BACKWARD(qn_rms_norm_back);
QN_OP_BACKWARD(qn_layer_norm_back);
QN_OP_BACKWARD(qn_group_norm_back);
QN_OP_BACKWARD(qn_rope_back);
QN_OP_BACKWARD(qn_attention_back);
QN_OP_BACKWARD(qn_act_back);
QN_OP_BACKWARD(qn_gated_back);
QN_OP_BACKWARD(qn_add_back);
QN_OP_BACKWARD(qn_mul_back);
QN_OP_BACKWARD(qn_scale_back);
QN_OP_BACKWARD(qn_softcap_back);
QN_OP_BACKWARD(qn_split_back);
QN_OP_BACKWARD(qn_experts_back);

/* --- what they share (grad_lm_help.c) ------------------------------------------------------------------------------ */

/* Room for the derivative of an operand. */
qn_code qn_lm_back_new(qn_exec *x, const qn_array *like, qn_array *d, qn_err *err) QN_MUST_CHECK;
/* C (m, n) = beta · C + Aᵀ B: A (k, m), B (k, n), row-major; beta 0 or 1. Tiles in parallel, the same for every thread count. */
qn_code qn_gemm_at(qn_exec *x, uint64_t m, uint64_t n, uint64_t k, const float *a, uint64_t lda, const float *b, uint64_t ldb, float beta, float *c,
                   uint64_t ldc, qn_err *err) QN_MUST_CHECK;
/* sum[c] = Σ over rows of d[r][c] · u[r][c]; u NULL: of d. f64 sums in the order of the rows. */
qn_code qn_lm_column_sums(qn_exec *x, const float *d, const float *u, uint64_t rows, uint64_t cols, float *sum, qn_err *err) QN_MUST_CHECK;

#endif
