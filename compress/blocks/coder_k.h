/* coder_k.h: super-blocks of 256 whose parts have small whole scales (and minima) of their own: what the coders of these types share.
 *
 * A part's values are r = (d s) l − (dmin m): d, dmin are halves of the super-block, s and m the part's whole numbers, l a level of the type:
 * whole numbers lo … hi, or, IQ4_XS, the sixteen of a table. Products are rounded to f32 in this order, as the decoder rounds them. */
#ifndef QN_COMPRESS_BLOCKS_CODER_K_H
#define QN_COMPRESS_BLOCKS_CODER_K_H

#include "compress/blocks/span.h"

enum {
    QN_K_PARTS = 16,   /* most parts                                                         */
    QN_K_WIDTH = 32,   /* widest part; parts × width = 256                                       */
    QN_K_LANES = 32,   /* pairs of scale and minimum that are tried together                      */
    QN_K_LEVELS = 512  /* entries of a table of levels: entry i holds the level nearest to [i / 2 − 128, (i + 1) / 2 − 128) */
};

typedef struct qn_k_layout {
    uint32_t parts, width;
    int scale_lo, scale_hi; /* of s                                          */
    int min_hi;             /* of m, from 0; 0: the type has no minima          */
    float lo, hi;           /* of levels, lo ≤ 0 ≤ hi                         */
    const float *table;     /* QN_K_LEVELS, or NULL                           */
} qn_k_layout;

/* What a super-block says. */
typedef struct qn_k_fields {
    uint16_t d, dmin; /* bits of halves */
    int16_t scale[QN_K_PARTS];
    uint8_t min[QN_K_PARTS];
    int8_t level[QN_SPAN_MAX];
} qn_k_fields;

/* --- coder_k_solve.c --------------------------------------------------------------------------------------------------------- */

/* Chooses all fields for one span, and r, what they decode to. */
enum { QN_K_SCRATCH_BYTES = 64 << 10 };
void qn_k_solve(const qn_k_layout *y, const qn_span_metric *m, const float *t, qn_k_fields *f, float *r, void *scratch);

/* --- coder_k_lanes.c: QN_K_LANES pairs of one part at a time ------------------------------------------------------------------ */

typedef struct qn_k_part {
    uint32_t n;
    const float *t;      /* (n): targets                                                                           */
    const float *u;      /* (n): with the errors of other parts fed in                                                   */
    const float *weight; /* (n)                                                                                         */
    const float *feed;   /* (n, n): row k has what error k does to targets k + 1 … n − 1; NULL: nothing is fed back   */
} qn_k_part;

typedef struct qn_k_lanes {
    float scale[QN_K_LANES], offset[QN_K_LANES]; /* d s, dmin m: given                                                      */
    float loss[QN_K_LANES];
    float level[QN_K_WIDTH][QN_K_LANES], e[QN_K_WIDTH][QN_K_LANES]; /* e: t − r */
} qn_k_lanes;

/* One pair fitted to numbers; its curvature, for the rounding that follows. */
typedef struct qn_k_pair {
    float scale, offset;
    float ll, l, w; /* Σ weight l², Σ weight l, Σ weight */
    float loss;
} qn_k_pair;

typedef struct qn_k_block {
    uint32_t n;
    const float *m;     /* (n, n): M of the part                      */
    const float *g;     /* (n): M (t − r) as it is                     */
    const float *r;     /* (n): as it is                                */
    const float *start; /* (n): levels as they are                      */
} qn_k_block;

/* All variants give the same bits. */
typedef struct qn_k_kern {
    /* Rounds the part's columns one after the other; loss: Σ weight (u_j − r_j)² where u_j has the errors before it fed in. */
    void (*round)(const qn_k_layout *y, const qn_k_part *p, qn_k_lanes *l);
    /* One pair fitted to x in real numbers: from ranges that are a little narrower than that of x on either side, or, without minima, a little
     * narrower or wider (and of both signs, where scales have both), by turns of rounding and weighted least squares. offset ≥ 0, or 0 where the
     * type has none. The pair with the least loss. */
    qn_k_pair (*guess)(const qn_k_layout *y, uint32_t n, const float *x, const float *weight);
    /* Levels of the part chosen again, all other parts as they are: coordinate descent from `start`. l->loss: what the loss changes by; l->level:
     * the new ones; l->e: r_new − r. */
    void (*move)(const qn_k_layout *y, const qn_k_block *b, unsigned sweeps, qn_k_lanes *l);
} qn_k_kern;
const qn_k_kern *qn_k_kern_for(unsigned cpu);

/* The level nearest to x; halves to the even one. */
static inline float qn_k_nearest(const qn_k_layout *y, float x)
{
    x = x < y->lo ? y->lo : x;
    x = x > y->hi ? y->hi : x;
    return y->table ? y->table[(int)(2 * x + QN_K_LEVELS / 2)] : (x + 12582912.0f) - 12582912.0f; /* 1.5 · 2^23: the sum has no fraction left */
}

/* --- coder_k.c: layouts, fields → bytes ----------------------------------------------------------------------------------------- */

extern const float qn_k_uneven[QN_K_LEVELS];
extern const qn_k_layout qn_k_layout_q2, qn_k_layout_q3, qn_k_layout_q4, qn_k_layout_q5, qn_k_layout_q6, qn_k_layout_iq4;
void qn_k_pack_q2(const qn_k_fields *f, uint8_t *block);
void qn_k_pack_q3(const qn_k_fields *f, uint8_t *block);
void qn_k_pack_q4(const qn_k_fields *f, uint8_t *block);
void qn_k_pack_q5(const qn_k_fields *f, uint8_t *block);
void qn_k_pack_q6(const qn_k_fields *f, uint8_t *block);
void qn_k_pack_iq4(const qn_k_fields *f, uint8_t *block);

#endif
