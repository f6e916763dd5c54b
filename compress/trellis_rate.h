/* trellis_rate.h: how many bits the weights of each column get. */
#ifndef QN_COMPRESS_TRELLIS_RATE_H
#define QN_COMPRESS_TRELLIS_RATE_H

#include "runtime/trellis.h"

/* Mean squared error of a column of variance 1 at K = 0 … 8 bits (normal weights, L = 12), and the best ratio of a column's root
 * mean square to the code's: measured, bench/quant_trellis. */
extern const double qn_trellis_error[QN_TRELLIS_K_MAX + 1];
extern const double qn_trellis_spread[QN_TRELLIS_K_MAX + 1];

/* k: (n), such that Σ value_j error(k_j) is least with Σ k_j ≤ bits · n. value ≥ 0: weight × variance. */
void qn_trellis_rate_choose(const double *value, uint32_t n, double bits, uint8_t *k);

#endif
