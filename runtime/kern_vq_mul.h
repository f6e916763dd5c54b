/* kern_vq_mul.h: kernel of products with strips of centroids as they are stored.
 *
 *     y_i = row · Σ_j (book[main_j + i] + book[residual_j + i]) · x_j          x_j: the input times the column's scale
 *
 * Sums over runs of 256 columns are in binary32, eight apart, those over runs in binary64; their order, and so the last bits of y,
 * may differ between variants. */
#ifndef QN_RUNTIME_KERN_VQ_MUL_H
#define QN_RUNTIME_KERN_VQ_MUL_H

#include "runtime/kern_vq.h"

enum { QN_VQ_MUL_RUN = 256 };

/* Rows 0 … v − 1 of the strip: y has v numbers. x: (cols). */
typedef void (*qn_vq_mul_fn)(const qn_vq_strip *s, const float *x, float *y);

typedef struct qn_kern_vq_mul {
    qn_vq_mul_fn strip;
} qn_kern_vq_mul;

void qn_kern_vq_mul_init(qn_kern_vq_mul *k, unsigned cpu);

#if defined(__x86_64__) && defined(__GNUC__)
void qn_kern_vq_mul_avx2(qn_kern_vq_mul *k);
#endif

#endif
