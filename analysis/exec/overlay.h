/* overlay.h: a model with some of its weights changed, in memory: full shapes, so that the graph stays as it is. What pruning, refitting and training
 * work on: a graph runs with it through qn_overlay_read as its loader. */
#ifndef QN_ANALYSIS_EXEC_OVERLAY_H
#define QN_ANALYSIS_EXEC_OVERLAY_H

#include "analysis/exec/exec.h"

typedef struct qn_overlay {
    const qn_env *env;
    const qn_graph *graph;  /* borrowed                                          */
    float **data;           /* per value of the graph: changed, f32; NULL: as in the source */
    uint64_t n_bytes;       /* of all data                                        */
} qn_overlay;

qn_code qn_overlay_new(const qn_env *env, const qn_graph *g, qn_overlay **out, qn_err *err) QN_MUST_CHECK;
void qn_overlay_free(qn_overlay *o); /* NULL is fine */
/* The weight for reading and writing: read from the source when it is asked for first. QN_E_UNSUPPORTED when it is no f32 while the model runs.
 * Not thread-safe. An executor that has loaded the weight must be told: qn_exec_forget. */
qn_code qn_overlay_edit(qn_overlay *o, uint32_t value, float **w, qn_err *err) QN_MUST_CHECK;
/* Gives a change up. */
void qn_overlay_drop(qn_overlay *o, uint32_t value);
qn_code qn_overlay_copy(const qn_overlay *src, qn_overlay **out, qn_err *err) QN_MUST_CHECK;
/* What writing the weights in the source's dtypes will leave of them: bf16 and f16 are rounded (nearest, halves to even). */
void qn_overlay_round(qn_overlay *o);
/* qn_weight_read; ctx: a qn_overlay. Thread-safe while nobody edits. */
qn_code qn_overlay_read(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;

#endif
