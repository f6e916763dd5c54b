/* ect.h: the trellis and the tables of the entropy-coded trellis codec, shared by decoder and encoder.
 * Format and formulas: docs/codecs/ect.md.
 *
 * Levels are whole multiples ℓ of a column's step. A trellis of S states says whether the next level is even or odd; inside
 * that half the level has an index k, ℓ = 2k + z (z = 1: odd), coded with probabilities that depend on z and on a *class*:
 * the spread of the levels, in sixths of an octave. k's lowest bit drives the trellis (Ungerboeck's set partition:
 * levels mod 4). One state is a plain scalar quantizer: all levels are even. */
#ifndef QN_RUNTIME_ECT_H
#define QN_RUNTIME_ECT_H

#include "quern/base.h"

#define QN_ECT_BITS    14 /* probabilities are in 2^-14 */
#define QN_ECT_M       (1u << QN_ECT_BITS)
#define QN_ECT_SYMS    64 /* symbol = k + 32; 0 and 1 are the escapes of even and odd k */
#define QN_ECT_ZERO    32
#define QN_ECT_K_MAX   29 /* coded without an escape: −30 ≤ k ≤ 29, and 30 when ℓ is even */
#define QN_ECT_CLASSES 30 /* tables; classes beyond have 1 … 8 low bits of k / 2 stored plain */
#define QN_ECT_OCTAVE  6  /* classes in an octave                                             */
#define QN_ECT_LOW_MAX 8
#define QN_ECT_SHAPES  5  /* density ∝ exp(−|ℓ/s|^b / b), b = 2, 1.75, 1.5, 1.25, 1            */
#define QN_ECT_LANES_MAX 64
#define QN_ECT_START   65536u /* the state a lane ends in: 2^16 */
#define QN_ECT_OFFSETS 3  /* reconstruction offsets of |ℓ| = 1, 2, and more, in 1/64 of a step  */
#define QN_ECT_STEPS   16 /* steps in an octave                                               */

/* State s: z = s & 1; next = s >> 1 ^ (z ? h0 : 0) ^ (k odd ? h1 : 0). */
typedef struct qn_ect_code {
    unsigned log2_states; /* 0, or 2 … 8 */
    uint8_t h0, h1;
} qn_ect_code;

/* False when there is no code of so many states. */
bool qn_ect_code_get(unsigned log2_states, qn_ect_code *c);

static inline unsigned qn_ect_next(const qn_ect_code *c, unsigned state, unsigned k)
{
    return state >> 1 ^ ((0u - (state & 1)) & c->h0) ^ ((0u - (k & 1)) & c->h1);
}

/* The last class of a shape that has a table; class c above it uses table c − 6e, e = ⌈(c − top) / 6⌉, with e low bits. */
extern const uint8_t qn_ect_top[QN_ECT_SHAPES];

static inline unsigned qn_ect_clamp(int class, unsigned top)
{
    const int most = (int)top + QN_ECT_OCTAVE * QN_ECT_LOW_MAX;
    return (unsigned)(class < 0 ? 0 : class > most ? most : class);
}

static inline unsigned qn_ect_low_bits(unsigned class, unsigned top)
{
    return class <= top ? 0 : (class - top + QN_ECT_OCTAVE - 1) / QN_ECT_OCTAVE;
}

static inline unsigned qn_ect_table(unsigned class, unsigned top)
{
    return class - QN_ECT_OCTAVE * qn_ect_low_bits(class, top);
}

/* Classes of columns are stored as what they are more than a column of unit spread would have: class = v − ⌊3q/8⌋ mod 256. */
static inline uint8_t qn_ect_col_class(unsigned stored, unsigned q)
{
    return (uint8_t)(stored - 3 * q / 8);
}

/* Frequencies by symbol, sum QN_ECT_M, each below it; 0 for levels that are left to the escapes. */
void qn_ect_freq(unsigned shape, unsigned table, unsigned z, uint16_t freq[QN_ECT_SYMS]);

/* Alias tables (Walker; Vose 1991): slot → bucket = slot / 256. Low word: bits 0–8 split: places of the bucket from this
 * one on belong to `other`; 9–14 other; 15–28 added to the place to give the offset in `other`, mod 2^14.
 * High word: bits 0–13 frequency of the bucket's own symbol, 14–27 that of `other`. */
void qn_ect_alias(const uint16_t freq[QN_ECT_SYMS], uint64_t bucket[QN_ECT_SYMS]);

/* 64 × the reconstruction of level ℓ in steps: kind 0: one state, 1: 4 and 8 states, 2: more. */
int32_t qn_ect_point(unsigned kind, unsigned shape, unsigned table, int32_t level);

static inline unsigned qn_ect_kind(unsigned log2_states)
{
    return log2_states == 0 ? 0 : log2_states <= 3 ? 1 : 2;
}

/* base · 2^(q/16): the same on every machine. base: positive, normal. */
float qn_ect_step(float base, unsigned q);

/* runtime/ect_tab.c */
extern const uint32_t qn_ect_log2_tab[65];  /* log2(i) · 2^16, [0] unused             */
extern const uint32_t qn_ect_exp2_tab[257]; /* 2^(i/256) · 2^24                       */
extern const uint32_t qn_ect_step_tab[QN_ECT_STEPS]; /* 2^(i/16) as f32 bits           */
extern const int8_t qn_ect_offset_tab[3][QN_ECT_SHAPES][QN_ECT_CLASSES][QN_ECT_OFFSETS];

#endif
