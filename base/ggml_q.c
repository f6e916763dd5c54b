/* ggml_q.c: the types with one half for a scale, and some with another half for an offset.
 *
 *   Q4_0  d, nibbles      d (q − 8)          Q5_0  d, high bits, nibbles      d (q − 16)       Q8_0  d, bytes   d q
 *   Q4_1  d, m, nibbles   d q + m            Q5_1  d, m, high bits, nibbles   d q + m
 *   Q1_0  d, bits         −d, d              Q2_0  d, pairs of bits           d (q − 1)
 *
 * Byte j of the nibbles holds element j in its low half and element j + 16 in its high half; bits and pairs lie lowest
 * first. */
#include "base/ggml_impl.h"

void qn_block_q4_0(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    for (unsigned j = 0; j < 16; j++) {
        const int q = b[2 + j];
        y[j] = (float)((q & 15) - 8) * d;
        y[j + 16] = (float)((q >> 4) - 8) * d;
    }
}

void qn_block_q4_1(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b), m = qn_block_half(b + 2);
    for (unsigned j = 0; j < 16; j++) {
        const int q = b[4 + j];
        y[j] = (float)(q & 15) * d + m;
        y[j + 16] = (float)(q >> 4) * d + m;
    }
}

/* Five-bit codes of a block: high bits at h, nibbles at p. */
static void codes5(const uint8_t *h, const uint8_t *p, int q[32])
{
    const uint32_t high = qn_load32(h);
    for (unsigned j = 0; j < 16; j++) {
        q[j] = (int)((p[j] & 15u) | (high >> j & 1) << 4);
        q[j + 16] = (int)(p[j] >> 4 | (high >> (j + 16) & 1) << 4);
    }
}

void qn_block_q5_0(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    int q[32];
    codes5(b + 2, b + 6, q);
    for (unsigned j = 0; j < 32; j++)
        y[j] = (float)(q[j] - 16) * d;
}

void qn_block_q5_1(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b), m = qn_block_half(b + 2);
    int q[32];
    codes5(b + 4, b + 8, q);
    for (unsigned j = 0; j < 32; j++)
        y[j] = (float)q[j] * d + m;
}

void qn_block_q8_0(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    for (unsigned j = 0; j < 32; j++)
        y[j] = (float)(int8_t)b[2 + j] * d;
}

void qn_block_q1_0(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    for (unsigned j = 0; j < 128; j++)
        y[j] = b[2 + j / 8] >> j % 8 & 1 ? d : -d;
}

void qn_block_q2_0(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    for (unsigned j = 0; j < 64; j++)
        y[j] = (float)((b[2 + j / 4] >> j % 4 * 2 & 3) - 1) * d;
}
