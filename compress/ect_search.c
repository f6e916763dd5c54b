/* ect_search.c: see ect_search.h; C reference. */
#include "compress/ect_search.h"
#include "base/cpu.h"
#include "base/num.h"
#include "compress/ilog.h"
#include <math.h>

void qn_ect_book_make(qn_ect_book *b, unsigned log2_states, unsigned shape, float lambda)
{
    /* 2 ln 2 · D at the distortion that a fine step gives: 1/3 for one state (a step is two), about 1/4 with a trellis */
    static const float slope[3] = {0.46f, 0.36f, 0.35f};
    b->shape = shape;
    b->top = qn_ect_top[shape];
    b->kind = qn_ect_kind(log2_states);
    b->lambda = lambda > 0 ? lambda : slope[b->kind];
    if (!qn_ect_code_get(log2_states, &b->code))
        b->code = (qn_ect_code){0};
    for (unsigned tab = 0; tab < QN_ECT_TABS; tab++) {
        qn_ect_freq(shape, tab / 2, tab & 1, b->freq[tab]);
        for (unsigned u = 0; u < QN_ECT_SYMS; u++) {
            const int32_t level = 2 * ((int32_t)u - QN_ECT_ZERO) + (int32_t)(tab & 1);
            const uint16_t f = b->freq[tab][u];
            b->len[tab][u] =
                u < 2 || f == 0 ? QN_ECT_ESCAPE_BITS : (float)((QN_ECT_BITS << 16) - (int32_t)qn_ilog2(f)) * 0x1p-16f;
            b->point[tab][u] = (float)qn_ect_point(b->kind, shape, tab / 2, level) * 0x1p-6f;
        }
        b->far[tab / 2] = (float)(qn_ect_point(b->kind, shape, tab / 2, 64) - 64 * 64) * 0x1p-6f;
    }
}

/* Symbol of k (with its low bits away) and the table's row. */
static inline unsigned symbol_of(int32_t k, unsigned low)
{
    const int32_t u = ((k >> 1 >> low) * 2 + (k & 1)) + QN_ECT_ZERO;
    return u < 2 || u >= QN_ECT_SYMS ? (unsigned)(k & 1) : (unsigned)u;
}

float qn_ect_bits_of(const qn_ect_book *b, unsigned class, int32_t level)
{
    const unsigned low = qn_ect_low_bits(class, b->top), tab = 2 * qn_ect_table(class, b->top) | (unsigned)(level & 1);
    return b->len[tab][symbol_of(level >> 1, low)] + (float)low;
}

float qn_ect_point_of(const qn_ect_book *b, unsigned class, int32_t level)
{
    if (class > b->top)
        return (float)level;
    const unsigned tab = 2 * class | (unsigned)(level & 1), u = symbol_of(level >> 1, 0);
    if (u >= 2)
        return b->point[tab][u];
    return level < 0 ? (float)level - b->far[class] : (float)level + b->far[class];
}

void qn_ect_branch_c(const qn_ect_book *b, const float *x, const uint8_t *class, uint32_t rows, qn_ect_branch *out)
{
    for (uint32_t i = 0; i < rows; i++) {
        float best[4], least = 0;
        const float v = x[i] > QN_ECT_LEVEL_MAX - 8   ? QN_ECT_LEVEL_MAX - 8
                        : x[i] < 8 - QN_ECT_LEVEL_MAX ? 8 - QN_ECT_LEVEL_MAX
                                                      : x[i];
        for (int32_t d = 0; d < 4; d++) {
            /* levels 4m + 2(d & 1) + d/2: the one below and the one above */
            const int32_t first = 2 * (d & 1) + (d >> 1), lo = 4 * (int32_t)floorf((v - (float)first) * 0.25f) + first,
                          hi = lo + 4;
            const float e_lo = v - qn_ect_point_of(b, class[i], lo), e_hi = v - qn_ect_point_of(b, class[i], hi);
            const float c_lo = e_lo * e_lo + b->lambda * qn_ect_bits_of(b, class[i], lo),
                        c_hi = e_hi * e_hi + b->lambda * qn_ect_bits_of(b, class[i], hi);
            best[d] = c_hi < c_lo ? c_hi : c_lo;
            out[i].level[d] = (int16_t)(c_hi < c_lo ? hi : lo);
            least = d == 0 || best[d] < least ? best[d] : least;
        }
        for (int d = 0; d < 4; d++) {
            const float c = (best[d] - least) * 512.0f + 0.5f;
            out[i].cost[d] = (uint16_t)(c < (float)QN_ECT_COST_MAX ? c : (float)QN_ECT_COST_MAX);
        }
    }
}

static inline uint16_t add_sat(unsigned a, unsigned b)
{
    return (uint16_t)(a + b < 65535 ? a + b : 65535);
}

void qn_ect_viterbi_c(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions)
{
    const unsigned nu = code->log2_states, n = 1u << nu, step = n < 8 ? 1 : n / 8;
    uint16_t sum[2][256], *from = sum[0], *to = sum[1];
    uint8_t state[2][256];
    for (unsigned s = 0; s < n; s++) {
        const unsigned z = s >> (nu - 1) & 1;
        from[s] = s ? 65535 : 0;
        for (unsigned k = 0; k < 2; k++)
            state[k][s] = (uint8_t)(((s ^ (k ? code->h1 : 0u) ^ (z ? code->h0 : 0u)) << 1 | z) & (n - 1));
    }
    for (uint32_t i = 0; i < rows; i++, decisions += step) {
        const uint16_t *c = b[i].cost;
        uint16_t least = 65535;
        memset(decisions, 0, step);
        for (unsigned s = 0; s < n; s++) {
            const unsigned z = s >> (nu - 1) & 1;
            const uint16_t even = add_sat(from[state[0][s]], c[2 * z]), odd = add_sat(from[state[1][s]], c[2 * z + 1]);
            to[s] = odd < even ? odd : even;
            decisions[s / 8] |= (uint8_t)((odd < even) << (s % 8));
            least = to[s] < least ? to[s] : least;
        }
        for (unsigned s = 0; i % 8 == 7 && s < n; s++)
            to[s] = (uint16_t)(to[s] - least);
        uint16_t *swap = from;
        from = to;
        to = swap;
    }
    unsigned last = 0;
    for (unsigned s = 1; s < n; s++)
        last = from[s] < from[last] ? s : last;
    *decisions = (uint8_t)last;
}

void qn_ekern_ect_init(qn_ekern_ect *k, unsigned cpu)
{
    *k = (qn_ekern_ect){qn_ect_branch_c, qn_ect_viterbi_c};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        k->viterbi = qn_ect_viterbi_avx2;
    if (cpu & QN_CPU_AVX512)
        *k = (qn_ekern_ect){qn_ect_branch_avx512, qn_ect_viterbi_avx512};
#endif
    (void)cpu;
}

uint64_t qn_ect_search_bytes(unsigned log2_states, uint32_t rows)
{
    const uint64_t n = 1u << log2_states;
    return ((uint64_t)rows + 16) * sizeof(qn_ect_branch) + (uint64_t)rows * (n < 8 ? 1 : n / 8) + 64;
}

void qn_ect_search(const qn_ekern_ect *k, const qn_ect_book *b, const float *x, const uint8_t *class, uint32_t rows,
                   int16_t *level, void *room)
{
    qn_ect_branch *br = room;
    uint8_t *decisions = (uint8_t *)(br + rows + 16);
    const unsigned nu = b->code.log2_states, n = 1u << nu, step = n < 8 ? 1 : n / 8;
    k->branch(b, x, class, rows, br);
    if (nu == 0) {
        for (uint32_t i = 0; i < rows; i++)
            level[i] = br[i].level[br[i].cost[1] < br[i].cost[0]];
        return;
    }
    k->viterbi(&b->code, br, rows, decisions);
    unsigned s = decisions[(size_t)rows * step];
    for (uint32_t i = rows; i-- > 0;) {
        const unsigned odd = decisions[(size_t)i * step + s / 8] >> (s % 8) & 1, z = s >> (nu - 1) & 1;
        level[i] = br[i].level[2 * z + odd];
        s = ((s ^ (odd ? b->code.h1 : 0u) ^ (z ? b->code.h0 : 0u)) << 1 | z) & (n - 1);
    }
}
