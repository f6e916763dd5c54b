/* sparsity.h: zeros in place of groups: single weights, or n of every m neighbours, without cutting anything. Masks are edits in an overlay.
 *
 * Which weights go: the smallest |w| (of a tensor, or of all tensors together), or |w| · ‖x‖ in each row (Wanda, Sun et al. 2023), or what costs least when the others
 * react (SparseGPT, Frantar and Alistarh 2023: error feedback with the factor of ldl.h, column by column, weights behind the zeros moved to make up for
 * them). The knee is the largest share at which one-shot pruning still costs next to nothing (essential sparsity, Jaiswal et al. 2023). */
#ifndef QN_COMPRESS_PRUNE_SPARSITY_H
#define QN_COMPRESS_PRUNE_SPARSITY_H

#include "compress/prune/measure.h"

typedef enum qn_sparsity_kind {
    QN_SPARSITY_RATIO,   /* `ratio` of the weights                                                         */
    QN_SPARSITY_PATTERN, /* of every `of` neighbours along the inputs of a product, at most `keep` stay: 2:4 … */
    QN_SPARSITY_KNEE     /* RATIO, as large as `loss` allows                                                */
} qn_sparsity_kind;

typedef enum qn_sparsity_by {
    QN_SPARSITY_MAGNITUDE,
    QN_SPARSITY_WANDA,     /* needs the feed                                                                 */
    QN_SPARSITY_FEEDBACK   /* needs the feed                                                                 */
} qn_sparsity_by;

typedef struct qn_sparsity_options {
    qn_sparsity_kind kind;
    qn_sparsity_by by;
    double ratio;
    uint32_t keep, of;
    bool global;           /* MAGNITUDE and RATIO or KNEE: one threshold for all tensors, so that each gets its own share; FEEDBACK then takes these shares */
    double loss;           /* KNEE: what the measure may say; 0: 0.01 nats, or 1e-4 of squared relative error */
    const uint8_t *skip;   /* per value of the graph, 1: left alone; NULL: none                             */
    uint64_t memory_bytes; /* of the whole process; 0: no limit                                              */
} qn_sparsity_options;

typedef struct qn_sparsity_tensor {
    uint32_t value;
    uint64_t n, n_zero;
    double error;          /* ‖(W − Ŵ) X‖² / ‖W X‖² on rows that decided nothing, where the feed was used; NaN */
    const char *note;      /* why it was not done as asked; NULL                                              */
} qn_sparsity_tensor;

enum { QN_SPARSITY_CURVE = 32 };

typedef struct qn_sparsity_report {
    const qn_env *env;
    qn_sparsity_tensor *tensors;
    uint32_t n_tensors;
    uint64_t n, n_zero;    /* of all weights of these                                        */
    double ratio;          /* n_zero / n                                                       */
    qn_distance distance;  /* of the result, when there is a measure                           */
    double curve[QN_SPARSITY_CURVE][2]; /* KNEE: ratio and loss of every trial, in their order */
    uint32_t n_curve;
} qn_sparsity_report;

/* Weights of linear layers, convolutions and matrix products (of one reader each) get zeros in *w, on top of what it has changed already. feed: NULL only for
 * MAGNITUDE. m: needed by KNEE, otherwise it may be NULL. QN_E_USAGE: options that contradict each other. Deterministic, independent of threads. */
qn_code qn_sparsify(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, qn_measure *m, const qn_sparsity_options *o,
                    qn_overlay *w, qn_sparsity_report *out, qn_err *err) QN_MUST_CHECK;
void qn_sparsity_report_release(qn_sparsity_report *r); /* a zeroed one is fine */

/* Share that has gone at `step` of a gradual schedule from `first` to `last` (Zhu and Gupta 2017): from + rises by 1 − (1 − x)³. Before `first` it is from, behind
 * `last` it is to. */
double qn_sparsity_cubic(double from, double to, uint64_t step, uint64_t first, uint64_t last);

#endif
