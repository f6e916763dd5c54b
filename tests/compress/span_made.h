/* span_made.h: a second moment for a span, as a layer's inputs could give it. */
#ifndef QN_TESTS_COMPRESS_SPAN_MADE_H
#define QN_TESTS_COMPRESS_SPAN_MADE_H

#include "compress/blocks/block.h"
#include "tests/support/testkit.h"
#include <stdlib.h>

/* Of inputs that are alike among neighbours and of different size; every dead-th column is never seen (0: all are). m: (QN_SPAN_MAX, QN_SPAN_MAX). */
static inline void span_moment(uint64_t seed, unsigned dead, float *m, float *diag)
{
    enum { N = QN_SPAN_MAX };
    double *h = calloc(N * N, sizeof *h);
    qt_rng r = qt_seed(seed);
    for (unsigned i = 0; i < 300; i++) {
        double x[N], last = 0;
        const double all = qt_normal(&r);
        for (unsigned j = 0; j < N; j++) {
            last = 0.8 * last + qt_normal(&r);
            x[j] = dead && j % dead == 1 ? 0 : (last + all) * (j % 7 == 3 ? 3 : 1 + 0.3 * (j % 5));
        }
        for (unsigned a = 0; a < N; a++)
            for (unsigned b = 0; b < N; b++)
                h[a * N + b] += x[a] * x[b] / 2000;
    }
    for (unsigned a = 0; a < N; a++) {
        for (unsigned b = 0; b < N; b++)
            m[a * N + b] = (float)(h[a * N + b] + (a == b && h[a * N + a] > 0 ? 1e-3 : 0));
        diag[a] = m[a * N + a];
    }
    free(h);
}

#endif
