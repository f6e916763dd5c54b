/* ekern_vq.h: the nearest centroid, for many vectors at once.
 *
 * Vectors are held by coordinate: x[d · ld + i] is coordinate d of vector i. Of all centroids c the one is taken for which
 *     (½|c|² − x_0 c_0) − x_1 c_1 − …          in IEEE binary32, from left to right, unfused
 * is least, the first of equals; that is ½|x − c|² less ½|x|². All variants find the same. Finite numbers only. */
#ifndef QN_COMPRESS_EKERN_VQ_H
#define QN_COMPRESS_EKERN_VQ_H

#include "quern/base.h"

typedef struct qn_vq_book {
    unsigned v;
    uint32_t k;        /* centroids, 1 … 65535  */
    const float *c;    /* (k, v)                */
    const float *half; /* (k): ½|c|²            */
} qn_vq_book;

/* n vectors → at[0 … n − 1]. */
typedef void (*qn_vq_nearest_fn)(const qn_vq_book *b, const float *x, size_t ld, size_t n, uint16_t *at);

typedef struct qn_ekern_vq {
    qn_vq_nearest_fn nearest;
} qn_ekern_vq;

void qn_ekern_vq_init(qn_ekern_vq *k, unsigned cpu);

/* half[i] = ½|c_i|², summed from the first coordinate on. */
void qn_vq_book_halves(const float *c, unsigned v, uint32_t k, float *half);

void qn_vq_nearest_c(const qn_vq_book *b, const float *x, size_t ld, size_t n, uint16_t *at);

#if defined(__x86_64__) && defined(__GNUC__)
void qn_ekern_vq_avx2(qn_ekern_vq *k);
void qn_ekern_vq_avx512(qn_ekern_vq *k);
#endif

#endif
