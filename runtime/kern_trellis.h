/* kern_trellis.h: kernels of the trellis codec: a tile of up to 32 rows of a group of up to 16 columns, from words of bits to floats.
 *
 *     w = (float)(Σ bytes of (window × multiplier mod 2^32) − 510) × step
 *
 * in IEEE binary32, then rounded to nearest even to the dtype. runtime/trellis.h says what windows and words are. */
#ifndef QN_RUNTIME_KERN_TRELLIS_H
#define QN_RUNTIME_KERN_TRELLIS_H

#include "quern/base.h"

enum { QN_TRELLIS_LANES = 16, QN_TRELLIS_TILE = 32, QN_TRELLIS_K_MAX = 8 };

typedef enum qn_trellis_out { QN_TRELLIS_F32, QN_TRELLIS_BF16, QN_TRELLIS_F16, QN_TRELLIS_OUTS } qn_trellis_out;

typedef struct qn_trellis_group {
    uint32_t last[QN_TRELLIS_LANES]; /* the word that the lane took last; before the first one: the bits before the string */
    uint32_t k[QN_TRELLIS_LANES];
    uint32_t multiplier[QN_TRELLIS_LANES];
    float step[QN_TRELLIS_LANES];
    uint16_t refill[QN_TRELLIS_TILE]; /* lanes that take a word before row t of a tile */
    uint8_t at[QN_TRELLIS_TILE];      /* words that were taken in the tile before that */
    uint32_t n;                       /* lanes: 1 … 16 */
} qn_trellis_group;

typedef struct qn_trellis_tile {
    const uint8_t *words; /* the group's words of this tile, little-endian                 */
    size_t n_bytes;       /* that may be read from there, those of the words at least       */
    uint32_t rows;        /* 1 … 32                                                         */
    uint32_t mask;        /* 2^L − 1                                                        */
} qn_trellis_tile;

/* Row t of the group goes to dst + t · row_bytes. Leaves g->last ready for the next tile. */
typedef void (*qn_trellis_tile_fn)(qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes);

/* sum[16 t + lane] += w × x[lane], where w × x is taken as (float)(…) × xs[lane], xs[lane] = step × x. xs: 16, zeros behind n. */
typedef void (*qn_trellis_dot_fn)(qn_trellis_group *g, const qn_trellis_tile *t, const float *xs, float *sum);

typedef struct qn_kern_trellis {
    unsigned cpu;
    qn_trellis_tile_fn tile[QN_TRELLIS_OUTS];
    qn_trellis_dot_fn dot;
} qn_kern_trellis;

void qn_kern_trellis_init(qn_kern_trellis *k, unsigned cpu);

/* The C reference; also what the others do near the end of a payload and for groups that are not full. */
void qn_trellis_tile_c(qn_trellis_out out, qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes);
void qn_trellis_dot_c(qn_trellis_group *g, const qn_trellis_tile *t, const float *xs, float *sum);

static inline int32_t qn_trellis_value(uint32_t window, uint32_t multiplier)
{
    const uint32_t x = window * multiplier;
    return (int32_t)((x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24)) - 510;
}

#if defined(__x86_64__) && defined(__GNUC__)
void qn_kern_trellis_avx2(qn_kern_trellis *k);
void qn_kern_trellis_avx512(qn_kern_trellis *k);
#endif

#endif
