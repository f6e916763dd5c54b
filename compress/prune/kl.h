/* kl.h: Kullback-Leibler divergence of one row from what the dense model has there, in nats. */
#ifndef QN_COMPRESS_PRUNE_KL_H
#define QN_COMPRESS_PRUNE_KL_H

#include "quern/base.h"

/* Both as logits, n of them: softmax in double. Never below 0, 0 when they are equal, and exact to about 1e-13 relative however small it is: what is added
 * up is p (e^d − 1 − d) with d = ln q − ln p, which is ≥ 0 term by term and has the same sum as p ln(p / q), because Σ (q − p) = 0.
 * +∞ when q has a NaN or +∞, or is 0 where p is not. p must be finite, single −∞ apart. */
double qn_kl_logits(const float *p, const float *q, uint64_t n);
/* Both as probabilities. q counts as at least QN_KL_LEAST: a softmax in f32 rounds small ones to 0. */
#define QN_KL_LEAST 1e-12
double qn_kl_probs(const float *p, const float *q, uint64_t n);

#endif
