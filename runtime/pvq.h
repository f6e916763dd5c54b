/* pvq.h: pyramid vector quantization: the points of the pyramid, their numbers, and what else a decoder knows of a group.
 *
 * P(n, k) = { y ∈ Zⁿ : Σ|y_i| = k } has V(n, k) points (Fischer, "A pyramid vector quantizer", IEEE Trans. IT 1986). A point
 * is named by its index, 0 … V − 1, in the order that takes y_1 = 0 first, then +1, −1, +2, −2, …, and within each of these
 * the points of the other coordinates in the same order.
 *
 * One table serves both directions. U(m, j) counts the points of P(m, j) with y_1 > 0; then
 *     U(m, j) = U(m−1, j) + U(m, j−1) + U(m−1, j−1)      U(1, j) = 1 for j > 0      U(m, 0) = 0      V(m, j) = U(m, j) + U(m, j+1)
 * and 2 U(m, j−v) points of P(m, j) have |y_1| > v. Counted from the end, R = V − 1 − index, those come first: so the rest
 * j' = j − |y_1| is the largest j' ≤ j with 2 U(m, j') ≤ R, found by search in an ascending row. What is left, R − 2 U(m, j'),
 * numbers the V(m−1, j') = U(m, j'+1) − U(m, j') points of −|y_1|, then as many of +|y_1|. */
#ifndef QN_RUNTIME_PVQ_H
#define QN_RUNTIME_PVQ_H

#include "base/alloc.h"
#include "runtime/u128.h"

#define QN_PVQ_N_MAX 256
#define QN_PVQ_K_MAX 4095

/* w: (n + 1, stride) words of 4, 8 or 16 bytes (qn_u128): w[m][j] = 2 U(m, j). Row 0 is zeros. stride is a power of two
 * above k, at least 16; words behind j = k are the largest number, so that a search may look there. The table holds P(m, j) for all
 * m ≤ n, j ≤ k. */
typedef struct qn_pvq_tab {
    uint32_t n, k, stride;
    unsigned word;
    const void *w;
    /* (n_low + 1, stride): the first rows again in 32 bits, as far as V(m, k) ≤ 2^32. Whoever walks many points at once goes
     * on with half as wide numbers there. n_low is n, and low is w, when all words are that narrow. */
    uint32_t n_low;
    const uint32_t *low;
} qn_pvq_tab;

/* V(n, k). False when it needs more than 128 bits, or n or k is out of range (1 … QN_PVQ_N_MAX, 0 … QN_PVQ_K_MAX). */
bool qn_pvq_size(uint32_t n, uint32_t k, qn_u128 *v);
/* Bits of an index of P(n, k): those of V − 1. UINT_MAX where qn_pvq_size is false. */
unsigned qn_pvq_bits(uint32_t n, uint32_t k);

/* The table of P(n, k), in the narrowest word that holds all indices, from `arena`. QN_E_INPUT when V(n, k) is out of range. */
qn_code qn_pvq_tab_make(qn_pvq_tab *t, uint32_t n, uint32_t k, qn_arena *arena, qn_err *err) QN_MUST_CHECK;
/* V(m, j), m ≤ t->n, j ≤ t->k, from the table. */
qn_u128 qn_pvq_tab_size(const qn_pvq_tab *t, uint32_t m, uint32_t j);
/* 2 U(m, j) as a number of any word. */
qn_u128 qn_pvq_tab_at(const qn_pvq_tab *t, uint32_t m, uint32_t j);

/* Index → point: y[0 … m) of P(m, j), m ≤ t->n, j ≤ t->k. False, and y untouched, when index ≥ V(m, j). */
bool qn_pvq_point(const qn_pvq_tab *t, uint32_t m, uint32_t j, qn_u128 index, int16_t *y);

/* Groups of m ≤ n coordinates, where a column ends, k ≤ t->k: they take the k that costs them no more bits for each coordinate than
 * whole groups have, the largest j ≤ k with bits(m, j) + gain_bits ≤ ⌊(bits(n, k) + gain_bits) m / n⌋. *width: bits(m, j) +
 * gain_bits, or 0 when j = 0: such a group is zeros and is not written. For m = n, j = k. */
uint32_t qn_pvq_short_k(const qn_pvq_tab *t, uint32_t k, unsigned gain_bits, uint32_t m, unsigned *width);

/* Amplitudes: the levels of the least-squares quantizer (Lloyd, Max) of the length of a vector of n standard normal numbers, in
 * 1/4096, for 0 … QN_PVQ_GAIN_BITS bits. n is 16 or 32. The length lost to the angle between a group and its point is a
 * factor that is the same for all groups of (n, k), and so a part of their scale. */
#define QN_PVQ_GAIN_BITS 5
const uint16_t *qn_pvq_gain_levels(uint32_t n, unsigned bits);

/* Scales: code 255 is 1, each step down divides by 2^(1/16); code 0 is zero. Exact in f32: 24-bit numbers times powers of two. */
float qn_pvq_scale(uint8_t code);

#endif
