/* evaluate_io.h: how far a model of any kind is from a reference on given inputs: the error of each output, how often the
 * largest value stands in the same place, and, with labels, how often it is the right one. */
#ifndef QN_ANALYSIS_EVAL_EVALUATE_IO_H
#define QN_ANALYSIS_EVAL_EVALUATE_IO_H

#include "analysis/eval/io_feed.h"
#include "analysis/eval/score.h"

typedef struct qn_io_output {
    const char *name;      /* borrowed from the graph            */
    uint64_t n_values, n_rows; /* compared; rows along the last axis, 0: no axis of more than one value */
    double diff2, ref2, dot, own2, max_abs, max_ref;
    qn_estimate same_top;  /* over runs */
    qn_estimate right;     /* first output only, with labels; NaN else */
    qn_estimate right_ref;
} qn_io_output;

typedef struct qn_io_eval {
    const qn_alloc *alloc;
    qn_io_output *outputs;
    qn_chunk_score *runs;  /* n_runs: rows of the first output, n_same_top and (with labels) n_top of them */
    uint32_t n_outputs;
    uint64_t n_runs, n_samples, n_labels;
    uint64_t peak_bytes;
} qn_io_eval;

/* memory_bytes: of the whole process; 0: no limit. ref NULL: only labels are compared; labels NULL: only the reference. labels: one class for each row of the first output's last
 * axis, n_labels of them. The models must have as many outputs, of equal shapes. Values that are not finite in one
 * output and are in the other: QN_E_INPUT. */
qn_code qn_evaluate_io(const qn_env *env, const qn_graph *model, const qn_graph *ref, qn_io_feed *feed, const int64_t *labels,
                       uint64_t n_labels, uint64_t memory_bytes, qn_io_eval *out, qn_err *err) QN_MUST_CHECK;
/* The same with the model's weights, not the reference's, from `read`. */
qn_code qn_evaluate_io_with(const qn_env *env, const qn_graph *model, qn_weight_read read, void *read_ctx, const qn_graph *ref, qn_io_feed *feed,
                            uint64_t memory_bytes, qn_io_eval *out, qn_err *err) QN_MUST_CHECK;
void qn_io_eval_release(qn_io_eval *e);

/* √(Σ (y − r)² / Σ r²), the largest |y − r| / the largest |r|, and Σ y r / √(Σ y² Σ r²). */
double qn_io_rel_rms(const qn_io_output *o);
double qn_io_max_rel(const qn_io_output *o);
double qn_io_cosine(const qn_io_output *o);

#endif
