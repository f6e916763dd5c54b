/* made_feed.h: inputs for a model when nobody has given any: shapes as the model was traced with, numbers from a fixed sequence. Good for comparing two
 * models that must compute the same, for nothing else. */
#ifndef QN_COMPRESS_PRUNE_MADE_FEED_H
#define QN_COMPRESS_PRUNE_MADE_FEED_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/groups/groups.h"

typedef struct qn_made_feed {
    const qn_groups *groups; /* borrowed: its graph and shapes */
    qn_pool *pool;
    uint64_t seed;
} qn_made_feed;

/* n_batches of them. Floats are normal, integers 0 or 1, tokens any of the vocabulary in one sequence. */
void qn_made_feed_open(qn_made_feed *m, const qn_groups *s, uint64_t seed, uint64_t n_batches, qn_calibrate_feed *out);

#endif
