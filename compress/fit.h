/* fit.h: is this group of floats a scale times small numbers, and which? */
#ifndef QN_COMPRESS_FIT_H
#define QN_COMPRESS_FIT_H

#include "runtime/dequant.h"

/* One group under test. The arrays hold `room` entries and belong to the caller. */
typedef struct qn_fit {
    qn_dtype dtype;
    unsigned grid; /* QN_GRID_* */
    uint32_t room, len;
    double *abs;   /* |v − bias|                                         */
    double *half;  /* how far rounding can have moved it: half a step    */
    uint8_t *neg;  /* sign bits, of zeros too                            */
    uint8_t *back; /* the group as it would decode                       */
    const uint8_t *src;
    float bias;
    double max, max_half;
    uint32_t n_nonzero;
    bool neg_zero, pos_zero;
    unsigned top; /* what the largest value was on the grid of the last group that fitted; 0 = none yet */
} qn_fit;

qn_code qn_fit_open(qn_fit *f, qn_arena *scratch, const qn_block *b, uint32_t room, qn_err *err) QN_MUST_CHECK;

/* Takes a group of len ≤ room units. False when it holds Inf or NaN. */
bool qn_fit_load(qn_fit *f, const uint8_t *src, uint32_t len);

/* Does the loaded group come out bit for bit with this scale? Then codes[0 … len−1] say how. */
bool qn_fit_try(qn_fit *f, float scale, uint8_t *codes);

/* Looks for a scale. */
bool qn_fit_search(qn_fit *f, float *scale, uint8_t *codes);

#endif
