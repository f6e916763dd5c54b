/* coder_k.c: fields of a super-block → its bytes, and the coders of the K types and IQ4_XS. The layouts are those of base/ggml_k.c. */
#include "compress/blocks/coder_k.h"
#include "base/half.h"
#include "base/num.h"
#include <string.h>

/* What the bits of a level are. */
static inline unsigned bits(const qn_k_fields *f, uint32_t j, int lo)
{
    return (unsigned)(f->level[j] - lo);
}

/* Two bits of each of 256 in 64 bytes: byte l of each 32 has values l, l + 32, l + 64, l + 96 of its 128. */
static void put_pairs(uint8_t *q, const qn_k_fields *f, int lo)
{
    for (unsigned l = 0; l < 64; l++) {
        const uint32_t at = l / 32 * 128 + l % 32;
        q[l] = (uint8_t)((bits(f, at, lo) & 3) | (bits(f, at + 32, lo) & 3) << 2 | (bits(f, at + 64, lo) & 3) << 4 |
                         (bits(f, at + 96, lo) & 3) << 6);
    }
}

/* Four low bits of each of 256 in 128 bytes: byte l of each 32 has values l and l + 32 of its 64. */
static void put_nibbles(uint8_t *q, const qn_k_fields *f)
{
    for (unsigned l = 0; l < 128; l++) {
        const uint32_t at = l / 32 * 64 + l % 32;
        q[l] = (uint8_t)((bits(f, at, 0) & 15) | (bits(f, at + 32, 0) & 15) << 4);
    }
}

/* Plane k of 32 bytes: bit `bit` of values 32k … 32k + 31. */
static void put_planes(uint8_t *q, const qn_k_fields *f, int lo, unsigned bit)
{
    memset(q, 0, 32);
    for (uint32_t j = 0; j < 256; j++)
        q[j % 32] = (uint8_t)(q[j % 32] | (bits(f, j, lo) >> bit & 1) << j / 32);
}

/* Eight scales and minima of six bits in twelve bytes. */
static void put_sixes(uint8_t *s, const qn_k_fields *f)
{
    for (unsigned j = 0; j < 4; j++) {
        const unsigned a = (unsigned)f->scale[j], b = f->min[j], c = (unsigned)f->scale[j + 4], e = f->min[j + 4];
        s[j] = (uint8_t)(a | c >> 4 << 6);
        s[j + 4] = (uint8_t)(b | e >> 4 << 6);
        s[j + 8] = (uint8_t)((c & 15) | (e & 15) << 4);
    }
}

void qn_k_pack_q2(const qn_k_fields *f, uint8_t *b)
{
    for (unsigned k = 0; k < 16; k++)
        b[k] = (uint8_t)(f->scale[k] | f->min[k] << 4);
    put_pairs(b + 16, f, 0);
    qn_store16(b + 80, f->d);
    qn_store16(b + 82, f->dmin);
}

void qn_k_pack_q3(const qn_k_fields *f, uint8_t *b)
{
    put_planes(b, f, -4, 2);
    put_pairs(b + 32, f, -4);
    uint8_t *s = b + 96;
    memset(s, 0, 12);
    for (unsigned k = 0; k < 16; k++) {
        const unsigned v = (unsigned)(f->scale[k] + 32);
        s[k % 8] = (uint8_t)(s[k % 8] | (v & 15) << k / 8 * 4);
        s[8 + k % 4] = (uint8_t)(s[8 + k % 4] | v >> 4 << k / 4 * 2);
    }
    qn_store16(b + 108, f->d);
}

void qn_k_pack_q4(const qn_k_fields *f, uint8_t *b)
{
    qn_store16(b, f->d);
    qn_store16(b + 2, f->dmin);
    put_sixes(b + 4, f);
    put_nibbles(b + 16, f);
}

void qn_k_pack_q5(const qn_k_fields *f, uint8_t *b)
{
    qn_store16(b, f->d);
    qn_store16(b + 2, f->dmin);
    put_sixes(b + 4, f);
    put_planes(b + 16, f, 0, 4);
    put_nibbles(b + 48, f);
}

void qn_k_pack_q6(const qn_k_fields *f, uint8_t *b)
{
    for (unsigned half = 0; half < 2; half++)
        for (unsigned l = 0; l < 32; l++) {
            unsigned q[4];
            for (unsigned k = 0; k < 4; k++)
                q[k] = bits(f, 128 * half + 32 * k + l, -32);
            b[64 * half + l] = (uint8_t)((q[0] & 15) | (q[2] & 15) << 4);
            b[64 * half + 32 + l] = (uint8_t)((q[1] & 15) | (q[3] & 15) << 4);
            b[128 + 32 * half + l] = (uint8_t)(q[0] >> 4 | q[1] >> 4 << 2 | q[2] >> 4 << 4 | q[3] >> 4 << 6);
        }
    for (unsigned k = 0; k < 16; k++)
        b[192 + k] = (uint8_t)f->scale[k];
    qn_store16(b + 208, f->d);
}

static const int8_t uneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void qn_k_pack_iq4(const qn_k_fields *f, uint8_t *b)
{
    unsigned high = 0;
    memset(b + 4, 0, 132);
    for (unsigned k = 0; k < 8; k++) {
        const unsigned v = (unsigned)(f->scale[k] + 32);
        b[4 + k / 2] = (uint8_t)(b[4 + k / 2] | (v & 15) << k % 2 * 4);
        high |= v >> 4 << 2 * k;
        for (unsigned l = 0; l < 32; l++) {
            unsigned q = 0;
            while (q < 15 && uneven[q] != f->level[32 * k + l])
                q++;
            b[8 + 16 * k + l % 16] = (uint8_t)(b[8 + 16 * k + l % 16] | q << l / 16 * 4);
        }
    }
    qn_store16(b, f->d);
    qn_store16(b + 2, (uint16_t)high);
}

const qn_k_layout qn_k_layout_q2 = {.parts = 16, .width = 16, .scale_hi = 15, .min_hi = 15, .hi = 3};
const qn_k_layout qn_k_layout_q3 = {.parts = 16, .width = 16, .scale_lo = -32, .scale_hi = 31, .lo = -4, .hi = 3};
const qn_k_layout qn_k_layout_q4 = {.parts = 8, .width = 32, .scale_hi = 63, .min_hi = 63, .hi = 15};
const qn_k_layout qn_k_layout_q5 = {.parts = 8, .width = 32, .scale_hi = 63, .min_hi = 63, .hi = 31};
const qn_k_layout qn_k_layout_q6 = {.parts = 16, .width = 16, .scale_lo = -128, .scale_hi = 127, .lo = -32, .hi = 31};
const qn_k_layout qn_k_layout_iq4 = {.parts = 8, .width = 32, .scale_lo = -32, .scale_hi = 31, .lo = -127, .hi = 113, .table = qn_k_uneven};

#define CODER(name_, type, layout, bytes, pack)                                                                                  \
    static void encode_##name_(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch)                 \
    {                                                                                                                            \
        qn_k_fields f;                                                                                                           \
        qn_k_solve(&layout, m, t, &f, r, scratch);                                                                               \
        pack(&f, blocks);                                                                                                        \
    }                                                                                                                            \
    const qn_block_coder qn_coder_##name_ = {.name = #name_, .dtype = type, .scratch_bytes = QN_K_SCRATCH_BYTES, .encode = encode_##name_};

CODER(q2_k, QN_Q2_K, qn_k_layout_q2, 84, qn_k_pack_q2)
CODER(q3_k, QN_Q3_K, qn_k_layout_q3, 110, qn_k_pack_q3)
CODER(q4_k, QN_Q4_K, qn_k_layout_q4, 144, qn_k_pack_q4)
CODER(q5_k, QN_Q5_K, qn_k_layout_q5, 176, qn_k_pack_q5)
CODER(q6_k, QN_Q6_K, qn_k_layout_q6, 210, qn_k_pack_q6)
CODER(iq4_xs, QN_IQ4_XS, qn_k_layout_iq4, 136, qn_k_pack_iq4)
