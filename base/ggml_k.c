/* ggml_k.c: super-blocks of 256 whose parts have small integer scales (and offsets) of their own, which one half (or
 * two) scales in turn.
 *
 *   Q2_K  scales[16] qs[64] d dmin                 16 parts of 16:  d sc q − dmin mn,  sc, mn of four bits
 *   Q3_K  hmask[32] qs[64] scales[12] d            16 parts of 16:  d (sc − 32) (q − 4)
 *   Q4_K  d dmin scales[12] qs[128]                 8 parts of 32:  d sc q − dmin mn,  sc, mn of six bits
 *   Q5_K  d dmin scales[12] qh[32] qs[128]          the same with a fifth bit
 *   Q6_K  ql[128] qh[64] scales[16] d              16 parts of 16:  d sc (q − 32) */
#include "base/ggml_impl.h"

void qn_block_q2_k(const uint8_t *b, float *y)
{
    const uint8_t *scales = b, *qs = b + 16;
    const float d = qn_block_half(b + 80), dmin = qn_block_half(b + 82);
    for (unsigned part = 0; part < 16; part++) { /* of each 128: bit pair 0 of bytes 0–15, of bytes 16–31, then pair 1, … */
        const float scale = d * (float)(scales[part] & 15), offset = dmin * (float)(scales[part] >> 4);
        const uint8_t *q = qs + part / 8 * 32 + part % 2 * 16;
        const unsigned shift = part % 8 / 2 * 2;
        for (unsigned l = 0; l < 16; l++)
            y[16 * part + l] = scale * (float)(q[l] >> shift & 3) - offset;
    }
}

/* Sixteen six-bit scales: four low bits in the nibbles of bytes 0–7, two high bits in bytes 8–11. */
static int scale_q3(const uint8_t *s, unsigned k)
{
    const unsigned low = k < 8 ? s[k] & 15u : s[k - 8] >> 4;
    return (int)(low | (s[8 + k % 4] >> k / 4 * 2 & 3u) << 4) - 32;
}

void qn_block_q3_k(const uint8_t *b, float *y)
{
    const uint8_t *hmask = b, *qs = b + 32;
    const float d = qn_block_half(b + 108);
    for (unsigned part = 0; part < 16; part++) {
        const float scale = d * (float)scale_q3(b + 96, part);
        const unsigned at = part % 2 * 16, shift = part % 8 / 2 * 2, plane = part / 2;
        for (unsigned l = 0; l < 16; l++) {
            const int q = qs[part / 8 * 32 + at + l] >> shift & 3;
            y[16 * part + l] = scale * (float)(q - (hmask[at + l] >> plane & 1 ? 0 : 4));
        }
    }
}

/* Eight scales and eight offsets of six bits in twelve bytes: the first four of each whole, of the others the high two bits
 * above those. */
static void scale_q4(const uint8_t *s, unsigned j, unsigned *scale, unsigned *offset)
{
    if (j < 4) {
        *scale = s[j] & 63u;
        *offset = s[j + 4] & 63u;
    } else {
        *scale = (s[j + 4] & 15u) | (unsigned)(s[j - 4] >> 6) << 4;
        *offset = s[j + 4] >> 4 | (unsigned)(s[j] >> 6) << 4;
    }
}

void qn_block_q4_k(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b), dmin = qn_block_half(b + 2);
    for (unsigned part = 0; part < 8; part++) {
        unsigned sc, mn;
        scale_q4(b + 4, part, &sc, &mn);
        const float scale = d * (float)sc, offset = dmin * (float)mn;
        const uint8_t *q = b + 16 + part / 2 * 32;
        for (unsigned l = 0; l < 32; l++)
            y[32 * part + l] = scale * (float)(q[l] >> part % 2 * 4 & 15) - offset;
    }
}

void qn_block_q5_k(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b), dmin = qn_block_half(b + 2);
    const uint8_t *qh = b + 16;
    for (unsigned part = 0; part < 8; part++) {
        unsigned sc, mn;
        scale_q4(b + 4, part, &sc, &mn);
        const float scale = d * (float)sc, offset = dmin * (float)mn;
        const uint8_t *q = b + 48 + part / 2 * 32;
        for (unsigned l = 0; l < 32; l++)
            y[32 * part + l] = scale * (float)((q[l] >> part % 2 * 4 & 15) | (qh[l] >> part & 1) << 4) - offset;
    }
}

void qn_block_q6_k(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b + 208);
    for (unsigned part = 0; part < 8; part++) { /* 32 elements, two scales */
        const unsigned half = part / 4, k = part % 4;
        const uint8_t *ql = b + 64 * half + k % 2 * 32, *qh = b + 128 + 32 * half;
        for (unsigned l = 0; l < 32; l++) {
            const int q = (ql[l] >> k / 2 * 4 & 15) | (qh[l] >> 2 * k & 3) << 4;
            const int sc = (int8_t)b[192 + 2 * part + l / 16];
            y[32 * part + l] = d * (float)sc * (float)(q - 32);
        }
    }
}
