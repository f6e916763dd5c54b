/* timing.h: thread CPU time of small pieces of work, always as medians and beside a reference in the same run. */
#ifndef QN_BENCH_TIMING_H
#define QN_BENCH_TIMING_H

#include <stddef.h>

typedef void (*bench_fn)(void *ctx);

/* CPU seconds that one call of fn takes: each sample repeats fn until it is long enough to be measured; the
 * median of n_samples after a warm-up call. */
double bench_time(bench_fn fn, void *ctx, unsigned n_samples);

/* The same for two functions whose samples alternate, so that both see the same weather. */
void bench_pair(bench_fn a, void *a_ctx, bench_fn b, void *b_ctx, unsigned n_samples, double *a_sec, double *b_sec);

/* CPU seconds of this thread so far. */
double bench_cpu_now(void);

#endif
