/* levels.h: types whose blocks are r = d · level[code], or d · level[code] + m: one scale (and maybe a minimum) a block.
 *
 * All that such a coder has of its own is its levels, how it rounds a scale, and where bytes lie. */
#ifndef QN_COMPRESS_BLOCKS_LEVELS_H
#define QN_COMPRESS_BLOCKS_LEVELS_H

#include "compress/blocks/span.h"

enum { QN_LEVELS_BLOCKS = 16 /* most in a span */ };

typedef struct qn_levels {
    uint32_t block;     /* columns */
    unsigned n;         /* levels, 2 … 256                                                                     */
    float lo;           /* level[code] = lo + code, where `level` is NULL                                      */
    const float *level; /* (n) ascending, n ≤ 16                                                               */
    const float *mid;   /* (15) between them; FLT_MAX behind the last                                          */
    bool offset;        /* there is an m                                                                       */
    bool both;          /* levels are not symmetric: a scale of either sign is tried                           */
    float from, to;     /* scales to try, over that which reaches the largest value                            */
    unsigned tries;
    unsigned moves;     /* further scales that a block tries with all others as they are                       */
    float (*scale)(float d);  /* the nearest that can be stored                                                */
    float (*next)(float d, int up); /* the one that follows it, where there are few; NULL: they are dense      */
} qn_levels;

typedef struct qn_levels_answer {
    float d[QN_LEVELS_BLOCKS], m[QN_LEVELS_BLOCKS]; /* as stored */
    uint8_t code[QN_SPAN_MAX];
} qn_levels_answer;

/* Fills *a and r: (m->n), what it decodes to. `scratch`: QN_LEVELS_SCRATCH bytes. */
void qn_levels_encode(const qn_levels *l, const qn_span_metric *m, const float *t, qn_levels_answer *a, float *r, void *scratch);
#define QN_LEVELS_SCRATCH ((size_t)64 << 10)

/* Its variants, which give the same. */
void qn_levels_encode_c(const qn_levels *l, const qn_span_metric *m, const float *t, qn_levels_answer *a, float *r, void *scratch);
void qn_levels_encode_avx2(const qn_levels *l, const qn_span_metric *m, const float *t, qn_levels_answer *a, float *r, void *scratch);
void qn_levels_encode_avx512(const qn_levels *l, const qn_span_metric *m, const float *t, qn_levels_answer *a, float *r, void *scratch);

/* To the nearest binary16, never beyond its range. */
float qn_levels_half(float d);

#endif
