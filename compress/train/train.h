/* train.h: gradient training of any set of a graph's weights toward what the dense model computes: the loop that recovery after pruning and the
 * finetuning of quantized weights have in common. No labels are needed: the targets are the outputs of the graph with its source's own weights
 * on the same inputs (Hinton, Vinyals and Dean 2015).
 *
 * A step takes a few batches of the feed in an order that the seed decides, adds up their derivatives (analysis/grad), and moves the weights by AdamW
 * (Loshchilov and Hutter 2019). Between the two the caller can look at the derivatives (before) and, after the move, put weights back to where they may be
 * (after, project): zeros of a cut, a shrink factor, a codebook's points.
 *
 * Some batches are held out: they judge, and the best weights that were seen there are what the overlay has in the end. Nothing depends on the number of
 * threads, and a run that was killed and resumed gives the bits of one that was not. */
#ifndef QN_COMPRESS_TRAIN_TRAIN_H
#define QN_COMPRESS_TRAIN_TRAIN_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/exec/overlay.h"

/* What a hook sees and may change. Weights in the order of qn_train_options.weights. */
typedef struct qn_train_view {
    uint32_t step, steps, n_weights;
    const uint32_t *values; /* of the graph                                                             */
    const uint64_t *elems;
    float *const *w;        /* full shapes, row-major                                                   */
    float *const *g;        /* before, after: derivative of this step's mean loss, which `before` may write; begin: no meaning */
    uint8_t **keep;         /* per element 1: trained; 0: neither moved nor decayed. NULL: all are. From env's allocator (qn_mem_get), given over */
    double rate;            /* of this step                                                             */
    struct qn_train_run *run; /* for qn_train_probe                                                       */
} qn_train_view;

typedef struct qn_train_options {
    const uint32_t *weights;   /* trained; each of kind WEIGHT and f32 while the model runs (qn_train_reach). They are edited in the overlay */
    uint32_t n_weights;
    uint32_t steps;
    uint32_t batch;            /* batches of the feed in a step; 0: as many as make 64 rows of output     */
    double rate;               /* falls linearly to 0 from step `hold` on                                */
    uint32_t hold;
    double weight_decay;       /* decoupled: w −= rate · weight_decay · w                                 */
    double temperature;        /* of distillation; 0: 1                                                   */
    const int64_t *labels;     /* one per row of the first output over the whole feed, or NULL. With them the loss is half cross-entropy, half distillation */
    uint64_t n_labels;
    uint64_t n_held_out;       /* batches; 0: a tenth, at most those that make 1024 rows. A feed of one batch is trained and judged on it */
    uint32_t judged_from;      /* states before this many steps do not count: they still have what is going to be taken away */
    uint64_t seed, memory_bytes; /* memory: of tensors, 0: no limit                                       */

    /* All may be NULL. begin: before anything of the step is computed. before: derivatives are there, the weights have not moved yet; after: they have.
     * project: last of all, for each weight. */
    qn_code (*begin)(void *ctx, qn_train_view *v, qn_err *err);
    qn_code (*before)(void *ctx, qn_train_view *v, qn_err *err);
    qn_code (*after)(void *ctx, qn_train_view *v, qn_err *err);
    void (*project)(void *ctx, uint32_t value, float *w);
    void *ctx;
    void (*on_step)(void *ctx, uint32_t step, double loss);
    void *step_ctx;

    /* A file that makes a killed run resumable, or NULL. key: of all that the hooks do beside what is here. state: of the hooks; saved with the weights
     * and put back before `resumed` is called. The file stays when the run is done (another call then returns at once); the caller removes it. */
    const char *checkpoint;
    qn_digest key;
    void *state;
    uint64_t state_bytes;
    qn_code (*resumed)(void *ctx, qn_train_view *v, qn_err *err);
} qn_train_options;

typedef struct qn_trained {
    double first_loss, last_loss; /* means over the first and last 20 steps                                         */
    double held_out_before, held_out_after; /* mean loss of a held-out row, at temperature 1: where judging began, and of the weights that are kept:
                                     nats of KL(dense ‖ trained) for logits and probabilities, else the squared relative error */
    uint32_t steps, resumed, best_step; /* done; of those by earlier runs; steps behind the weights that are kept   */
} qn_trained;

/* Trains w in place. QN_E_INPUT: the loss is no number from the start. QN_E_CANCELLED leaves a checkpoint. */
qn_code qn_train(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, qn_overlay *w, const qn_train_options *o, qn_trained *out,
                 qn_err *err) QN_MUST_CHECK;

/* For `begin`: n_runs runs of about n_rows rows in the training order; after each, v->g is Σ over its rows of the derivative of −ln q(c), c drawn from
 * the model's own distribution q (outputs that are no distribution: of ½ (y − c)² with c = y ± a row's root mean square), and each() is called. The square of such a derivative along a
 * direction is an unbiased estimate of the rows' summed curvature of the loss in it: the Fisher information. *rows: rows in all. */
qn_code qn_train_probe(qn_train_view *v, uint64_t n_runs, uint64_t n_rows, qn_code (*each)(void *ctx, qn_train_view *v, qn_err *err), void *ctx,
                       uint64_t *rows, qn_err *err) QN_MUST_CHECK;

/* Weights that a derivative reaches and that are there to be learned: factors of products and convolutions, biases, scales of norms, embeddings; not the
 * statistics of batch norms, not constants of shape or range. → values (of the graph's n_values at most), ascending. */
qn_code qn_train_reach(const qn_env *env, const qn_graph *g, uint32_t *values, uint32_t *n, qn_err *err) QN_MUST_CHECK;

#endif
