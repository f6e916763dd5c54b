/* sample.h: cheap looks at a block before anything is tried on it. Integer arithmetic only: what is decided here decides
 * output bytes. */
#ifndef QN_COMPRESS_SAMPLE_H
#define QN_COMPRESS_SAMPLE_H

#include "quern/base.h"

/* log2(v) in 1/1024 bits, v ≥ 1; off by less than 10/1024. */
uint32_t qn_log2_1024(uint32_t v);

/* Order-0 entropy of a 256-symbol histogram in 1/1024 bits a symbol, with the usual correction for a small sample
 * ((K − 1)/2N nats for K symbols seen, Miller 1955), at most 8192. */
uint32_t qn_hist_entropy(const uint32_t hist[256], uint32_t total);

/* Evenly spaced runs: run i of n_runs begins at unit qn_sample_at(…), whole when n ≥ run. */
static inline uint32_t qn_sample_at(uint32_t n, uint32_t run, uint32_t n_runs, uint32_t i)
{
    return n <= run ? 0 : (uint32_t)((uint64_t)(n - run) * i / (n_runs > 1 ? n_runs - 1 : 1));
}

/* Estimated size of n units of `unit` bytes when each byte plane is coded by its own order-0 entropy. */
size_t qn_sample_planes(const uint8_t *src, uint32_t n, unsigned unit);

/* How many of 256 sampled 8-byte words were seen before in the sample, in 1/256. */
unsigned qn_sample_repeats(const uint8_t *src, size_t n_bytes);

/* Runs of eight that come back, in the plane of lowest bytes (unit 1: in the bytes): of about a thousand runs, chosen by
 * their content so that a run and its copy are chosen together wherever they stand, how many were seen before, in 1/256.
 * Looks at 16 Ki units at most. */
unsigned qn_sample_matches(const uint8_t *src, uint32_t n, unsigned unit);

/* How many of 1024 sampled units are all zero bits, in 1/1024. */
unsigned qn_sample_zeros(const uint8_t *src, uint32_t n, unsigned unit);

#endif
