/* coder_q.c: types of 32 columns with one or two halves: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL. Layouts: base/ggml_q.c, base/ggml_fp.c. */
#include "base/half.h"
#include "base/num.h"
#include "compress/blocks/levels.h"

enum { N = 32 };

static const qn_levels q4_0 = {.block = N, .n = 16, .lo = -8, .both = true, .from = 0.6f, .to = 1.1f, .tries = 14, .moves = 5, .scale = qn_levels_half};
static const qn_levels q5_0 = {.block = N, .n = 32, .lo = -16, .both = true, .from = 0.75f, .to = 1.05f, .tries = 11, .moves = 3, .scale = qn_levels_half};
static const qn_levels q8_0 = {.block = N, .n = 255, .lo = -127, .from = 0.94f, .to = 1.01f, .tries = 6, .moves = 1, .scale = qn_levels_half};
static const qn_levels q4_1 = {.block = N, .n = 16, .offset = true, .from = 0.65f, .to = 1.05f, .tries = 14, .moves = 5, .scale = qn_levels_half};
static const qn_levels q5_1 = {.block = N, .n = 32, .offset = true, .from = 0.8f, .to = 1.05f, .tries = 11, .moves = 3, .scale = qn_levels_half};

static const float uneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const float uneven_mid[15] = {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101};
static const qn_levels iq4_nl = {.block = N, .n = 16, .level = uneven, .mid = uneven_mid, .both = true, .from = 0.6f, .to = 1.1f, .tries = 14, .moves = 5,
                                 .scale = qn_levels_half};

/* d, and m where the type has one. Returns the bytes. */
static size_t put_scales(const qn_levels *l, const qn_levels_answer *a, uint32_t b, uint8_t *to)
{
    qn_store16(to, qn_f32_to_f16(a->d[b]));
    if (!l->offset)
        return 2;
    qn_store16(to + 2, qn_f32_to_f16(a->m[b]));
    return 4;
}

static uint8_t *put_nibbles(const uint8_t *code, uint8_t *to)
{
    for (unsigned j = 0; j < N / 2; j++)
        to[j] = (uint8_t)((code[j] & 15) | code[j + N / 2] << 4);
    return to + N / 2;
}

static void encode4(const qn_levels *l, const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(l, m, t, &a, r, scratch);
    for (uint32_t b = 0; b < m->n / N; b++) {
        to += put_scales(l, &a, b, to);
        to = put_nibbles(a.code + b * N, to);
    }
}

static void encode5(const qn_levels *l, const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(l, m, t, &a, r, scratch);
    for (uint32_t b = 0; b < m->n / N; b++) {
        const uint8_t *code = a.code + b * N;
        uint32_t high = 0;
        for (unsigned j = 0; j < N; j++)
            high |= (uint32_t)(code[j] >> 4) << j;
        to += put_scales(l, &a, b, to);
        qn_store32(to, high);
        to = put_nibbles(code, to + 4);
    }
}

static void encode_q4_0(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    encode4(&q4_0, m, t, to, r, scratch);
}

static void encode_q4_1(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    encode4(&q4_1, m, t, to, r, scratch);
}

static void encode_iq4_nl(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    encode4(&iq4_nl, m, t, to, r, scratch);
}

static void encode_q5_0(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    encode5(&q5_0, m, t, to, r, scratch);
}

static void encode_q5_1(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    encode5(&q5_1, m, t, to, r, scratch);
}

static void encode_q8_0(const qn_span_metric *m, const float *t, uint8_t *to, float *r, void *scratch)
{
    qn_levels_answer a;
    qn_levels_encode(&q8_0, m, t, &a, r, scratch);
    for (uint32_t b = 0; b < m->n / N; b++) {
        to += put_scales(&q8_0, &a, b, to);
        for (unsigned j = 0; j < N; j++)
            *to++ = (uint8_t)(a.code[b * N + j] - 127);
    }
}

const qn_block_coder qn_coder_q4_0 = {"q4_0", QN_Q4_0, QN_LEVELS_SCRATCH, encode_q4_0, 0, NULL};
const qn_block_coder qn_coder_q4_1 = {"q4_1", QN_Q4_1, QN_LEVELS_SCRATCH, encode_q4_1, 0, NULL};
const qn_block_coder qn_coder_q5_0 = {"q5_0", QN_Q5_0, QN_LEVELS_SCRATCH, encode_q5_0, 0, NULL};
const qn_block_coder qn_coder_q5_1 = {"q5_1", QN_Q5_1, QN_LEVELS_SCRATCH, encode_q5_1, 0, NULL};
const qn_block_coder qn_coder_q8_0 = {"q8_0", QN_Q8_0, QN_LEVELS_SCRATCH, encode_q8_0, 0, NULL};
const qn_block_coder qn_coder_iq4_nl = {"iq4_nl", QN_IQ4_NL, QN_LEVELS_SCRATCH, encode_iq4_nl, 0, NULL};
