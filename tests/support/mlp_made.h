/* mlp_made.h: a small trained-like classifier and its inputs: 6 → hidden → hidden → 4, Gemm and Relu, one sample or many at a time. Failures are Criterion's. */
#ifndef QN_TESTS_MLP_MADE_H
#define QN_TESTS_MLP_MADE_H

#include "analysis/calibrate/calibrate.h"
#include "tests/support/made.h"

typedef struct qt_mlp {
    const qn_env *env;
    qn_source *source;
    qn_graph *graph;
    qn_calibrate_feed feed; /* n_batches of `rows` random rows */
    qn_pool *pool;
    const float *x;
    unsigned rows;
} qt_mlp;

/* fixed: the graph has a Reshape to `rows` rows in it, so that batches cannot run together. */
void qt_mlp_open(qt_mlp *m, const qn_env *env, unsigned hidden, unsigned rows, unsigned n_batches, bool fixed);
void qt_mlp_close(qt_mlp *m);
/* The weight of that name in the graph. */
uint32_t qt_mlp_weight(const qt_mlp *m, const char *name);

#endif
