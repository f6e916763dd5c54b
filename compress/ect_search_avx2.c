/* ect_search_avx2.c: Viterbi 16 states at a time. Same numbers as the C reference; branches are those of the reference. */
#include "compress/ect_search.h"
#include "base/num.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

static unsigned before(const qn_ect_code *c, unsigned state, unsigned odd)
{
    const unsigned n = 1u << c->log2_states, z = state >> (c->log2_states - 1) & 1;
    return ((state ^ (odd ? c->h1 : 0u) ^ (z ? c->h0 : 0u)) << 1 | z) & (n - 1);
}

static uint8_t best_of(const uint16_t *sum, unsigned n)
{
    unsigned last = 0;
    for (unsigned s = 1; s < n; s++)
        last = sum[s] < sum[last] ? s : last;
    return (uint8_t)last;
}

/* 4 and 8 states: one shuffle of eight. */
TARGET static void narrow(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions)
{
    const unsigned n = 1u << code->log2_states;
    uint8_t at[2][16], which[2][16];
    uint16_t sum[8];
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 2; k++) {
            const unsigned t = i / 2 & (n - 1), z = t >> (code->log2_states - 1);
            at[k][i] = (uint8_t)(2 * before(code, t, k) + i % 2);
            which[k][i] = (uint8_t)(2 * (2 * z + k) + i % 2);
            sum[i / 2] = t ? 65535 : 0;
        }
    const __m128i even_at = _mm_loadu_si128((const void *)at[0]), odd_at = _mm_loadu_si128((const void *)at[1]),
                  even_cost = _mm_loadu_si128((const void *)which[0]), odd_cost = _mm_loadu_si128((const void *)which[1]);
    __m128i v = _mm_loadu_si128((const void *)sum);
    for (uint32_t i = 0; i < rows; i++) {
        const __m128i c = _mm_loadl_epi64((const void *)b[i].cost);
        const __m128i even = _mm_adds_epu16(_mm_shuffle_epi8(v, even_at), _mm_shuffle_epi8(c, even_cost)),
                      odd = _mm_adds_epu16(_mm_shuffle_epi8(v, odd_at), _mm_shuffle_epi8(c, odd_cost));
        v = _mm_min_epu16(even, odd);
        const unsigned kept = (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm_cmpeq_epi16(v, even), _mm_setzero_si128()));
        decisions[i] = (uint8_t)(~kept & ((1u << n) - 1));
        if (i % 8 == 7)
            v = _mm_sub_epi16(v, _mm_broadcastw_epi16(_mm_minpos_epu16(v)));
    }
    _mm_storeu_si128((void *)sum, v);
    decisions[rows] = best_of(sum, n);
}

/* Costs of even states (z = 0), then of odd ones, from 32 states in order. */
INLINE void part(__m256i a, __m256i b, __m256i *even, __m256i *odd)
{
    const __m256i low = _mm256_set1_epi32(0xffff);
    *even = _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low)), 0xd8);
    *odd = _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16)), 0xd8);
}

INLINE uint16_t bits_of(__m256i v, __m256i even)
{
    const __m256i kept = _mm256_cmpeq_epi16(v, even);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(kept), _mm256_extracti128_si256(kept, 1));
    return (uint16_t)~_mm_movemask_epi8(bytes);
}

INLINE __m256i renewed(__m256i v, __m256i least)
{
    const __m128i h = _mm_min_epu16(_mm256_castsi256_si128(least), _mm256_extracti128_si256(least, 1));
    return _mm256_sub_epi16(v, _mm256_broadcastw_epi16(_mm_minpos_epu16(h)));
}

/* 16 states: z = 0 in the lower half of the register, 1 in the upper. */
TARGET static void sixteen(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions)
{
    uint8_t at[2][32], which[2][32];
    uint16_t sum[16];
    for (unsigned i = 0; i < 32; i++)
        for (unsigned k = 0; k < 2; k++) {
            const unsigned t = i / 2, z = t / 8;
            at[k][i] = (uint8_t)(2 * (before(code, t, k) / 2) + i % 2);
            which[k][i] = (uint8_t)(2 * (2 * z + k) + i % 2);
            sum[t] = t ? 65535 : 0;
        }
    const __m256i even_at = _mm256_loadu_si256((const void *)at[0]), odd_at = _mm256_loadu_si256((const void *)at[1]),
                  even_cost = _mm256_loadu_si256((const void *)which[0]), odd_cost = _mm256_loadu_si256((const void *)which[1]);
    __m256i v = _mm256_loadu_si256((const void *)sum);
    for (uint32_t i = 0; i < rows; i++) {
        const __m256i c = _mm256_broadcastsi128_si256(_mm_loadl_epi64((const void *)b[i].cost));
        const __m256i parted = _mm256_permute4x64_epi64(
            _mm256_packus_epi32(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)), _mm256_srli_epi32(v, 16)), 0xd8);
        const __m256i even = _mm256_adds_epu16(_mm256_shuffle_epi8(parted, even_at), _mm256_shuffle_epi8(c, even_cost)),
                      odd = _mm256_adds_epu16(_mm256_shuffle_epi8(parted, odd_at), _mm256_shuffle_epi8(c, odd_cost));
        v = _mm256_min_epu16(even, odd);
        const uint16_t m = bits_of(v, even);
        memcpy(decisions + 2 * (size_t)i, &m, 2);
        if (i % 8 == 7)
            v = renewed(v, v);
    }
    _mm256_storeu_si256((void *)sum, v);
    decisions[2 * (size_t)rows] = best_of(sum, 16);
}

/* From 32 states on. State t's predecessors are 2u + z, u = (t ^ x) mod n/2: in blocks of 16, one block with its places
 * exclusive-ored. */
TARGET static void wide(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions)
{
    const unsigned n = 1u << code->log2_states, n_regs = n / 16;
    _Alignas(32) uint16_t sum[256], half[2][128];
    __m256i pairs[2][2], flip[2][2];
    unsigned block[16][2];
    for (unsigned s = 0; s < n; s++)
        sum[s] = s ? 65535 : 0;
    for (unsigned z = 0; z < 2; z++)
        for (unsigned k = 0; k < 2; k++) {
            const unsigned x = (k ? code->h1 : 0u) ^ (z ? code->h0 : 0u);
            uint32_t p[8];
            uint8_t f[32];
            for (unsigned i = 0; i < 8; i++)
                p[i] = i ^ (x >> 1 & 7);
            for (unsigned i = 0; i < 32; i++)
                f[i] = (uint8_t)((i & 15) ^ (x & 1) * 2);
            pairs[z][k] = _mm256_loadu_si256((const void *)p);
            flip[z][k] = _mm256_loadu_si256((const void *)f);
            for (unsigned r = z * n_regs / 2; r < (z + 1) * n_regs / 2; r++)
                block[r][k] = ((16 * r ^ x) & (n / 2 - 1)) / 16;
        }
    for (uint32_t i = 0; i < rows; i++, decisions += 2 * n_regs) {
        __m256i least = _mm256_set1_epi16(-1);
        for (unsigned q = 0; q < n_regs / 2; q++) {
            __m256i even, odd;
            part(_mm256_load_si256((const void *)(sum + 32 * q)), _mm256_load_si256((const void *)(sum + 32 * q + 16)), &even, &odd);
            _mm256_store_si256((void *)(half[0] + 16 * q), even);
            _mm256_store_si256((void *)(half[1] + 16 * q), odd);
        }
        for (unsigned r = 0; r < n_regs; r++) {
            const unsigned z = r >= n_regs / 2;
            __m256i way[2];
            for (unsigned k = 0; k < 2; k++) {
                const __m256i from = _mm256_load_si256((const void *)(half[z] + 16 * block[r][k]));
                way[k] = _mm256_adds_epu16(_mm256_shuffle_epi8(_mm256_permutevar8x32_epi32(from, pairs[z][k]), flip[z][k]),
                                           _mm256_set1_epi16((short)b[i].cost[2 * z + k]));
            }
            const __m256i v = _mm256_min_epu16(way[0], way[1]);
            const uint16_t m = bits_of(v, way[0]);
            memcpy(decisions + 2 * r, &m, 2);
            _mm256_store_si256((void *)(sum + 16 * r), v);
            least = _mm256_min_epu16(least, v);
        }
        for (unsigned r = 0; i % 8 == 7 && r < n_regs; r++)
            _mm256_store_si256((void *)(sum + 16 * r), renewed(_mm256_load_si256((const void *)(sum + 16 * r)), least));
    }
    *decisions = best_of(sum, n);
}

TARGET void qn_ect_viterbi_avx2(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions)
{
    if (code->log2_states <= 3)
        narrow(code, b, rows, decisions);
    else if (code->log2_states == 4)
        sixteen(code, b, rows, decisions);
    else
        wide(code, b, rows, decisions);
}
#endif
