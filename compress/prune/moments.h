/* moments.h: sums over pairs of rows from which the best weights follow: X̃X̃ᵀ and X̃Yᵀ with X̃ = [X; 1], so that means and a bias are in them.
 *     x: what a product sees in the pruned model (rows, d)      y: what it gave in the dense one (rows, m) */
#ifndef QN_COMPRESS_PRUNE_MOMENTS_H
#define QN_COMPRESS_PRUNE_MOMENTS_H

#include "base/alloc.h"
#include "base/team.h"

typedef struct qn_moments {
    const qn_alloc *alloc;
    uint32_t d, m;
    uint64_t n;     /* rows                                                                     */
    double *g;      /* (d + 1) × (d + 1), row-major, lower triangle; the last row has the sums, and n */
    double *c;      /* (d + 1) × m; the last row has the sums of y                               */
    double yy;      /* Σ y²                                                                      */
} qn_moments;

/* m 0: no targets. */
qn_code qn_moments_new(qn_moments *s, const qn_alloc *alloc, uint32_t d, uint32_t m, qn_err *err) QN_MUST_CHECK;
void qn_moments_release(qn_moments *s); /* a zeroed one is fine */
/* Summed in f64, in tiles that do not depend on the number of threads. y: NULL when m is 0. */
qn_code qn_moments_add(qn_moments *s, qn_team *team, const float *x, const float *y, uint64_t rows, qn_err *err) QN_MUST_CHECK;
bool qn_moments_finite(const qn_moments *s);
uint64_t qn_moments_bytes(uint32_t d, uint32_t m);

/* Σ x_i x_j of the sum of two (b may be NULL); with centred, about the means. */
double qn_moments_second(const qn_moments *a, const qn_moments *b, bool centred, uint32_t i, uint32_t j);
/* ‖y‖², about the means when centred: what errors are relative to. */
double qn_moments_energy(const qn_moments *a, const qn_moments *b, bool centred);

#endif
