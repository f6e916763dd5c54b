/* dense.h: what decoder and encoder of the dense codec agree on. Format: docs/codecs/dense.md. */
#ifndef QN_RUNTIME_DENSE_H
#define QN_RUNTIME_DENSE_H

#include "runtime/codec.h"

enum {
    QN_DENSE_M_MAX = 3,      /* fraction bits in a code    */
    QN_DENSE_TABLES_MAX = 4, /* row classes                */
    /* first byte of a payload */
    QN_DENSE_M_BITS = 3,
    QN_DENSE_SIGN = 4,
    QN_DENSE_TABLES_SHIFT = 3, /* two bits: tables − 1 */
    QN_DENSE_ROWS = 32,
    QN_DENSE_COLS = 64,
    QN_DENSE_SHAPE = 128,      /* tables are not stored but made from a shape */
    /* shapes */
    QN_DENSE_SHAPES = 8,
    QN_DENSE_SHAPE_BELOW = 13,   /* octaves that the distributions reach below the mean logarithm */
    QN_DENSE_SHAPE_POINTS = 289, /* … in steps of 1/16 octave, to 5 octaves above it */
    QN_DENSE_SHAPE_WINDOW = 11   /* octaves from symbol QN_DENSE_FIRST to the scale's octave */
};

extern const uint16_t qn_dense_shape[QN_DENSE_SHAPES][QN_DENSE_SHAPE_POINTS];

/* Table of a shape whose mean logarithm is place/16 (≤ 27) octaves above the start of the scale's octave. */
void qn_dense_shape_weights(unsigned shape, unsigned place, uint16_t weight[256]);
void qn_dense_shape_freq(unsigned shape, unsigned place, uint16_t freq[256]);

/* False when dtype is not a float of 16 bits or more, or has fewer than m fraction bits at hand. */
bool qn_dense_cut_make(qn_dense_cut *cut, qn_dtype t, unsigned m, bool sign_coded);

/* The planes of raw bits and low bytes do not end in the payload: their last bytes are the low halves of the states that
 * the lanes start from when encoding and end in when decoding. Units from `split` on, a multiple of 8, may touch those. */
typedef struct qn_dense_tail {
    size_t carry;                  /* bytes that the states hold: the last ones of pack and low plane */
    size_t split;                  /* units before it lie wholly in the payload */
    size_t pack_head, low_head;    /* bytes of the planes before `split` */
    size_t pack_tail, low_tail;    /* and after it */
} qn_dense_tail;

qn_dense_tail qn_dense_tail_of(const qn_dense_cut *cut, size_t n, unsigned n_lanes);

/* Row length: what the block says, or 2^log2 when the payload says so. */
static inline uint32_t qn_dense_row_units(const qn_block *b, unsigned log2)
{
    const uint32_t want = log2 ? UINT32_C(1) << log2 : b->cols;
    return want < b->n ? want : b->n;
}

#endif
