/* calibrate.h: running a model over data and keeping what every weight saw: the statistics that quantizers and pruning work
 * with (stats/stats.h).
 *
 * The model runs block by block over all of the data; after each block its statistics go to the file, and a killed run is
 * resumed behind the last block that is safe. Watched are the inputs of every product with a weight: linear layers,
 * convolutions (their patches; a group each), experts (the tokens that were routed to them). Weights that are multiplied with
 * the same input share one entry. */
#ifndef QN_ANALYSIS_CALIBRATE_CALIBRATE_H
#define QN_ANALYSIS_CALIBRATE_CALIBRATE_H

#include "analysis/exec/exec.h"
#include "analysis/stats/stats.h"

/* What is fed: tokens of a corpus, arrays, or anything else. */
typedef struct qn_calibrate_feed {
    uint64_t n_batches, n_tokens;  /* n_tokens: for progress and for the file */
    qn_code (*feed)(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err);
    void *ctx;
    qn_pool **pool;                /* where the feed takes its memory from: set to the executor's */
} qn_calibrate_feed;

typedef struct qn_calibrate_options {
    uint64_t memory_bytes;  /* of the whole process; 0: no limit                   */
    uint32_t h_max_columns; /* wider inputs keep the diagonal of H only; 0: no limit */
    bool diagonal;          /* of all                                              */
    bool overwrite, restart;
    /* Where the weights come from; NULL: the graph's source. With a compressed copy, statistics are of the inputs that it sees. */
    qn_weight_read read;
    void *read_ctx;
    qn_digest weights;      /* of all that decides what `read` gives; zeros without it */
    /* When the statistics of a block are safe: w can be read (qn_stats_writer_read). *again: the block is run once more, with the weights as
     * `read` gives them then, and that is what the next block sees. Also called, with `again` of no effect on the statistics, for blocks that an
     * earlier run has measured. NULL: nobody asks. */
    qn_code (*on_block)(void *ctx, const qn_stats_writer *w, uint32_t block, bool *again, qn_err *err);
    void *block_ctx;
    /* Measure what errors in each weight cost (sensitivity.h), on this data; NULL: do not. */
    const qn_calibrate_feed *sensitivity;
    double noise;           /* relative error of a layer's output that is tried there */
    const qn_stats_file *from; /* nothing is measured but the sensitivities: the rest is taken over from here; NULL: measure it */
} qn_calibrate_options;

typedef struct qn_calibration {
    uint32_t n_blocks, n_resumed;  /* blocks, and those of them that were in the file already */
    uint64_t peak_bytes;           /* of the forward pass */
} qn_calibration;

/* meta: digests of model, tokenizer and data, what was run; its settings digest is completed here. */
qn_code qn_calibrate(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, const qn_stats_meta *meta,
                     const char *out_path, const qn_calibrate_options *o, qn_calibration *out, qn_err *err) QN_MUST_CHECK;

#endif
