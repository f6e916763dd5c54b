/* ect_pack.h: writes the payload of the entropy-coded trellis codec. docs/codecs/ect.md. */
#ifndef QN_COMPRESS_ECT_PACK_H
#define QN_COMPRESS_ECT_PACK_H

#include "compress/ect_search.h"
#include "compress/encode.h"

typedef struct qn_ect_levels {
    uint32_t rows, cols;
    float base;           /* step of column j: qn_ect_step(base, q[j])          */
    const uint8_t *q;     /* cols                                               */
    const uint8_t *class; /* cols                                               */
    const int8_t *row;    /* rows: added to the class of the column             */
    const int16_t *level; /* (rows, cols), each column a path of the book's trellis */
} qn_ect_levels;

/* *n_out = 0 when the payload would need more than cap bytes. */
qn_code qn_ect_pack(const qn_enc_ctx *cx, const qn_ect_book *b, const qn_ect_levels *l, uint8_t *dst, size_t cap,
                    size_t *n_out, qn_err *err) QN_MUST_CHECK;

/* Lanes that a payload of n weights in rows of cols has, as a power of two: more for larger ones, which are decoded faster by
 * that; each costs four bytes. */
unsigned qn_ect_log2_lanes(uint64_t n, uint32_t cols);

#endif
