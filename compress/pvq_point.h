/* pvq_point.h: the encoder's half of runtime/pvq.h: the point for a vector, and the index of a point. */
#ifndef QN_COMPRESS_PVQ_POINT_H
#define QN_COMPRESS_PVQ_POINT_H

#include "runtime/pvq.h"

/* The index of y[0 … m), a point of P(m, j): m ≤ t->n, j = Σ|y_i| ≤ t->k. */
qn_u128 qn_pvq_index(const qn_pvq_tab *t, const int16_t *y, uint32_t m, uint32_t j);

/* Bits [at, at + width) of dst, which are zero, become the lowest ones of v; width ≤ 128. */
void qn_pvq_put(uint8_t *dst, uint64_t at, unsigned width, qn_u128 v);

#define QN_PVQ_NEAREST_N 64

/* A point of P(n, k) whose direction is close to x's: ⟨x, y⟩ / |y| nearly as large as any point's. x[0 … n) finite, n ≤
 * QN_PVQ_NEAREST_N, k ≤ QN_PVQ_K_MAX. In three steps: |x| is projected onto the pyramid and rounded down, the missing
 * pulses are added where each does most, and pulses are moved, at most `moves` times, while that helps. Ties go to the
 * lowest coordinate; the result is the same on every machine. Returns ⟨x, y⟩ / |y|, the length that fits best; 0, and all pulses
 * on the first coordinate, when x is zero. */
float qn_pvq_nearest(const float *x, uint32_t n, uint32_t k, unsigned moves, int16_t *y);

#endif
