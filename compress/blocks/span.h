/* span.h: moves on one row of a span: what coders of every layout share.
 *
 * e = t − r, g = M e, loss = eᵀ g. Moving r_j by d changes the loss by d² M_jj − 2 d g_j, and g by − d M_j. */
#ifndef QN_COMPRESS_BLOCKS_SPAN_H
#define QN_COMPRESS_BLOCKS_SPAN_H

#include "compress/blocks/block.h"

typedef struct qn_span {
    const qn_span_metric *m;
    const float *t; /* targets               */
    float *r;       /* what they are now       */
    float *g;       /* M (t − r)              */
} qn_span;

/* Makes order, feed and weight of a metric from its m and diag (n each, feed n × n; entries that qn_span_metric does not name are left alone). Runs of
 * 32 columns that begin at a multiple of 32 stay together, in them those of 16: coders choose the scale of a run when its turn comes. Of the runs,
 * and of the columns in them, the largest come first. False when m is not positive definite in its live columns. work: n × n. */
bool qn_span_order(uint32_t n, const float *m, const float *diag, uint16_t *order, float *feed, float *weight, double *work);

/* g from t and r. O(n²), or O(n) where nothing is fed back. */
void qn_span_begin(qn_span *s);
double qn_span_loss(const qn_span *s);
/* r_j := v, g follows. */
void qn_span_put(qn_span *s, uint32_t j, float v);

/* Least squares over k factors: r = Σ_b x_b u_b, u: (k, n). Solves min over x of (t − r)ᵀ M (t − r), with a ridge of 1e-6 of the mean diagonal; x_b of a u_b that is
 * all zero, or unseen, stays as given. k ≤ QN_SPAN_FACTORS. False when the system has no answer: x is as it was. `work`: k × n floats. */
enum { QN_SPAN_FACTORS = 32 };
bool qn_span_fit(const qn_span_metric *m, const float *t, const float *u, uint32_t k, float *x, float *work);

#endif
