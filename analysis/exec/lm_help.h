/* lm_help.h: what the operators of language models share: checks of operands, rows cut into parts. */
#ifndef QN_ANALYSIS_EXEC_LM_HELP_H
#define QN_ANALYSIS_EXEC_LM_HELP_H

#include "analysis/exec/ops_lm.h"

/* out like in: shape rule of what works element by element. */
void qn_lm_like(const qn_info *in, qn_info *out);
/* a must be f32, of any rank from 1. */
qn_code qn_lm_floats(const qn_array *a, const char *what, qn_err *err) QN_MUST_CHECK;
/* a must be f32 (rows, cols). */
qn_code qn_lm_matrix(const qn_array *a, const char *what, uint64_t cols, qn_err *err) QN_MUST_CHECK;
/* starts must be i64, rise from 0 to n_tokens. */
qn_code qn_lm_starts(const qn_array *starts, uint64_t n_tokens, qn_err *err) QN_MUST_CHECK;
/* The sequence that row i belongs to: starts[s] ≤ i < starts[s + 1]. */
uint64_t qn_lm_sequence(const qn_array *starts, uint64_t i);
/* A size that must be in [1, 2^24]: QN_E_INPUT names the attribute. */
qn_code qn_lm_size(const qn_node *n, const char *name, uint64_t otherwise, uint64_t *v, qn_err *err) QN_MUST_CHECK;

/* Calls fn over rows, in runs that are worth starting. work: elementary operations for one row. */
qn_code qn_lm_each_row(qn_exec *x, uint64_t n_rows, uint64_t work, void (*fn)(const void *ctx, uint64_t first, uint64_t n), const void *ctx,
                       qn_err *err) QN_MUST_CHECK;

#endif
