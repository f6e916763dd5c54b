/* recover.h: training what is left of a pruned model to do what the dense one does; no labels: the dense model's outputs on calibration inputs are the targets
 * (Hinton et al. 2015). Optionally the groups shrink gradually while it trains (HESSO, Chen et al. 2024). */
#ifndef QN_COMPRESS_PRUNE_RECOVER_H
#define QN_COMPRESS_PRUNE_RECOVER_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/exec/overlay.h"
#include "analysis/groups/cut.h"

typedef struct qn_recover_options {
    uint32_t steps;            /* 0: 400                                                        */
    uint32_t batch;            /* batches of the feed in a step; 0: as many as make 64 rows      */
    double rate;               /* of AdamW; 0: 1e-3, 1e-4 for language models; falls linearly to 0 */
    double weight_decay;
    double temperature;        /* of the distillation; 0: 1                                     */
    bool gradual;              /* *cut is found while training: keep[f] as the budget             */
    uint32_t periods;          /* of gradual; 0: 10, over the first half of the steps             */
    const uint32_t *keep;      /* of gradual, per family: least that stays                        */
    double params_share;       /* of gradual: > 0: global choice until this share of the parameters has gone, in place of keep exactly */
    double macs_share;         /* the same of multiplications                                     */
    uint64_t seed, memory_bytes;
    const char *checkpoint;    /* file that makes a killed run resumable, or NULL                 */
    const int64_t *labels;     /* one per row of the first output over the whole feed, or NULL: for those who have them */
    uint64_t n_labels;
    void (*on_step)(void *ctx, uint32_t step, double loss); /* may be NULL: the loss curve */
    void *step_ctx;
} qn_recover_options;

typedef struct qn_recovery {
    double first_loss, last_loss; /* means over 20 steps */
    double held_out_before, held_out_after; /* measure.h's loss on the held-out batches; the best weights seen are kept */
    uint32_t steps, resumed;
} qn_recovery;

/* Trains the weights of w in place; what the cut says is 0 stays 0. */
qn_code qn_recover(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, qn_cut *cut, qn_overlay *w, const qn_recover_options *o,
                   qn_recovery *out, qn_err *err) QN_MUST_CHECK;

#endif
