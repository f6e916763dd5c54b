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

/* The same bits for all columns, in numbers that VPTQ's kernels take (2^4, 2^8, 2^10 or 2^12 centroids, residual ones 2^2 … 2^12 or none), with the least
 * error among those of at most `bits` a weight, all counted: indices in whole words, books, a scale and an offset of each column. v 0: any. When
 * there are none: those of fewest bits. Returns v. */
unsigned qn_vq_choose_even(uint32_t rows, uint32_t cols, double bits, unsigned v, qn_vq_bits *choice);

/* choice[j] for each column: they minimise Σ value · error of a layer of normal weights under the sum of all bits. Returns v. */
unsigned qn_vq_choose(const qn_vq_ask *ask, qn_vq_bits *choice);

#endif
