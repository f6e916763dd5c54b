/* dense_model.h: what the dense encoder finds out about a block before it writes it. */
#ifndef QN_COMPRESS_DENSE_MODEL_H
#define QN_COMPRESS_DENSE_MODEL_H

#include "compress/encode.h"
#include "runtime/dense.h"

enum {
    QN_DM_SPAN = 512, /* bins of a histogram: relative magnitudes −256 … 255 */
    QN_DM_ZERO = 256  /* bin of relative magnitude 0 */
};

/* A unit seen in full: magnitude (exponent and two fraction bits) and sign, as magnitude·2 + sign. A magnitude is about
 * four times the logarithm of the value, so sums of magnitudes measure scale in quarter octaves, in integers. */
typedef struct qn_dense_view {
    const uint16_t *fine; /* n values */
    uint32_t n, cols, n_rows;
    unsigned log2_row; /* rows of 2^log2_row units instead of the block's; 0: the block's */
} qn_dense_view;

/* How a block will be written. */
typedef struct qn_dense_model {
    unsigned m, sign_coded, n_tables;
    bool has_rows, has_cols, has_shape;
    unsigned shape, phase;  /* with has_shape: see runtime/dense.h */
    unsigned log2_row;
    uint32_t cols, n_rows;
    int oct_first;      /* octave of row value 0 */
    int window[QN_DENSE_TABLES_MAX]; /* by table: relative code of symbol QN_DENSE_FIRST */
    uint8_t *rows, *col; /* by row: octave × n_tables + table; by column: octaves */
    uint64_t cost;       /* estimated bits × 2^16 */
} qn_dense_model;

/* Replaces *best by the cheapest model for this view when it is cheaper. */
qn_code qn_dense_model_fit(const qn_enc_ctx *cx, const qn_dense_view *v, qn_dtype t, qn_dense_model *best,
                           qn_err *err) QN_MUST_CHECK;

#endif
