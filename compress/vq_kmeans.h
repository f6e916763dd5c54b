/* vq_kmeans.h: books of centroids for vectors that weigh differently: Lloyd's iteration, from a given book or from one that is grown
 * by splitting (Linde, Buzo and Gray, IEEE Trans. Communications 1980). The result depends on the arguments only. */
#ifndef QN_COMPRESS_VQ_KMEANS_H
#define QN_COMPRESS_VQ_KMEANS_H

#include "base/alloc.h"
#include "compress/ekern_vq.h"

typedef struct qn_vq_sample {
    unsigned v;
    size_t n, ld;        /* vectors; distance of coordinates, see ekern_vq.h */
    const float *x;      /* (v, ld)                                         */
    const float *weight; /* (n), ≥ 0; NULL: all 1                            */
} qn_vq_sample;

/* Improves book (k, v) by at most `rounds` iterations; ends early when a round gains less than a thousandth. *error:
 * Σ weight |x − c|² with the book as it is returned; may be NULL. A centroid that does little is put
 * beside the one that errs most. Coordinates are rounded to f16, as they are stored. */
qn_code qn_vq_lloyd(const qn_ekern_vq *kern, const qn_vq_sample *s, float *book, uint32_t k, unsigned rounds, double *error,
                    qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* Grows a book of k = 2^n centroids, then as qn_vq_lloyd. */
qn_code qn_vq_grow(const qn_ekern_vq *kern, const qn_vq_sample *s, float *book, uint32_t k, unsigned rounds, double *error,
                   qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

#endif
