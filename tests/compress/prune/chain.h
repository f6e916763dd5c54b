/* chain.h: a perceptron with some hidden layers, its groups written down by hand, and data. */
#ifndef QN_TESTS_CHAIN_H
#define QN_TESTS_CHAIN_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/groups/cut.h"

enum { QT_MLP_LAYERS_MAX = 4, QT_MLP_IN = 12, QT_MLP_OUT = 10, QT_MLP_ROWS = 16 };

typedef struct qt_chain {
    const qn_env *env;
    qn_source *src;
    qn_graph *graph;
    qn_pool *pool;
    qn_calibrate_feed feed;
    qn_groups groups;       /* a family for each hidden layer: rows of one weight, its bias, columns of the next */
    uint32_t width[QT_MLP_LAYERS_MAX], n_layers;
} qt_chain;

/* Hidden layers of these widths (0 ends), ReLU between them; weights are random by seed; of layer i all but the first live[i] neurons (live NULL: none) are
 * nearly without effect. Batches of QT_MLP_ROWS random rows. */
void qt_chain_open(qt_chain *m, unsigned n_threads, const uint32_t *width, const uint32_t *live, uint64_t n_batches, uint64_t seed);
void qt_chain_close(qt_chain *m);

#endif
