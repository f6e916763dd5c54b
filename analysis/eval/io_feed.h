/* io_feed.h: arrays from .npz or .npy files as the inputs of any graph: what vision and speech models are calibrated and
 * evaluated on.
 *
 * An array's name is that of the graph's input (a .npy serves the one input that a graph has). It holds samples along its first
 * axis. How many of them make a run: the size of that axis in the graph when it is fixed, else `batch`. An array whose rank is
 * one more than the input's holds a whole feed in each of its rows. One that has just the input's shape, while others hold
 * several runs, is given to every run. Floats become f32 where the graph wants that, integers its integer type. */
#ifndef QN_ANALYSIS_EVAL_IO_FEED_H
#define QN_ANALYSIS_EVAL_IO_FEED_H

#include "analysis/exec/exec.h"

enum { QN_IO_INPUTS_MAX = 32 };

typedef struct qn_io_feed {
    const qn_graph *graph;
    qn_source *source;
    qn_pool *pool;        /* set before the first batch */
    uint64_t n_batches;   /* runs */
    uint64_t n_samples;   /* rows of the first axis, in all */
    struct {
        uint64_t tensor;      /* of the source                                      */
        uint64_t per_run;     /* rows of its first axis in a run; 0: all in every one */
        bool stacked;         /* rank one more: the first axis is not the input's    */
    } in[QN_IO_INPUTS_MAX];
    bool cut;             /* the arrays hold more than is run */
    qn_digest digest;     /* of names, shapes and content */
} qn_io_feed;

/* limit: at most so many runs, 0: all. QN_E_INPUT: an input without an array, shapes that do not fit, arrays that disagree
 * about the number of runs. Arrays that no input has are an error too: a misspelt name must not pass. */
qn_code qn_io_feed_open(qn_io_feed *f, const qn_env *env, const qn_graph *g, const char *path, uint64_t batch, uint64_t limit,
                        qn_err *err) QN_MUST_CHECK;
void qn_io_feed_close(qn_io_feed *f);
/* As qn_stream.feed; ctx is the qn_io_feed. */
qn_code qn_io_feed_batch(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err) QN_MUST_CHECK;

#endif
