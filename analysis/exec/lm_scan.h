/* lm_scan.h: what operators that run along a sequence share, beyond lm_help.h. */
#ifndef QN_ANALYSIS_EXEC_LM_SCAN_H
#define QN_ANALYSIS_EXEC_LM_SCAN_H

#include "analysis/exec/lm_help.h"

/* Refuses an operand whose number of elements is known and not n (n = QN_DIM_UNKNOWN: anything goes). */
qn_code qn_scan_info(const qn_info *in, const char *what, int64_t n, qn_err *err) QN_MUST_CHECK;
/* Last dimension, or QN_DIM_UNKNOWN. */
int64_t qn_scan_last(const qn_info *in);

/* Before a forward pass: `a` is f32 and has n elements. */
qn_code qn_scan_fits(const qn_array *a, const char *what, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* x is f32 (T, n): fills *T and *n. */
qn_code qn_scan_rows(const qn_array *x, const char *what, uint64_t *n_tokens, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* starts is i64 (S + 1), 0 = starts[0] ≤ … ≤ starts[S] = n_tokens; fills *n_seqs = S. */
qn_code qn_scan_starts(const qn_array *starts, uint64_t n_tokens, uint64_t *n_seqs, qn_err *err) QN_MUST_CHECK;

#endif
