/* kern_vq.h: kernels of the vq codec (docs/codecs/vq.md): indices → centroids → rows of weights.
 *
 * A strip is v rows: one bit string with a field for each column, in the order of columns; a field is the index of a centroid,
 * lowest bit first, then that of a residual centroid. Weight (i, j) of the strip, in IEEE binary32,
 *     (book[main_j + i] + book[residual_j + i]) × (row × col[j])
 * where the sum is left out when no class has residual centroids; then rounded to nearest even to the dtype. No operand or
 * product is subnormal. All variants give the same bytes. */
#ifndef QN_RUNTIME_KERN_VQ_H
#define QN_RUNTIME_KERN_VQ_H

#include "base/shape.h"
#include "quern/base.h"

enum { QN_VQ_BOOK_SLACK = 16 }; /* floats behind the last centroid that may be read */

/* Where the columns' fields and centroids are: arrays of `cols`. */
typedef struct qn_vq_fields {
    uint32_t *byte, *shift; /* a field begins at that bit of that byte; it is at most 24 bits long                       */
    uint32_t *mask, *base;  /* place of the centroid: base + (field & mask) · v                                        */
    uint32_t *shift2, *mask2, *base2; /* the same of the residual centroid, shift2 from the bit of the byte; or all NULL */
} qn_vq_fields;

typedef struct qn_vq_strip {
    unsigned v;
    uint32_t cols;
    const float *book;   /* QN_VQ_BOOK_SLACK floats more than there are centroids */
    qn_vq_fields at;
    bool bytes_all;      /* all fields are one byte, all bases the same, and no residuals */
    const float *col;    /* (cols): scales                                        */
    /* of the strip at hand: */
    const uint8_t *bytes;
    size_t n_bytes;      /* no more may be read */
    float row;
} qn_vq_strip;

/* Rows 0 … m − 1 of the strip, m ≤ v, row i to dst + i · row_bytes, any alignment. */
typedef void (*qn_vq_rows_fn)(const qn_vq_strip *s, qn_dtype t, uint32_t m, uint8_t *dst, size_t row_bytes);

typedef struct qn_kern_vq {
    unsigned cpu;
    qn_vq_rows_fn rows;
} qn_kern_vq;

void qn_kern_vq_init(qn_kern_vq *k, unsigned cpu);

void qn_vq_rows_c(const qn_vq_strip *s, qn_dtype t, uint32_t m, uint8_t *dst, size_t row_bytes);
/* Columns from … cols − 1: the end of a strip for the other variants. */
void qn_vq_rows_from(const qn_vq_strip *s, qn_dtype t, uint32_t m, uint32_t from, uint8_t *dst, size_t row_bytes);

#if defined(__x86_64__) && defined(__GNUC__)
void qn_kern_vq_avx2(qn_kern_vq *k);
void qn_kern_vq_avx512(qn_kern_vq *k);
#endif

#endif
