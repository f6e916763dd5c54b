/* vq_rate.h: how long the vectors are and how many bits of index each column gets. */
#ifndef QN_COMPRESS_VQ_RATE_H
#define QN_COMPRESS_VQ_RATE_H

#include "base/alloc.h"
#include "runtime/vq.h"

typedef struct qn_vq_bits {
    uint8_t main, residual; /* bits of index */
} qn_vq_bits;

typedef struct qn_vq_ask {
    const double *value;  /* (cols): weight times variance: what an error costs */
    uint32_t rows, cols;
    double bits;          /* of a weight, books included                        */
    unsigned v;           /* 0: whatever is best                                 */
    uint32_t stored;      /* bit b: a book of 2^b centroids would be stored though there is a constant one */
} qn_vq_ask;

/* Mean squared error of a weight of variance 1. */
double qn_vq_error(unsigned v, qn_vq_bits bits);

/* Bits that the books of a class take. */
double qn_vq_book_bits(unsigned v, qn_vq_bits bits, uint32_t stored);

/* choice[j] for each column: they minimise Σ value · error of a layer of normal weights under the sum of all bits. Returns v. */
unsigned qn_vq_choose(const qn_vq_ask *ask, qn_vq_bits *choice);

#endif
