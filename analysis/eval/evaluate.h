/* evaluate.h: how good a language model is on given tokens, alone or against a reference that sees the same tokens.
 *
 * Both models go side by side, block by block; nothing but what flows between blocks is kept, and of the logits only one
 * batch at a time. Every figure says from how many tokens it is. */
#ifndef QN_ANALYSIS_EVAL_EVALUATE_H
#define QN_ANALYSIS_EVAL_EVALUATE_H

#include "analysis/eval/corpus.h"
#include "analysis/eval/score.h"
#include "analysis/exec/exec.h"

typedef struct qn_eval_options {
    uint64_t memory_bytes;    /* of the whole process; 0: no limit                                */
    uint64_t batch_tokens;    /* that go through a block together; 0: 1024 or one chunk            */
    bool layers;              /* error of each block's output against the reference                */
    bool own;                 /* with layers: also of each block by itself, given what the reference's gets */
    bool tokens;              /* keep the divergence of single tokens                              */
    qn_weight_read read;      /* the model's weights, not the reference's; NULL: from its source      */
    void *read_ctx;
} qn_eval_options;

typedef struct qn_eval_layer {
    const char *name;         /* of the block; borrowed from the graph */
    double rel_rms;           /* √(Σ (y − y_ref)² / Σ y_ref²) over all tokens */
    double max_abs;
    double own_rel;           /* rel_rms of the block alone; NaN when it was not asked for */
} qn_eval_layer;

typedef struct qn_eval {
    const qn_alloc *alloc;
    uint64_t n_chunks, n_tokens, n_scored; /* n_tokens: fed to the model */
    qn_chunk_score *chunks;
    qn_estimate nll, ppl, top;
    /* against a reference, else zero */
    bool has_ref;
    qn_estimate nll_ref, ppl_ref, ppl_ratio, kl, same_top, dp;
    double dp_rms;
    double kl_quantiles[7];   /* of tokens, at qn_eval_quantiles */
    double dp_quantiles[7];
    qn_eval_layer *layers;
    uint32_t n_layers;
    float *token_kl;          /* n_scored, in the order of chunks; NULL: not asked for */
    uint64_t peak_bytes;      /* of the forward passes */
} qn_eval;

extern const double qn_eval_quantiles[7]; /* 0, 0.05, 0.5, 0.95, 0.99, 0.999, 1 */

/* ref NULL: no reference. The graphs must be language models with one vocabulary. */
qn_code qn_evaluate(const qn_env *env, const qn_graph *model, const qn_graph *ref, const qn_corpus *c, const qn_eval_options *o,
                    qn_eval *out, qn_err *err) QN_MUST_CHECK;
void qn_eval_release(qn_eval *e);

#endif
