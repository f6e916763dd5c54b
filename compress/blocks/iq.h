/* iq.h: coders for ggml's i-quants: vectors of eight or four values that are points of a fixed set (base/ggml_iq.c has the layouts).
 *
 * All seven types are one problem: a super-block of 256 columns has one scale d, a sub-block of 32 or 16 has a scale code s, and every *unit* of
 * columns takes
 *     r = d (scale0 + scale1 s) c,     c = ± a point (all signs free, or an even number of minuses in eight), or a point ± 1/8.
 * A unit is what cannot be chosen in parts: eight columns, or four where the signs are free. What the types differ in is a row of facts (qn_iq_kind) and
 * where the bits go. */
#ifndef QN_COMPRESS_BLOCKS_IQ_H
#define QN_COMPRESS_BLOCKS_IQ_H

#include "compress/blocks/span.h"

enum { QN_IQ_COLS = 256, QN_IQ_POINTS = 2048, QN_IQ_HALVES = 81 };

typedef enum qn_iq_signs {
    QN_IQ_EVEN, /* the eighth sign of eight makes the number of minuses even */
    QN_IQ_FREE,
    QN_IQ_SHIFT /* no signs: levels −1, 0, 1, moved by +1/8 or −1/8          */
} qn_iq_signs;

/* The points of a set by their first halves, for searching. A half is two or four levels as one number: base 8 or base 3, the first lowest. */
typedef struct qn_iq_index {
    uint16_t halves;                    /* numbers a half may have: 81 or 64                          */
    uint16_t begin[QN_IQ_HALVES + 1];   /* entries of first half h are begin[h] … begin[h + 1] − 1     */
    uint8_t second[QN_IQ_POINTS];       /* by entry: its second half                                  */
    uint16_t point[QN_IQ_POINTS];       /* by entry: its index in the type's grid                     */
} qn_iq_index;

/* What a block says. */
typedef struct qn_iq_fields {
    uint16_t d;                         /* binary16                                  */
    uint8_t scale[16];                  /* by sub-block                              */
    uint8_t below[32];                  /* by eight columns: 1 is a shift by −1/8    */
    uint8_t signs[32];                  /* by eight columns: bit i is a minus        */
    uint16_t index[64];                 /* by point                                  */
} qn_iq_fields;

typedef struct qn_iq_kind {
    const uint16_t *grid;
    uint16_t points;
    uint8_t bits, values;  /* of a level in a packed point; values in a point: 8 or 4       */
    uint8_t unit, sub;     /* columns of a unit: 8 or 4; columns under one scale: 32 or 16   */
    uint8_t top, room;     /* the largest scale code; how far below it that of the largest sub-block begins */
    bool shared_shift;     /* one shift for a sub-block, not one for each unit                */
    qn_iq_signs signs;
    float scale0, scale1;
    float typical;         /* the scale that suits values of mean square 1                   */
    float level[8];        /* before the shift                                              */
    void (*pack)(const qn_iq_fields *f, uint8_t *block);
    void (*decode)(const uint8_t *block, float *r); /* QN_IQ_COLS values                      */
} qn_iq_kind;

extern const qn_iq_kind qn_kind_iq1_s, qn_kind_iq1_m, qn_kind_iq2_xxs, qn_kind_iq2_xs, qn_kind_iq2_s, qn_kind_iq3_xxs, qn_kind_iq3_s;

/* The index of a kind's grid; made at the first call, for all. */
const qn_iq_index *qn_iq_index_of(const qn_iq_kind *k);

/* Prepared from a metric: the columns' errors in the order of the tensor, unit by unit. With e the errors of a span,
 *     eᵀ M e = Σ_U z_Uᵀ S_U z_U,   z_U = e_U + Σ_{a before U} feed[a][U] e_a,
 * S_U being what is left of M's own block when all later columns make up for errors in U as well as they can. */
typedef struct qn_iq_prepared {
    float metric[QN_IQ_COLS * 8];           /* S: (units, unit, unit)                                  */
    float feed[QN_IQ_COLS * QN_IQ_COLS];    /* feed[a · 256 + b]: an error in a to the target of b, in a later unit; else 0 */
} qn_iq_prepared;

/* to: a qn_iq_prepared, zeroed; for units of eight and of four. */
void qn_iq_prepare_8(const qn_span_metric *m, void *to);
void qn_iq_prepare_4(const qn_span_metric *m, void *to);

#define QN_IQ_SCRATCH 8192
/* scratch: QN_IQ_SCRATCH bytes, aligned to 64. */
void qn_iq_encode(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch);

#endif
