/* exec_impl.h: what the parts of the executor share. */
#ifndef QN_ANALYSIS_EXEC_EXEC_IMPL_H
#define QN_ANALYSIS_EXEC_EXEC_IMPL_H

#include "analysis/exec/exec.h"

/* A graph in the middle of running: its values, and the graph around it. */
typedef struct qn_frame {
    const qn_graph *graph;
    qn_array *values; /* per value; empty: not there (yet, or any more) */
    struct qn_frame *up;
} qn_frame;

struct qn_exec {
    const qn_env *env;
    const qn_graph *graph;
    qn_exec_options options;
    qn_pool pool;
    qn_team *team;
    qn_array *weights;  /* per tensor of the source: what is loaded */
    bool keep_weights;  /* all of them fit: loaded once             */
    uint64_t whole_bytes; /* a larger weight is read by rows where the operator can */
    qn_frame *frame;    /* that runs now                            */
    bool hushed;        /* on_input is not called                   */
};

qn_code qn_frame_new(qn_exec *x, const qn_graph *g, qn_frame *f, qn_err *err) QN_MUST_CHECK;
void qn_frame_release(qn_exec *x, qn_frame *f);
/* Runs nodes [first, last) of the frame's graph; values that nobody reads any more are given back. */
qn_code qn_frame_run(qn_exec *x, qn_frame *f, uint32_t first, uint32_t last, qn_err *err) QN_MUST_CHECK;
/* weights.c: the weight as an array; *out stays the executor's. data NULL: too large, and the operator reads rows. */
qn_code qn_weight_get(qn_exec *x, const qn_graph *g, uint32_t value, bool by_rows, qn_array *out, qn_err *err) QN_MUST_CHECK;
void qn_weights_drop(qn_exec *x);

#endif
