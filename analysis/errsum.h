/* errsum.h: sums from which the error measures between two runs of numbers follow.
 *
 * Sums have a fixed shape whatever the machine: 8 interleaved lanes in a block of QN_ERRSUM_BLOCK values, lanes
 * added pairwise, blocks and then pieces added in order. So a result depends on the data and on how the caller cuts
 * it, not on threads or vector width, and rounding grows with the number of blocks only. */
#ifndef QN_ANALYSIS_ERRSUM_H
#define QN_ANALYSIS_ERRSUM_H

#include "quern/base.h"

enum { QN_ERRSUM_BLOCK = 2048 };

typedef struct qn_errsum {
    uint64_t n;                  /* pairs seen                                              */
    uint64_t n_finite;           /* of them with two finite values: the sums are over these */
    uint64_t n_nan_mismatch;     /* exactly one is NaN                                      */
    uint64_t n_inf_mismatch;     /* no NaN, at least one Inf, not the same Inf              */
    double abs, sq, aa, bb, ab;  /* Σ|a−b|, Σ(a−b)², Σa², Σb², Σab                          */
    double max_abs, max_rel;     /* max |a−b|; max |a−b|/|a| over a ≠ 0                     */
    uint64_t max_abs_at;         /* position of the first pair with that max_abs            */
} qn_errsum;

/* Adds n ≤ QN_ERRSUM_BLOCK pairs; the first has position `at`. a and b are overwritten where not finite. */
void qn_errsum_add(qn_errsum *s, double *a, double *b, uint64_t n, uint64_t at);
/* Adds the sums of a later piece. */
void qn_errsum_merge(qn_errsum *s, const qn_errsum *piece);

/* Measures of b as an approximation of a. Infinite when there is no error to divide by (SQNR), or no signal (relative
 * RMS); with neither, the relative RMS is 0 and the cosine 1. */
double qn_errsum_mean_abs(const qn_errsum *s);
double qn_errsum_rms(const qn_errsum *s);
double qn_errsum_rel_rms(const qn_errsum *s); /* ‖a−b‖ / ‖a‖ */
double qn_errsum_cosine(const qn_errsum *s);
double qn_errsum_sqnr_db(const qn_errsum *s); /* 10 log10(‖a‖² / ‖a−b‖²) */

#endif
