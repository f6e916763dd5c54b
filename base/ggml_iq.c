/* ggml_iq.c: vectors of eight or four values that are points of a fixed set (ggml_grid_tab.c), 256 values a block.
 *
 *   IQ2_XXS  d, 8 × (index[4], u32: four sign codes of 7 bits, scale)       d (s + ½)/4 ± point
 *   IQ2_XS   d, u16[32]: index of 9 bits, sign code; scales[8]              the same
 *   IQ2_S    d, index[32], signs[32], qh[8], scales[8]                      the same
 *   IQ3_XXS  d, index[64], 8 × u32 as in IQ2_XXS                            d (s + ½)/2 ± point
 *   IQ3_S    d, index[64], qh[8], signs[32], scales[4]                      d (1 + 2s) ± point
 *   IQ1_S    d, index[32], u16[8]: high index bits, scale, side             d (2s + 1)(point ± ⅛)
 *   IQ1_M    index[32], qh[16], u16[4]: scales and a quarter of d each      the same
 *
 * A sign code of seven bits stands for eight signs: the last one makes the number of minuses even. */
#include "base/ggml_impl.h"

static const uint8_t steps2[4] = {8, 25, 43, 0}, steps3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62},
                     steps3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};

static unsigned even_signs(unsigned code)
{
    return code | (unsigned)__builtin_parity(code) << 7;
}

/* n ≤ 8 values of a point, `bits` wide each in `point`, as steps. Bit i of signs: minus. */
static void put(unsigned point, unsigned n, unsigned bits, const uint8_t *steps, unsigned signs, float scale, float *y)
{
    for (unsigned i = 0; i < n; i++)
        y[i] = scale * (float)steps[point >> bits * i & ((1u << bits) - 1)] * (signs >> i & 1 ? -1.0f : 1.0f);
}

static void put2(unsigned point, unsigned signs, float scale, float *y)
{
    put(point, 8, 2, steps2, signs, scale, y);
}

static float quarter_scale(float d, unsigned s)
{
    return d * (0.5f + (float)s) * 0.25f;
}

void qn_block_iq2_xxs(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    for (unsigned part = 0; part < 8; part++, y += 32) {
        const uint8_t *p = b + 2 + 8 * part;
        const uint32_t word = qn_load32(p + 4);
        const float scale = quarter_scale(d, word >> 28);
        for (unsigned l = 0; l < 4; l++)
            put2(qn_grid_iq2_xxs[p[l]], even_signs(word >> 7 * l & 127), scale, y + 8 * l);
    }
}

void qn_block_iq2_xs(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    for (unsigned l = 0; l < 32; l++) {
        const unsigned code = qn_load16(b + 2 + 2 * l), s = b[66 + l / 4] >> l % 4 / 2 * 4 & 15u;
        put2(qn_grid_iq2_xs[code & 511], even_signs(code >> 9), quarter_scale(d, s), y + 8 * l);
    }
}

void qn_block_iq2_s(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    const uint8_t *signs = b + 34, *qh = b + 66, *scales = b + 74;
    for (unsigned l = 0; l < 32; l++) {
        const unsigned index = b[2 + l] | (qh[l / 4] >> l % 4 * 2 & 3u) << 8;
        put2(qn_grid_iq2_s[index], signs[l], quarter_scale(d, scales[l / 4] >> l % 4 / 2 * 4 & 15u), y + 8 * l);
    }
}

void qn_block_iq3_xxs(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    for (unsigned part = 0; part < 8; part++) {
        const uint32_t word = qn_load32(b + 66 + 4 * part);
        const float scale = d * (0.5f + (float)(word >> 28)) * 0.5f;
        for (unsigned l = 0; l < 8; l++, y += 4)
            put(qn_grid_iq3_xxs[b[2 + 8 * part + l]], 4, 3, steps3_xxs, even_signs(word >> l / 2 * 7 & 127) >> l % 2 * 4, scale, y);
    }
}

void qn_block_iq3_s(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    const uint8_t *qh = b + 66, *signs = b + 74, *scales = b + 106;
    for (unsigned l = 0; l < 64; l++) {
        const unsigned s = scales[l / 16] >> l / 8 % 2 * 4 & 15u, index = b[2 + l] | (qh[l / 8] >> l % 8 & 1u) << 8;
        put(qn_grid_iq3_s[index], 4, 3, steps3_s, signs[l / 2] >> l % 2 * 4, d * (float)(1 + 2 * s), y + 4 * l);
    }
}

static void put1(unsigned index, bool below, float scale, float *y)
{
    for (unsigned i = 0; i < 8; i++)
        y[i] = scale * ((float)((int)(qn_grid_iq1[index] >> 2 * i & 3) - 1) + (below ? -0.125f : 0.125f));
}

void qn_block_iq1_s(const uint8_t *b, float *y)
{
    const float d = qn_block_half(b);
    for (unsigned l = 0; l < 32; l++) {
        const unsigned high = qn_load16(b + 34 + l / 4 * 2);
        const float scale = d * (float)(2 * (high >> 12 & 7) + 1);
        put1(b[2 + l] | (high >> l % 4 * 3 & 7) << 8, high >> 15, scale, y + 8 * l);
    }
}

void qn_block_iq1_m(const uint8_t *b, float *y)
{
    const uint8_t *qh = b + 32, *scales = b + 48;
    unsigned bits = 0; /* of d: the top nibbles of the scale words, the first lowest */
    for (unsigned k = 0; k < 4; k++)
        bits |= (unsigned)(qn_load16(scales + 2 * k) >> 12) << 4 * k;
    const float d = qn_f16_to_f32((uint16_t)bits);
    for (unsigned l = 0; l < 32; l++) {
        const unsigned s = qn_load16(scales + l / 8 * 2) >> l / 2 % 4 * 3 & 7, high = qh[l / 2] >> l % 2 * 4 & 15u;
        put1(b[l] | (high & 7) << 8, high >> 3, d * (float)(2 * s + 1), y + 8 * l);
    }
}
