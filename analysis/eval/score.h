/* score.h: how well one row of logits predicts a token, alone and against a reference; and the figures of many of them.
 *
 * Natural logarithms (nats); all sums in f64. Statistical unit: the chunk. A mean over tokens is the ratio R = Σ y_c / Σ n_c of
 * sums over chunks; its standard error is that of the ratio estimator,
 *     SE² = m / (m − 1) · Σ (y_c − R n_c)² / (Σ n_c)²,
 * its interval R ± t · SE with Student's t of m − 1 degrees of freedom, 95 % (Cochran, Sampling Techniques, §2.11 and §6.4). */
#ifndef QN_ANALYSIS_EVAL_SCORE_H
#define QN_ANALYSIS_EVAL_SCORE_H

#include "base/alloc.h"

typedef struct qn_token_score {
    double nll;          /* −ln q(target)                                                   */
    double nll_ref;      /* −ln p(target) of the reference                                  */
    double kl;           /* Σ p ln(p / q) ≥ 0                                               */
    double dp;           /* q(target) − p(target)                                           */
    bool top;            /* the most probable token is the target's                         */
    bool same_top;       /* most probable token of both is one; of equals the lowest id counts */
} qn_token_score;

/* logits, ref: n_vocab each; ref NULL: the last four fields but `top` stay 0. QN_E_INPUT when a logit is NaN or +∞, or
 * all are −∞; single ones may be −∞: tokens that cannot come. */
qn_code qn_score_token(const float *logits, const float *ref, uint32_t n_vocab, uint32_t target, qn_token_score *s,
                       qn_err *err) QN_MUST_CHECK;

/* What a chunk adds up to. */
typedef struct qn_chunk_score {
    uint64_t n;
    double nll, nll_ref, kl, dp, dp2;
    uint64_t n_top, n_same_top;
} qn_chunk_score;
void qn_chunk_add(qn_chunk_score *c, const qn_token_score *s);

/* NaN where there is nothing to say: one chunk has no interval. */
typedef struct qn_estimate {
    double value, se, low, high;
} qn_estimate;

/* Mean over tokens of field y (given by its offset in qn_chunk_score, a double). */
qn_estimate qn_mean_of(const qn_chunk_score *c, uint64_t n_chunks, size_t y);
/* Of the paired difference nll − nll_ref. */
qn_estimate qn_mean_excess(const qn_chunk_score *c, uint64_t n_chunks);
/* exp of value and ends; se by the delta rule. */
qn_estimate qn_exp_estimate(qn_estimate e);
/* A share k of n: Wilson's interval, 95 % (Wilson 1927), with n shrunk to what n tokens in n_chunks chunks are worth: design effect
 * from the shares of the chunks, never below 1. */
qn_estimate qn_share_of(const qn_chunk_score *c, uint64_t n_chunks, bool same_top);

/* Quantile of Student's t: P(|T| ≤ t) = 0.95 for df ≥ 1. */
double qn_student95(uint64_t df);

/* The q-quantile (0 … 1) of n values, which are reordered: linear between neighbours (type 7 of Hyndman and Fan 1996). */
double qn_quantile(float *v, uint64_t n, double q);

#endif
