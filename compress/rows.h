/* rows.h: which rows of a block are equal, or nearly, and how that is written (docs/codecs/rowdup.md). */
#ifndef QN_COMPRESS_ROWS_H
#define QN_COMPRESS_ROWS_H

#include "compress/nest.h"

typedef struct qn_rows {
    uint32_t n_rows, n_unique;
    uint32_t *map;   /* n_rows: number of the unique row that each is; undefined, as `first`, when none are equal */
    uint32_t *first; /* n_unique: the row where each was seen first                                          */
} qn_rows;

/* n_unique == n_rows when none are equal, or too few to be worth a closer look. Memory from scratch. */
qn_code qn_rows_match(qn_rows *m, const uint8_t *src, uint32_t n_rows, size_t row_bytes, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;
/* The same for rows that differ by no more than `share` of their square: |a − b|² ≤ share · |a|². w: (n_rows, cols), finite. `first` is
 * the row that stands for the others; it may be a later one. Good at finding clusters, no more. */
qn_code qn_rows_near(qn_rows *m, const float *w, uint32_t n_rows, uint32_t cols, double share, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;
/* Appends how many are unique, and the map. */
qn_code qn_rows_put_map(const qn_enc_ctx *cx, qn_sink *s, const qn_rows *m, qn_err *err) QN_MUST_CHECK;

#endif
