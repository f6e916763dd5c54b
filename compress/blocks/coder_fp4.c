/* coder_fp4.c: E2M1 codes with a power of two for 32 of them (MXFP4), or an unsigned E4M3 for 16 (NVFP4). Layouts: base/ggml_fp.c.
 *
 * Scales are few, so each block tries those next to the one it has, codes following, instead of solving for them. */
#include "base/half.h"
#include "base/num.h"
#include "compress/blocks/levels.h"
#include <float.h>
#include <math.h>

static const float e2m1[15] = {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12};
static const float e2m1_mid[15] = {-10, -7, -5, -3.5f, -2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10, FLT_MAX};
static const uint8_t stored[15] = {15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7}; /* the code of each level */

/* 2^(e − 128) for e = 2 … 254: without the two that are subnormal. */
static float power(float d)
{
    int e = -126;
    if (d > 0x1p-126f) {
        const float m = frexpf(d < 0x1p126f ? d : 0x1p126f, &e); /* ½ … 1 */
        e -= m < 0.70710678f ? 1 : 0;
    }
    return ldexpf(1, e < -126 ? -126 : e);
}

static float next_power(float d, int up)
{
    return power(up ? 2 * d : 0.5f * d);
}

static uint8_t e4m3_of(float d)
{
    return d >= 224 ? 0x7e : d > 0 ? qn_f32_to_e4m3(2 * d) : 0;
}

static float e4m3(float d)
{
    return 0.5f * qn_e4m3_to_f32(e4m3_of(d));
}

static float next_e4m3(float d, int up)
{
    const int s = e4m3_of(d) + (up ? 1 : -1);
    return 0.5f * qn_e4m3_to_f32((uint8_t)(s < 0 ? 0 : s > 0x7e ? 0x7e : s));
}

static const qn_levels mxfp4 = {.block = 32, .n = 15, .level = e2m1, .mid = e2m1_mid, .from = 0.5f, .to = 2, .tries = 4, .scale = power, .next = next_power};
static const qn_levels nvfp4 = {.block = 16, .n = 15, .level = e2m1, .mid = e2m1_mid, .from = 0.6f, .to = 1.6f, .tries = 11, .scale = e4m3,
                                .next = next_e4m3};

/* n codes in n / 2 bytes, the first half in the low nibbles. */
static void put_nibbles(const uint8_t *code, unsigned n, uint8_t *to)
{
    for (unsigned j = 0; j < n / 2; j++)
        to[j] = (uint8_t)(stored[code[j]] | stored[code[j + n / 2]] << 4);
}

static void encode_mxfp4(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(&mxfp4, m, t, &a, r, scratch);
    for (uint32_t b = 0; b < m->n / 32; b++, to += 17) {
        to[0] = (uint8_t)(ilogbf(a.d[b]) + 128);
        put_nibbles(a.code + 32 * b, 32, to + 1);
    }
}

static void encode_nvfp4(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(&nvfp4, m, t, &a, r, scratch);
    for (uint32_t b = 0; b < m->n / 64; b++, to += 36)
        for (unsigned part = 0; part < 4; part++) {
            to[part] = e4m3_of(a.d[4 * b + part]);
            put_nibbles(a.code + 64 * b + 16 * part, 16, to + 4 + 8 * part);
        }
}

const qn_block_coder qn_coder_mxfp4 = {"mxfp4", QN_MXFP4, QN_LEVELS_SCRATCH, encode_mxfp4, 0, NULL};
const qn_block_coder qn_coder_nvfp4 = {"nvfp4", QN_NVFP4, QN_LEVELS_SCRATCH, encode_nvfp4, 0, NULL};
