/* repair.h: choosing which groups of each family go, and refitting what reads them, in one walk through the model.
 *
 * Families are worked on in the order of their consumers. Inputs X come from the part of the model that is already pruned and refitted, targets Y from the dense
 * one, so that later layers mend what earlier ones lost. Scores and refit: Optimal Brain Surgeon (Hassibi and Stork 1993) in its layer-wise
 * form (Frantar and Alistarh 2022), blocks of columns for channels and heads; least squares with a ridge toward the old weights. */
#ifndef QN_COMPRESS_PRUNE_REPAIR_H
#define QN_COMPRESS_PRUNE_REPAIR_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/exec/overlay.h"
#include "analysis/groups/cut.h"

typedef enum qn_saliency {
    QN_SALIENCY_OBS,       /* the exact rise of the consumers' error when a group goes and the others react, one by one    */
    QN_SALIENCY_MAGNITUDE, /* squared norms of producing and reading weights                                             */
    QN_SALIENCY_WANDA,     /* |w| · ‖x‖ (Sun et al. 2023), summed over what reads the group                               */
    QN_SALIENCY_VARIANCE,  /* Var(x) · ‖w‖² (FLAP, An et al. 2023)                                                        */
    QN_SALIENCY_RANDOM     /* by seed: for tables                                                                        */
} qn_saliency;

typedef struct qn_repair_options {
    qn_saliency saliency;
    bool refit;            /* else what goes is set to 0 and nothing else changes                                          */
    double ridge;          /* δ relative to the mean of H's diagonal; 0: 1e-2, less with many samples                       */
    double held_out;       /* share of the rows that judge a refit: it is undone when it does not help; 0: 0.2              */
    uint64_t rows_max;     /* of each consumer: more are thinned out evenly; 0: 16 × its columns, at least 16384, up to 131072 of few columns */
    uint64_t seed;         /* of RANDOM                                                                                    */
    uint64_t memory_bytes; /* of the whole process; 0: no limit                                                            */
} qn_repair_options;

typedef struct qn_repair_family {
    double before, after;  /* held-out relative squared error of the consumers' outputs without and with refit, summed over consumers */
    bool refitted;         /* false: undone, or nothing to refit                                                            */
    const char *note;      /* why not; NULL                                                                                 */
} qn_repair_family;

/* keep[f]: groups of family f that stay. Which go is decided here and put into *cut (of the same groups; groups that go already stay gone and count); w gets the changed
 * weights: zeros where groups are gone. report: n_families of them. Deterministic, independent of threads. */
qn_code qn_repair(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, const uint32_t *keep, const qn_repair_options *o,
                  qn_cut *cut, qn_overlay *w, qn_repair_family *report, qn_err *err) QN_MUST_CHECK;

/* The error curve of every family alone, by the saliency, of the dense model: curve[f][k] is the summed score after k groups went (k = 0 … n_groups), order[f] the groups in the
 * order in which they go. Freed with qn_curves_release. */
typedef struct qn_curves {
    const qn_env *env;
    uint32_t n_families;
    double **error;        /* relative to the consumers' outputs: Σ over consumers of error / tr(W H Wᵀ) */
    uint32_t **order;
} qn_curves;
qn_code qn_repair_curves(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, const qn_groups *s, const qn_repair_options *o,
                         qn_curves *out, qn_err *err) QN_MUST_CHECK;
void qn_curves_release(qn_curves *c);

#endif
