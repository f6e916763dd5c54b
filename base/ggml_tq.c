/* ggml_tq.c: ternary values, d (q − 1).
 *
 *   TQ1_0  qs[48] qh[4] d    digits of base 3
 *   TQ2_0  qs[64] d          pairs of bits
 *
 * A byte of TQ1_0 holds digits q0 … q4 as the fraction 0.q0q1q2q3q4 in base 3, times 256 and rounded up: times 3^n modulo 256 drops
 * the digits before n, and the top of what remains times 3 is digit n. */
#include "base/ggml_impl.h"

/* n bytes with n_digits each; digit k of byte m is element k n + m. */
static void digits(const uint8_t *p, unsigned n, unsigned n_digits, float d, float *y)
{
    static const uint8_t pow3[5] = {1, 3, 9, 27, 81};
    for (unsigned k = 0; k < n_digits; k++)
        for (unsigned m = 0; m < n; m++) {
            const uint8_t rest = (uint8_t)(p[m] * pow3[k]);
            y[k * n + m] = (float)((rest * 3 >> 8) - 1) * d;
        }
}

void qn_block_tq1_0(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b + 52);
    digits(b, 32, 5, d, y);
    digits(b + 32, 16, 5, d, y + 160);
    digits(b + 48, 4, 4, d, y + 240);
}

void qn_block_tq2_0(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b + 64);
    for (unsigned i = 0; i < 256; i++)
        y[i] = (float)((b[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - 1) * d;
}
