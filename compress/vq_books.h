/* vq_books.h: what the vq quantizer decides about a segment before its columns are visited: which columns are alike, and their books. */
#ifndef QN_COMPRESS_VQ_BOOKS_H
#define QN_COMPRESS_VQ_BOOKS_H

#include "compress/vq_kmeans.h"
#include "compress/vq_rate.h"

typedef struct qn_vq_class {
    qn_vq_bits bits;
    bool stored;            /* the main book is not the constant one   */
    uint32_t n_cols;
    float *main, *residual; /* (2^bits, v); NULL for no bits           */
    float *main_half, *residual_half;
} qn_vq_class;

typedef struct qn_vq_books {
    unsigned v, n_classes;
    uint8_t *of; /* (cols): class of a column */
    qn_vq_class cls[QN_VQ_CLASSES];
} qn_vq_books;

/* Vectors of columns in units of their scales, class by class: what books are trained on. */
typedef struct qn_vq_capture {
    float *x[QN_VQ_CLASSES];      /* (v, room) */
    float *weight[QN_VQ_CLASSES]; /* (room)    */
    size_t room[QN_VQ_CLASSES], n[QN_VQ_CLASSES];
} qn_vq_capture;

/* Classes for these choices (cols); constant books where there are such. All memory from `arena`. */
qn_code qn_vq_books_make(qn_vq_books *b, unsigned v, const qn_vq_bits *choice, uint32_t cols, qn_arena *arena,
                         qn_err *err) QN_MUST_CHECK;

/* Rounds all coordinates to what F16 and BF16 both hold: 8 significant bits. */
void qn_vq_books_shorten(qn_vq_books *b);

/* Room for `strips` vectors of each column. */
qn_code qn_vq_capture_make(qn_vq_capture *c, const qn_vq_books *b, uint32_t strips, qn_arena *arena, qn_err *err) QN_MUST_CHECK;

/* Trains what is stored, and grows what is still empty. With `constant_too` nothing is trained: bit b is set when a book of 2^b
 * centroids is worth its bits in place of the constant one, if the class has `whole` times the vectors that were captured. */
qn_code qn_vq_books_train(qn_vq_books *b, const qn_vq_capture *c, const qn_ekern_vq *kern, double whole, uint32_t *constant_too,
                          qn_arena *arena, qn_err *err) QN_MUST_CHECK;

#endif
