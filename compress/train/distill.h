/* distill.h: the loss of training: how far outputs are from the dense model's. */
#ifndef QN_COMPRESS_TRAIN_DISTILL_H
#define QN_COMPRESS_TRAIN_DISTILL_H

#include "analysis/calibrate/calibrate.h"

enum { QN_DISTILL_OUTPUTS_MAX = 32 };

typedef enum qn_distill_kind {
    QN_DISTILL_LOGITS, /* Σ over rows of T² KL(softmax(dense / T) ‖ softmax(y / T)), first output                          */
    QN_DISTILL_PROBS,  /* Σ over rows of KL(dense ‖ y), first output                                                      */
    QN_DISTILL_ERROR   /* Σ over float outputs of Σ (y − dense)² / mean square of a dense row                               */
} qn_distill_kind;

/* The dense model, whose outputs are kept while there is room and else computed again. */
typedef struct qn_teacher {
    const qn_env *env;
    const qn_graph *graph;
    const qn_calibrate_feed *feed;
    qn_exec *exec;
    qn_array *kept;            /* (n_batches, n_outputs), empty where not kept   */
    qn_array now[QN_DISTILL_OUTPUTS_MAX];
    uint64_t keep_bytes, held_bytes;
    qn_distill_kind kind;      /* by the first batch, as measure.h has it          */
    double square[QN_DISTILL_OUTPUTS_MAX]; /* ERROR: mean of Σ dense² over a row of each output, by the first batches  */
} qn_teacher;

/* keep_bytes: for outputs. */
qn_code qn_teacher_open(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, uint64_t memory_bytes, uint64_t keep_bytes, qn_teacher *t,
                        qn_err *err) QN_MUST_CHECK;
/* Good until the next call. */
qn_code qn_teacher_outputs(qn_teacher *t, uint64_t batch, const qn_array **outs, qn_err *err) QN_MUST_CHECK;
void qn_teacher_close(qn_teacher *t); /* zeroed is fine */

/* Rows of a batch: of the first output (last axis apart); ERROR: its first axis. */
uint64_t qn_distill_rows(const qn_teacher *t, const qn_array *outs);

/* Of one batch; ctx of qn_distill_loss, a qn_loss_fn. Sums, not means: rows of a step are known when all its batches are through. */
typedef struct qn_distill {
    const qn_teacher *teacher;
    const qn_array *dense;     /* outputs of the batch                              */
    double temperature;
    const int64_t *labels;     /* of the batch's rows, or NULL: then half of the loss is cross-entropy */
} qn_distill;
qn_code qn_distill_loss(void *ctx, qn_pool *pool, const qn_array *outs, double *loss, qn_array *d_outs, qn_err *err) QN_MUST_CHECK;


/* The loss whose derivatives qn_train_probe squares (train.h). seed: of the batch's draws. */
typedef struct qn_draw {
    const qn_teacher *teacher;
    uint64_t seed;
} qn_draw;
qn_code qn_distill_draw(void *ctx, qn_pool *pool, const qn_array *outs, double *loss, qn_array *d_outs, qn_err *err) QN_MUST_CHECK;

#endif
