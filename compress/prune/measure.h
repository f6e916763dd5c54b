/* measure.h: how far a changed model is from the dense one on calibration data: the fitness that allocation, repair and recovery are judged by. */
#ifndef QN_COMPRESS_PRUNE_MEASURE_H
#define QN_COMPRESS_PRUNE_MEASURE_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/exec/overlay.h"

typedef struct qn_measure qn_measure;

/* A changed model whose outputs are not finite, or have other shapes than the dense one's first output, is infinitely far away. */
typedef struct qn_distance {
    double loss;      /* what is minimised: mean KL(dense ‖ changed) per row in nats where the first output is logits or probabilities (a language model; rows
                         that the dense model makes sum to 1; else 2-D with at least 2 columns), else the squared relative error of all outputs */
    double rel;       /* √(Σ (y − y_dense)² / Σ y_dense²) over all float outputs */
    double same_top;  /* share of rows of the first output whose largest value stands in the same place; NaN when rows have one value */
    uint64_t n_rows;
} qn_distance;

/* Runs the dense model (the graph's own weights) over the first n_batches of the feed (0 or too many: all) and keeps its outputs (or recomputes them when
 * they do not fit memory_bytes / 4), and as much of what flows from block to block: a change in a late block is then run from there.
 * memory_bytes: of the whole process, 0: no limit. The feed is copied and must go on working; its pool is set at each run.
 * QN_E_INPUT: the dense model's outputs are not finite. */
qn_code qn_measure_open(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, uint64_t n_batches, uint64_t memory_bytes,
                        qn_measure **out, qn_err *err) QN_MUST_CHECK;
/* w (NULL: the dense model) on batches [first, first + n), as far as there are so many. Weights that w does not change stay loaded. Independent of what was
 * measured before and of the number of threads. */
qn_code qn_measure_run(qn_measure *m, const qn_overlay *w, uint64_t first, uint64_t n, qn_distance *out, qn_err *err) QN_MUST_CHECK;
uint64_t qn_measure_batches(const qn_measure *m);
/* Is the loss a divergence, in nats? Else it is a squared relative error. */
bool qn_measure_is_divergence(const qn_measure *m);
void qn_measure_close(qn_measure *m); /* NULL is fine */

#endif
