/* coder_few.c: types of two to four levels: Q1_0, Q2_0, TQ1_0, TQ2_0. Layouts: base/ggml_q.c, base/ggml_tq.c.
 *
 * A pair of bits in TQ2_0 could say 2 d as well, and is decoded so; but runtimes hold it to three values, so the fourth is not written. */
#include "base/half.h"
#include "base/num.h"
#include "compress/blocks/levels.h"
#include <float.h>
#include <string.h>

#define REST FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX
static const float sign[2] = {-1, 1}, sign_mid[15] = {0, REST, REST};

static const qn_levels q1_0 = {.block = 128, .n = 2, .level = sign, .mid = sign_mid, .from = 0.15f, .to = 0.6f, .tries = 4, .moves = 3, .scale = qn_levels_half};
static const qn_levels q2_0 = {.block = 64, .n = 4, .lo = -1, .both = true, .from = 0.4f, .to = 1.1f, .tries = 12, .moves = 7, .scale = qn_levels_half};
static const qn_levels ternary = {.block = 256, .n = 3, .lo = -1, .from = 0.2f, .to = 1, .tries = 17, .moves = 5, .scale = qn_levels_half};

static void encode_q1_0(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(&q1_0, m, t, &a, r, scratch);
    for (uint32_t b = 0; b < m->n / 128; b++, to += 18) {
        qn_store16(to, qn_f32_to_f16(a.d[b]));
        memset(to + 2, 0, 16);
        for (unsigned j = 0; j < 128; j++)
            to[2 + j / 8] = (uint8_t)(to[2 + j / 8] | a.code[b * 128 + j] << j % 8);
    }
}

static void encode_q2_0(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(&q2_0, m, t, &a, r, scratch);
    for (uint32_t b = 0; b < m->n / 64; b++, to += 18) {
        qn_store16(to, qn_f32_to_f16(a.d[b]));
        memset(to + 2, 0, 16);
        for (unsigned j = 0; j < 64; j++)
            to[2 + j / 4] = (uint8_t)(to[2 + j / 4] | a.code[b * 64 + j] << j % 4 * 2);
    }
}

/* n bytes of up to five digits each; digit k of byte i is code k n + i. The fraction 0.q0q1q2q3q4 in base 3, times 256, rounded up. */
static void put_digits(const uint8_t *code, unsigned n, unsigned n_digits, uint8_t *to)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned v = 0;
        for (unsigned k = 0; k < 5; k++)
            v = 3 * v + (k < n_digits ? code[k * n + i] : 0);
        to[i] = (uint8_t)((v * 256 + 242) / 243);
    }
}

static void encode_tq1_0(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(&ternary, m, t, &a, r, scratch);
    put_digits(a.code, 32, 5, to);
    put_digits(a.code + 160, 16, 5, to + 32);
    put_digits(a.code + 240, 4, 4, to + 48);
    qn_store16(to + 52, qn_f32_to_f16(a.d[0]));
}

static void encode_tq2_0(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(&ternary, m, t, &a, r, scratch);
    memset(to, 0, 64);
    for (unsigned i = 0; i < 256; i++) {
        uint8_t *byte = to + i / 128 * 32 + i % 32;
        *byte = (uint8_t)(*byte | a.code[i] << i % 128 / 32 * 2);
    }
    qn_store16(to + 64, qn_f32_to_f16(a.d[0]));
}

const qn_block_coder qn_coder_q1_0 = {"q1_0", QN_Q1_0, QN_LEVELS_SCRATCH, encode_q1_0, 0, NULL};
const qn_block_coder qn_coder_q2_0 = {"q2_0", QN_Q2_0, QN_LEVELS_SCRATCH, encode_q2_0, 0, NULL};
const qn_block_coder qn_coder_tq1_0 = {"tq1_0", QN_TQ1_0, QN_LEVELS_SCRATCH, encode_tq1_0, 0, NULL};
const qn_block_coder qn_coder_tq2_0 = {"tq2_0", QN_TQ2_0, QN_LEVELS_SCRATCH, encode_tq2_0, 0, NULL};
