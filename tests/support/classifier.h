/* classifier.h: a small trained-like classifier and its inputs: 6 → hidden → hidden → 4, Gemm and Relu, one sample or many at a time. Failures are Criterion's. */
#ifndef QN_TESTS_CLASSIFIER_H
#define QN_TESTS_CLASSIFIER_H

#include "analysis/calibrate/calibrate.h"
#include "tests/support/made.h"

typedef struct qt_classifier {
    const qn_env *env;
    qn_source *source;
    qn_graph *graph;
    qn_calibrate_feed feed; /* n_batches of `rows` random rows */
    qn_pool *pool;
    const float *x;
    unsigned rows;
} qt_classifier;

/* fixed: the graph has a Reshape to `rows` rows in it, so that batches cannot run together. */
void qt_classifier_open(qt_classifier *m, const qn_env *env, unsigned hidden, unsigned rows, unsigned n_batches, bool fixed);
void qt_classifier_close(qt_classifier *m);
/* The weight of that name in the graph. */
uint32_t qt_classifier_weight(const qt_classifier *m, const char *name);

#endif
