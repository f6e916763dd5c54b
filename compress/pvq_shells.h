/* pvq_shells.h: whole numbers of steps, chosen by what they cost: the encoder's half of the form of pvq that tells K group by group. */
#ifndef QN_COMPRESS_PVQ_SHELLS_H
#define QN_COMPRESS_PVQ_SHELLS_H

#include "runtime/pvq.h"

/* The price list of groups of n: what a point of P(n, k) costs in λ · bits, k = 0 … most, the bits of k not counted. Distances are
 * in steps. shift: see qn_pvq_row_fn, kern_pvq.h. */
typedef struct qn_pvq_price {
    uint32_t n, most;
    float shift[2];
    const float *cost; /* (most + 1) */
} qn_pvq_price;

/* The y for x[0 … n) in steps, finite, Σ|y| ≤ most, that makes |x − point|² + cost small: the nearest numbers, from which pulses are
 * taken as long as that saves more than it loses. For one K the result is the nearest point of its shell; ties go to the lowest
 * coordinate. Returns K. n ≤ 32. */
uint32_t qn_pvq_shell_point(const qn_pvq_price *p, const float *x, int16_t *y);

static inline float qn_pvq_shell_value(const float shift[2], int y)
{
    const float by = y > 1 || y < -1 ? shift[1] : shift[0];
    return (float)y + (y > 0 ? by : y < 0 ? -by : 0.0f);
}

#endif
