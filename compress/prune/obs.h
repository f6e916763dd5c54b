/* obs.h: in which order groups of columns go, and what that costs: Optimal Brain Surgeon (Hassibi and Stork 1993) on layer-wise quadratics (Frantar and
 * Alistarh 2022), blocks of columns at a time, summed over all products that read the groups.
 *
 * A reader has H (d, d), positive definite, and W (m, d) at which tr(W H Wᵀ)-like quadratic objectives stand at their minimum. When the columns B go and the
 * others react in the best way, the objective rises by
 *     score_B = tr(W_B [H⁻¹]_BB⁻¹ W_Bᵀ)
 * and then   W ← W − W_B [H⁻¹]_BB⁻¹ [H⁻¹]_B:,   H⁻¹ ← H⁻¹ − [H⁻¹]_:B [H⁻¹]_BB⁻¹ [H⁻¹]_B:.
 * Rows of W only enter through M = WᵀW, so M is what is kept up to date. Both updates are of low rank and are put off: the blocks on the diagonals, which scores
 * need, are always current; the matrices follow once per FLUSH rows of updates, by BLAS 3, and lose the columns that have gone. */
#ifndef QN_COMPRESS_PRUNE_OBS_H
#define QN_COMPRESS_PRUNE_OBS_H

#include "base/alloc.h"
#include "base/env.h"

typedef struct qn_obs_reader {
    uint32_t d, m;
    const double *h;       /* d × d, row-major, both triangles                                       */
    const double *w;       /* m × d                                                                  */
    double weight;         /* of its scores in the sum                                                */
    const uint32_t *start; /* n_groups + 1: group i has columns cols[start[i] … start[i + 1]), of no other group; may have none */
    const uint32_t *cols;
} qn_obs_reader;

typedef struct qn_obs_job {
    const qn_env *env;
    const qn_obs_reader *readers;
    uint32_t n_readers, n_groups;
    const uint8_t *first;  /* per group, 1: goes before all others; NULL: none                        */
    const uint8_t *free;   /* per group, 1: costs nothing (its inputs never change); NULL: none       */
    const uint32_t *forced; /* n_remove groups: the order is given, only costs are asked for; NULL: the cheapest goes */
    uint32_t n_remove;     /* ≤ n_groups                                                              */
    uint32_t every;        /* removals after which H⁻¹ and W are computed anew; 0: 256. For tests      */
} qn_obs_job;

/* order[k]: the (k + 1)-th to go; error[k]: what they cost up to it. n_remove of each. Equal scores: the lowest group. Never depends on threads.
 * QN_E_INPUT: H is not positive definite. */
qn_code qn_obs_run(const qn_obs_job *job, uint32_t *order, double *error, qn_err *err) QN_MUST_CHECK;
/* Bytes that it takes for one reader beside what it is given. */
uint64_t qn_obs_bytes(uint32_t d, uint32_t m);

#endif
