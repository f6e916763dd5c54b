/* lm_feed.h: chunks of a corpus as the batches of a language model. */
#ifndef QN_ANALYSIS_EVAL_LM_FEED_H
#define QN_ANALYSIS_EVAL_LM_FEED_H

#include "analysis/eval/corpus.h"
#include "analysis/exec/exec.h"

/* The chunks first[b] … first[b + 1] are batch b. Of a chunk all tokens but the last are fed: it only is predicted. */
typedef struct qn_lm_feed {
    const qn_corpus *corpus;
    const qn_alloc *alloc;
    qn_pool *pool;
    uint64_t *first;
    uint64_t n_batches, n_tokens;
    bool whole; /* the last token too: for calibration */
} qn_lm_feed;

/* Batches of about batch_tokens tokens, at least one chunk each. */
qn_code qn_lm_feed_open(qn_lm_feed *f, const qn_env *env, const qn_corpus *c, uint64_t batch_tokens, bool whole, qn_err *err) QN_MUST_CHECK;
void qn_lm_feed_release(qn_lm_feed *f); /* a zeroed one is fine */
/* Tokens of chunk c that are fed. */
uint64_t qn_lm_feed_length(const qn_lm_feed *f, uint64_t chunk);
/* The inputs "tokens" and "starts" of batch b, as qn_stream.feed wants them; ctx is the qn_lm_feed. */
qn_code qn_lm_feed_batch(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err) QN_MUST_CHECK;
/* A language model has exactly these inputs and one output of logits; QN_E_UNSUPPORTED for anything else. */
qn_code qn_lm_check(const qn_graph *g, qn_err *err) QN_MUST_CHECK;

#endif
