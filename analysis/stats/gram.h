/* gram.h: the arithmetic of statistics: what a batch of rows adds to the second moment H = Σ x xᵀ and to the vectors beside
 * it. Two steps, because a batch with a NaN must change nothing: look at the batch, then add it.
 *
 * H is cut into tiles of QN_GRAM_TILE columns, and a batch into blocks of QN_GRAM_ROWS rows. Within a block a product is
 * summed in f32 by OpenBLAS, blocks are summed in f64. So short a sum leaves a relative error of about 5e−8 against
 * sqrt(H_ii H_jj), near the 6e−8 of the f32 in which H is kept; 256 rows would leave 4e−7. Tiles where f32 would overflow
 * or lose small values are summed in f64 throughout. Which tile a thread does changes nothing: one task, one tile. */
#ifndef QN_ANALYSIS_STATS_GRAM_H
#define QN_ANALYSIS_STATS_GRAM_H

#include "base/env.h"

enum { QN_GRAM_TILE = 128, QN_GRAM_ROWS = 32 };

/* Sums over rows, one number a column. What a pointer leaves out (NULL) is not summed; sum_sq is always there. */
typedef struct qn_gram_vectors {
    double *sum, *sum_abs, *sum_sq; /* Σ x, Σ |x|, Σ x²     */
    float *min, *max;
} qn_gram_vectors;

/* x: f32 (rows, ld), columns [0, n) are looked at. *v receives the sums of this batch alone. *bad = index (row × n + column)
 * of a value that is not finite, the first in row order, or UINT64_MAX. */
qn_code qn_gram_look(const qn_env *env, const float *x, uint64_t rows, uint64_t ld, uint32_t n, const qn_gram_vectors *v,
                     uint64_t *bad, qn_err *err) QN_MUST_CHECK;

/* Doubles that hold the upper triangle of an n × n matrix by panels: panel p has rows [pT, pT + T) and columns from pT on.
 * UINT64_MAX when that is more than memory can be. */
uint64_t qn_gram_size(uint32_t n);
/* Where element (i, j), i ≤ j, lies; elements (i, j + 1) … (i, n − 1) follow it. */
uint64_t qn_gram_at(uint32_t n, uint32_t i, uint32_t j);
/* h += xᵀ x. `batch`: what qn_gram_look found (min and max decide how the tiles are summed). */
qn_code qn_gram_add(const qn_env *env, const float *x, uint64_t rows, uint64_t ld, uint32_t n, const qn_gram_vectors *batch,
                    double *h, qn_err *err) QN_MUST_CHECK;

#endif
