/* ect_model.c: the tables of the entropy-coded trellis codec from whole numbers only. Formulas: docs/codecs/ect.md. */
#include "runtime/ect.h"
#include "base/half.h"

const uint8_t qn_ect_top[QN_ECT_SHAPES] = {29, 29, 28, 25, 23};

bool qn_ect_code_get(unsigned log2_states, qn_ect_code *c)
{
    /* parity checks of Ungerboeck's codes (1982, table I), without their lowest bit, which is the state's */
    static const uint8_t h0[9] = {0, 0, 05 >> 1, 013 >> 1, 023 >> 1, 045 >> 1, 0103 >> 1, 0235 >> 1, 0515 >> 1},
                         h1[9] = {0, 0, 02 >> 1, 004 >> 1, 004 >> 1, 010 >> 1, 0024 >> 1, 0126 >> 1, 0362 >> 1};
    if (log2_states > 8 || log2_states == 1)
        return false;
    *c = (qn_ect_code){log2_states, h0[log2_states], h1[log2_states]};
    return true;
}

/* 2^(x / 2^16) · 2^16, for x below 2^20 and whatever is negative. */
static uint64_t exp2_fix(int32_t x)
{
    const int32_t whole = x >> 16;
    const uint32_t frac = (uint32_t)x & 0xffff, i = frac >> 8, rest = frac & 255;
    const uint64_t m = qn_ect_exp2_tab[i] + ((uint64_t)(qn_ect_exp2_tab[i + 1] - qn_ect_exp2_tab[i]) * rest >> 8);
    return whole >= 8 ? m << (whole - 8) : whole < -24 ? 0 : m >> (8 - whole);
}

/* 2^40 · exp(−(a/s)^b / b), s = 0.4 · 2^(table/6), b = 2 − shape/4. */
static uint64_t weight(unsigned shape, unsigned table, unsigned a)
{
    /* log2(log2(e) / b) · 2^16 */
    static const int32_t scale[QN_ECT_SHAPES] = {-30883, -18258, -3683, 13555, 34653};
    if (a == 0)
        return UINT64_C(1) << 40;
    const int32_t log2_s = -86634 + (int32_t)(65536 * table / QN_ECT_OCTAVE); /* log2(0.4) · 2^16 = −86634 */
    const int32_t r = ((int32_t)qn_ect_log2_tab[a] - log2_s) * (int32_t)(8 - shape);
    const int32_t log2_t = (r >> 2) + scale[shape];
    if (log2_t >= 6 << 16)
        return 0;
    const uint64_t t = exp2_fix(log2_t);
    return exp2_fix((24 << 16) - (int32_t)t);
}

void qn_ect_freq(unsigned shape, unsigned table, unsigned z, uint16_t freq[QN_ECT_SYMS])
{
    uint64_t w[QN_ECT_SYMS] = {0}, sum = 0;
    uint32_t given = 2;
    for (int k = -QN_ECT_K_MAX - 1; k <= QN_ECT_K_MAX + (z == 0); k++) {
        const int level = 2 * k + (int)z;
        w[k + QN_ECT_ZERO] = weight(shape, table, (unsigned)(level < 0 ? -level : level)) >> 8;
        sum += w[k + QN_ECT_ZERO];
    }
    freq[0] = freq[1] = 1;
    for (unsigned u = 2; u < QN_ECT_SYMS; u++) {
        const uint64_t f = (w[u] * (QN_ECT_M - 2) + sum / 2) / sum;
        /* what would come less than once in 2^19 is not worth a slot */
        freq[u] = (uint16_t)(f ? f : w[u] * (QN_ECT_M * 32) >= sum);
        given += freq[u];
    }
    freq[QN_ECT_ZERO] = (uint16_t)(freq[QN_ECT_ZERO] + QN_ECT_M - given);
}

void qn_ect_alias(const uint16_t freq[QN_ECT_SYMS], uint64_t bucket[QN_ECT_SYMS])
{
    enum { ROOM = QN_ECT_M / QN_ECT_SYMS };
    uint16_t left[QN_ECT_SYMS];
    for (unsigned u = 0; u < QN_ECT_SYMS; u++)
        left[u] = freq[u];
    unsigned large = 0, next = 0, small = QN_ECT_SYMS;
    for (;;) {
        if (small == QN_ECT_SYMS) { /* the lowest one not filled yet */
            while (next < QN_ECT_SYMS && left[next] >= ROOM)
                next++;
            if (next == QN_ECT_SYMS)
                break;
            small = next++;
        }
        while (left[large] <= ROOM) /* there is one: the mean is ROOM */
            large++;
        const uint32_t split = left[small], give = ROOM - split;
        left[large] = (uint16_t)(left[large] - give);
        bucket[small] = split | large << 9 | ((left[large] - split) & (QN_ECT_M - 1)) << 15 |
                        (uint64_t)(freq[small] | (uint32_t)freq[large] << QN_ECT_BITS) << 32;
        /* one that became small with a lower number than `next` comes first */
        small = left[large] < ROOM && large < next ? large : QN_ECT_SYMS;
    }
    for (unsigned u = 0; u < QN_ECT_SYMS; u++)
        if (left[u] == ROOM)
            bucket[u] = ROOM | u << 9 | (uint64_t)freq[u] << 32;
}

int32_t qn_ect_point(unsigned kind, unsigned shape, unsigned table, int32_t level)
{
    const uint32_t a = (uint32_t)(level < 0 ? -level : level), m = kind == 0 ? a / 2 : a;
    if (m == 0)
        return 64 * level;
    const unsigned which = m > QN_ECT_OFFSETS ? QN_ECT_OFFSETS - 1 : m - 1;
    const int32_t off = qn_ect_offset_tab[kind][shape][table][which];
    return 64 * level + (level < 0 ? -off : off);
}

float qn_ect_step(float base, unsigned q)
{
    const float octave = qn_bits_f32((127 + q / QN_ECT_STEPS) << 23);
    return base * qn_bits_f32(qn_ect_step_tab[q % QN_ECT_STEPS]) * octave;
}
