/* sparsity_impl.h: masks of one matrix. */
#ifndef QN_COMPRESS_PRUNE_SPARSITY_IMPL_H
#define QN_COMPRESS_PRUNE_SPARSITY_IMPL_H

#include "base/alloc.h"
#include "compress/prune/sparsity.h"

/* The k smallest of many scores ≥ 0, without sorting: two passes over their bits, in any number of pieces, then a third that tells which. */
typedef struct qn_smallest {
    const qn_alloc *alloc;
    uint64_t *count;   /* 65536 */
    uint64_t k, ties;  /* of those equal to the threshold so many go: the first ones */
    uint32_t high, threshold;
    unsigned pass;
} qn_smallest;
qn_code qn_smallest_open(qn_smallest *s, const qn_alloc *alloc, uint64_t k, qn_err *err) QN_MUST_CHECK;
/* Passes 0 and 1: shows scores. */
void qn_smallest_see(qn_smallest *s, const float *score, uint64_t n);
/* Ends a pass. */
void qn_smallest_next(qn_smallest *s);
/* After two passes, in the same order: zero[i] = 1 where score i goes. */
void qn_smallest_mark(qn_smallest *s, const float *score, uint64_t n, uint8_t *zero);
void qn_smallest_close(qn_smallest *s); /* a zeroed one is fine */
/* All of that for one piece. */
qn_code qn_mark_smallest(const qn_alloc *alloc, const float *score, uint64_t n, uint64_t k, uint8_t *zero, qn_err *err) QN_MUST_CHECK;

/* How the columns of a matrix stand in runs of neighbours. A convolution's columns are (channel, place): neighbours are channels at one place. A run
 * at the end of a row may be short: as if zeros followed. */
typedef struct qn_nm {
    uint32_t n_cols, per;   /* places of a channel; 1: a linear layer */
    uint32_t keep, of;
} qn_nm;
uint32_t qn_nm_runs(const qn_nm *p);
/* Columns of a run; returns how many. cols: room for `of`. */
uint32_t qn_nm_run(const qn_nm *p, uint32_t run, uint32_t *cols);
uint32_t qn_nm_run_of(const qn_nm *p, uint32_t col);
/* Of these columns of a row of scores all but the `keep` largest go; of equals the first stays. */
void qn_nm_mark(const qn_nm *p, const float *score, const uint32_t *cols, uint32_t n, uint8_t *zero);

/* SparseGPT on one matrix. w (rows, cols) becomes Ŵ with zeros where mask says; h: cols × cols, f64, as sums of x xᵀ: it is taken over by the call, whatever comes
 * back (from alloc). pattern NULL: `ratio` of every block of columns. *done false: there was no factor, nothing has changed. feedback in sparsity_feedback.c */
qn_code qn_sparse_feedback(const qn_alloc *alloc, float *w, uint32_t rows, uint32_t cols, double *h, double ratio, const qn_nm *pattern,
                           uint8_t *mask, bool *done, qn_err *err) QN_MUST_CHECK;

#endif
