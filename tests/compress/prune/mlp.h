/* mlp.h: a small net of three layers with Relu between them, its groups written by hand, and batches for it.
 *     x (ROWS, IN) → w0 (H, IN), b0 → Relu → w1 (H, H), b1 → Relu → w2 (OUT, H), b2 */
#ifndef QN_TESTS_PRUNE_MLP_H
#define QN_TESTS_PRUNE_MLP_H

#include "compress/prune/repair.h"

enum { MLP_IN = 6, MLP_H = 12, MLP_OUT = 3, MLP_ROWS = 40, MLP_BATCHES = 10, MLP_VALUES = 16 };

typedef struct qt_mlp {
    float w[3][MLP_H * MLP_H], b[3][MLP_H];
    float x[MLP_BATCHES * MLP_ROWS * MLP_IN];
    qn_source *source;
    qn_graph *graph;
    uint32_t wv[3], bv[3];    /* values */
    qn_groups groups;
    int64_t dims[MLP_VALUES * QN_ARRAY_RANK_MAX];
    uint8_t rank[MLP_VALUES];
    bool varies[MLP_VALUES * QN_ARRAY_RANK_MAX];
    qn_family families[2];
    qn_member members[2][3];
    qn_consumer consumers[2];
    uint32_t start[MLP_H + 1], index[MLP_H];
    qn_pool *pool;
    qn_calibrate_feed feed;
} qt_mlp;

/* Random weights and inputs; change them before qt_mlp_build. */
void qt_mlp_fill(qt_mlp *m, uint64_t seed);
/* In file `name` of the scratch folder. */
void qt_mlp_build(qt_mlp *m, const qn_env *env, const char *name);
void qt_mlp_close(qt_mlp *m);
/* Outputs of layer l (before its Relu) in f64, and in `in` what it saw, with weights w and b in place of the net's own where not NULL. n rows from row `first`. */
void qt_mlp_layer(const qt_mlp *m, const float *const w[3], const float *const b[3], unsigned l, unsigned first, unsigned n, double *in, double *out);

#endif
