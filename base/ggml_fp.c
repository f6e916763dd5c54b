/* ggml_fp.c: four-bit codes into a table of sixteen values.
 *
 *   IQ4_NL  d, nibbles                              d t[q]
 *   IQ4_XS  d, scales_h, scales_l[4], nibbles       d (sc − 32) t[q],  sc of six bits for each 32
 *   MXFP4   e, nibbles                              2^(e − 128) m[q]   m: twice the values of E2M1
 *   NVFP4   e4m3[4], nibbles                        s/2 m[q], s for each 16 */
#include "base/ggml_impl.h"

static const int8_t uneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t e2m1_twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* n bytes: low nibbles are the first n elements, high nibbles the next n. */
static void nibbles(const uint8_t *q, unsigned n, const int8_t values[16], float scale, float *y)
{
    for (unsigned j = 0; j < n; j++) {
        y[j] = scale * (float)values[q[j] & 15];
        y[j + n] = scale * (float)values[q[j] >> 4];
    }
}

void qn_block_iq4_nl(const uint8_t *b, float *y)
{
    nibbles(b + 2, 16, uneven, qn_block_half(b), y);
}

void qn_block_iq4_xs(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    const unsigned high = qn_load16(b + 2);
    for (unsigned part = 0; part < 8; part++) {
        const unsigned sc = (b[4 + part / 2] >> part % 2 * 4 & 15u) | (high >> 2 * part & 3) << 4;
        nibbles(b + 8 + 16 * part, 16, uneven, d * (float)((int)sc - 32), y + 32 * part);
    }
}

/* 2^(e − 128): the two smallest are subnormal. */
static float half_power(uint8_t e)
{
    return qn_bits_f32(e < 2 ? UINT32_C(0x00200000) << e : (uint32_t)(e - 1) << 23);
}

void qn_block_mxfp4(const uint8_t *b, float *y)
{
    nibbles(b + 1, 16, e2m1_twice, half_power(b[0]), y);
}

/* Unsigned: the top bit counts for nothing, except that 0x7f, a NaN elsewhere, is zero and 0xff the number it would be. */
static float half_ue4m3(uint8_t s)
{
    if (s == 0x7f)
        return 0.0f;
    return s == 0xff ? 240.0f : qn_e4m3_to_f32(s & 0x7f) * 0.5f;
}

void qn_block_nvfp4(const uint8_t *b, float *y)
{
    for (unsigned part = 0; part < 4; part++)
        nibbles(b + 4 + 8 * part, 8, e2m1_twice, half_ue4m3(b[part]), y + 16 * part);
}
