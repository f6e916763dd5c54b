/* recover.h: training what is left of a pruned model to do what the dense one does; no labels: the dense model's outputs on calibration inputs are the targets
 * (Hinton et al. 2015). Optionally the groups go while it trains: shrunk step by step in a few periods (HESSO, Chen et al. 2024), or, for those who have
 * labels, pushed and projected to zero (DHSPG of OTOv2, Chen et al. 2023). The loop itself is compress/train/train.h. */
#ifndef QN_COMPRESS_PRUNE_RECOVER_H
#define QN_COMPRESS_PRUNE_RECOVER_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/exec/overlay.h"
#include "analysis/groups/cut.h"

typedef struct qn_recover_options {
    uint32_t steps;            /* 0: 400, gradual 2000                                          */
    uint32_t batch;            /* batches of the feed in a step; 0: as many as make 64 rows      */
    double rate;               /* of AdamW; 0: 1e-3, 1e-4 for language models; falls linearly to 0 */
    double weight_decay;
    double temperature;        /* of the distillation; 0: 1                                     */
    bool gradual;              /* *cut is found while training; groups that are gone already stay gone and count */
    bool half_space;           /* of gradual: DHSPG in place of HESSO; wants labels                */
    uint32_t periods;          /* of gradual; 0: 10, over the first half of the steps             */
    const uint32_t *keep;      /* of gradual, per family: so many stay; with a share below: at least so many. NULL, only with a share: 1 each */
    /* One of them > 0: global choice, what costs least goes first, until this share of all has gone: */
    double groups_share;       /* of the groups of all families                                   */
    double params_share, macs_share; /* of the dense model's parameters, multiplications           */
    uint32_t multiple;         /* with a share: kept groups of a family are a multiple of it (more stay); 0: 1 */
    const uint8_t *fixed;      /* per value of the graph, 1: this weight is not trained; NULL: all are */
    uint64_t seed, memory_bytes;
    const char *checkpoint;    /* file that makes a killed run resumable, or NULL; it stays when the run is done: the caller removes it once
                                  the result is safe                                               */
    const int64_t *labels;     /* one per row of the first output over the whole feed, or NULL: for those who have them */
    uint64_t n_labels;
    void (*on_step)(void *ctx, uint32_t step, double loss); /* may be NULL: the loss curve */
    void *step_ctx;
} qn_recover_options;

typedef struct qn_recovery {
    double first_loss, last_loss; /* means over 20 steps */
    double held_out_before, held_out_after; /* mean loss of a held-out row (train.h); the best weights seen are kept. gradual: before: when the last group had gone */
    uint32_t steps, resumed;
    bool reached;              /* gradual: the share asked for has gone; else the families' least did not allow it    */
} qn_recovery;

/* Trains the weights of w in place; what the cut says is 0 stays 0. */
qn_code qn_recover(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, qn_cut *cut, qn_overlay *w, const qn_recover_options *o,
                   qn_recovery *out, qn_err *err) QN_MUST_CHECK;

#endif
