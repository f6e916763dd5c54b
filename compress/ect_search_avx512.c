/* ect_search_avx512.c: branches 16 rows at a time, Viterbi 32 states at a time. Same numbers as the C reference. */
#include "compress/ect_search.h"
#include "base/num.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef struct group {
    __m512i low, tab; /* tab: 2 · table · 64 */
    __m512 far;
    __mmask16 fine; /* classes that have low bits: points are the levels */
} group;

INLINE __m512 cost_of(const qn_ect_book *b, const group *g, __m512 v, __m512i level, unsigned z, unsigned odd)
{
    const __m512i half = _mm512_srav_epi32(_mm512_srai_epi32(level, 2), g->low);
    const __m512i u = _mm512_add_epi32(_mm512_slli_epi32(half, 1), _mm512_set1_epi32((int)odd + QN_ECT_ZERO));
    const __mmask16 coded = _mm512_cmplt_epu32_mask(_mm512_sub_epi32(u, _mm512_set1_epi32(2)), _mm512_set1_epi32(QN_ECT_SYMS - 2));
    const __m512i at = _mm512_add_epi32(_mm512_add_epi32(g->tab, _mm512_set1_epi32((int)z * QN_ECT_SYMS)),
                                        _mm512_mask_mov_epi32(_mm512_set1_epi32((int)odd), coded, u));
    const __m512 bits = _mm512_add_ps(_mm512_i32gather_ps(at, &b->len[0][0], 4), _mm512_cvtepi32_ps(g->low));
    const __m512 lv = _mm512_cvtepi32_ps(level);
    const __mmask16 negative = _mm512_movepi32_mask(level);
    __m512 point = _mm512_mask_sub_ps(_mm512_add_ps(lv, g->far), negative, lv, g->far);
    point = _mm512_mask_i32gather_ps(point, coded, at, &b->point[0][0], 4);
    point = _mm512_mask_mov_ps(point, g->fine, lv);
    const __m512 e = _mm512_sub_ps(v, point);
    return _mm512_add_ps(_mm512_mul_ps(e, e), _mm512_mul_ps(_mm512_set1_ps(b->lambda), bits));
}

INLINE group group_of(const qn_ect_book *b, __m512i class)
{
    group g;
    const __m512i top = _mm512_set1_epi32((int)b->top);
    const __m512i over = _mm512_max_epi32(_mm512_sub_epi32(class, top), _mm512_setzero_si512());
    /* ⌈over / 6⌉ for over ≤ 48 */
    g.low = _mm512_srli_epi32(_mm512_mullo_epi32(_mm512_add_epi32(over, _mm512_set1_epi32(QN_ECT_OCTAVE - 1)), _mm512_set1_epi32(43)), 8);
    const __m512i table = _mm512_sub_epi32(class, _mm512_mullo_epi32(g.low, _mm512_set1_epi32(QN_ECT_OCTAVE)));
    g.tab = _mm512_slli_epi32(table, 7);
    g.far = _mm512_i32gather_ps(table, b->far, 4);
    g.fine = _mm512_cmpgt_epi32_mask(class, top);
    return g;
}

TARGET void qn_ect_branch_avx512(const qn_ect_book *b, const float *x, const uint8_t *class, uint32_t rows, qn_ect_branch *out)
{
    const __m512 limit = _mm512_set1_ps(QN_ECT_LEVEL_MAX - 8), quarter = _mm512_set1_ps(0.25f);
    uint32_t i = 0;
    for (; i + 16 <= rows; i += 16) {
        const group g = group_of(b, _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(class + i))));
        __m512 v = _mm512_loadu_ps(x + i);
        v = _mm512_min_ps(_mm512_max_ps(v, _mm512_sub_ps(_mm512_setzero_ps(), limit)), limit);
        __m512 best[4];
        __m512i level[4];
        for (unsigned d = 0; d < 4; d++) {
            const unsigned z = d >> 1, odd = d & 1, first = 2 * odd + z;
            const __m512 m = _mm512_roundscale_ps(_mm512_mul_ps(_mm512_sub_ps(v, _mm512_set1_ps((float)first)), quarter),
                                                  _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
            const __m512i lo = _mm512_add_epi32(_mm512_slli_epi32(_mm512_cvtps_epi32(m), 2), _mm512_set1_epi32((int)first)),
                          hi = _mm512_add_epi32(lo, _mm512_set1_epi32(4));
            const __m512 c_lo = cost_of(b, &g, v, lo, z, odd), c_hi = cost_of(b, &g, v, hi, z, odd);
            const __mmask16 up = _mm512_cmp_ps_mask(c_hi, c_lo, _CMP_LT_OQ);
            best[d] = _mm512_mask_mov_ps(c_lo, up, c_hi);
            level[d] = _mm512_mask_mov_epi32(lo, up, hi);
        }
        const __m512 least = _mm512_min_ps(_mm512_min_ps(best[0], best[1]), _mm512_min_ps(best[2], best[3]));
        __m512i cost[4];
        for (unsigned d = 0; d < 4; d++)
            cost[d] = _mm512_cvttps_epi32(
                _mm512_min_ps(_mm512_add_ps(_mm512_mul_ps(_mm512_sub_ps(best[d], least), _mm512_set1_ps(512.0f)), _mm512_set1_ps(0.5f)),
                              _mm512_set1_ps(QN_ECT_COST_MAX)));
        /* (row): cost 0, cost 1, cost 2, cost 3, level 0, … as four dwords */
        const __m512i low16 = _mm512_set1_epi32(0xffff);
        const __m512i c01 = _mm512_or_si512(cost[0], _mm512_slli_epi32(cost[1], 16)),
                      c23 = _mm512_or_si512(cost[2], _mm512_slli_epi32(cost[3], 16)),
                      l01 = _mm512_or_si512(_mm512_and_si512(level[0], low16), _mm512_slli_epi32(level[1], 16)),
                      l23 = _mm512_or_si512(_mm512_and_si512(level[2], low16), _mm512_slli_epi32(level[3], 16));
        const __m512i ca = _mm512_unpacklo_epi32(c01, c23), cb = _mm512_unpackhi_epi32(c01, c23),
                      la = _mm512_unpacklo_epi32(l01, l23), lb = _mm512_unpackhi_epi32(l01, l23);
        const __m512i r0 = _mm512_unpacklo_epi64(ca, la), r1 = _mm512_unpackhi_epi64(ca, la),
                      r2 = _mm512_unpacklo_epi64(cb, lb), r3 = _mm512_unpackhi_epi64(cb, lb);
        /* 128-bit part p of r_k is row 4p + k */
        const __m512i a = _mm512_shuffle_i32x4(r0, r1, 0x44), c = _mm512_shuffle_i32x4(r2, r3, 0x44),
                      e = _mm512_shuffle_i32x4(r0, r1, 0xee), f = _mm512_shuffle_i32x4(r2, r3, 0xee);
        _mm512_storeu_si512(out + i, _mm512_shuffle_i32x4(a, c, 0x88));
        _mm512_storeu_si512(out + i + 4, _mm512_shuffle_i32x4(a, c, 0xdd));
        _mm512_storeu_si512(out + i + 8, _mm512_shuffle_i32x4(e, f, 0x88));
        _mm512_storeu_si512(out + i + 12, _mm512_shuffle_i32x4(e, f, 0xdd));
    }
    qn_ect_branch_c(b, x + i, class + i, rows - i, out + i);
}

/* Up to 32 states: one register, the upper half of the states has z = 1. */
INLINE void narrow(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions)
{
    const unsigned nu = code->log2_states, n = 1u << nu, step = n < 8 ? 1 : n / 8;
    uint16_t at[2][32], which[2][32], sum[32];
    for (unsigned s = 0; s < 32; s++)
        for (unsigned k = 0; k < 2; k++) {
            const unsigned t = s & (n - 1), z = t >> (nu - 1);
            at[k][s] = (uint16_t)(((t ^ (k ? code->h1 : 0u) ^ (z ? code->h0 : 0u)) << 1 | z) & (n - 1));
            which[k][s] = (uint16_t)(2 * z + k);
            sum[s] = t ? 65535 : 0;
        }
    const __m512i even_at = _mm512_loadu_si512(at[0]), odd_at = _mm512_loadu_si512(at[1]),
                  even_cost = _mm512_loadu_si512(which[0]), odd_cost = _mm512_loadu_si512(which[1]);
    __m512i v = _mm512_loadu_si512(sum);
    for (uint32_t i = 0; i < rows; i++, decisions += step) {
        const __m512i c = _mm512_castsi128_si512(_mm_loadl_epi64((const void *)b[i].cost));
        const __m512i even = _mm512_adds_epu16(_mm512_permutexvar_epi16(even_at, v), _mm512_permutexvar_epi16(even_cost, c)),
                      odd = _mm512_adds_epu16(_mm512_permutexvar_epi16(odd_at, v), _mm512_permutexvar_epi16(odd_cost, c));
        const uint32_t m = _cvtmask32_u32(_mm512_cmplt_epu16_mask(odd, even));
        v = _mm512_min_epu16(even, odd);
        if (n == 32)
            memcpy(decisions, &m, 4);
        else if (n == 16)
            memcpy(decisions, &m, 2);
        else
            *decisions = (uint8_t)(n == 4 ? m & 15 : m);
        if (i % 8 == 7) {
            __m256i h = _mm256_min_epu16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
            const __m128i q = _mm_minpos_epu16(_mm_min_epu16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1)));
            v = _mm512_sub_epi16(v, _mm512_broadcastw_epi16(q));
        }
    }
    _mm512_storeu_si512(sum, v);
    unsigned last = 0;
    for (unsigned s = 1; s < n; s++)
        last = sum[s] < sum[last] ? s : last;
    *decisions = (uint8_t)last;
}

/* 64 … 256 states, in n / 32 registers. State t's predecessors are 2u + z, u = (t ^ …) mod n/2, z its highest bit. */
INLINE void wide(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions, const unsigned n_regs)
{
    const unsigned nu = code->log2_states;
    __m512i v[8], at[2][2];
    unsigned pair[8][2];
    for (unsigned z = 0; z < 2; z++)
        for (unsigned k = 0; k < 2; k++) {
            uint16_t i[32];
            const unsigned x = (k ? code->h1 : 0u) ^ (z ? code->h0 : 0u);
            for (unsigned s = 0; s < 32; s++)
                i[s] = (uint16_t)(2 * (s ^ (x & 31)) + z);
            at[z][k] = _mm512_loadu_si512(i);
            for (unsigned r = 0; r < n_regs / 2; r++) {
                const unsigned reg = r + z * n_regs / 2;
                pair[reg][k] = (32 * reg ^ x) & ((1u << (nu - 1)) - 1);
                pair[reg][k] /= 32;
            }
        }
    for (unsigned r = 0; r < n_regs; r++)
        v[r] = _mm512_set1_epi16(-1);
    v[0] = _mm512_mask_mov_epi16(v[0], 1, _mm512_setzero_si512());
    _Alignas(64) uint16_t sum[256];
    for (unsigned r = 0; r < n_regs; r++)
        _mm512_store_si512(sum + 32 * r, v[r]);
    for (uint32_t i = 0; i < rows; i++, decisions += 4 * n_regs) {
        for (unsigned r = 0; r < n_regs; r++) {
            const unsigned z = r >= n_regs / 2;
            const __m512i ce = _mm512_set1_epi16((short)b[i].cost[2 * z]), co = _mm512_set1_epi16((short)b[i].cost[2 * z + 1]);
            const uint16_t *pe = sum + 64 * pair[r][0], *po = sum + 64 * pair[r][1];
            const __m512i even = _mm512_adds_epu16(
                              _mm512_permutex2var_epi16(_mm512_load_si512(pe), at[z][0], _mm512_load_si512(pe + 32)), ce),
                          odd = _mm512_adds_epu16(
                              _mm512_permutex2var_epi16(_mm512_load_si512(po), at[z][1], _mm512_load_si512(po + 32)), co);
            const uint32_t m = _cvtmask32_u32(_mm512_cmplt_epu16_mask(odd, even));
            memcpy(decisions + 4 * r, &m, 4);
            v[r] = _mm512_min_epu16(even, odd);
        }
        if (i % 8 == 7) {
            __m512i w = v[0];
            for (unsigned r = 1; r < n_regs; r++)
                w = _mm512_min_epu16(w, v[r]);
            __m256i h = _mm256_min_epu16(_mm512_castsi512_si256(w), _mm512_extracti64x4_epi64(w, 1));
            const __m128i q = _mm_minpos_epu16(_mm_min_epu16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1)));
            for (unsigned r = 0; r < n_regs; r++)
                v[r] = _mm512_sub_epi16(v[r], _mm512_broadcastw_epi16(q));
        }
        for (unsigned r = 0; r < n_regs; r++)
            _mm512_store_si512(sum + 32 * r, v[r]);
    }
    unsigned last = 0;
    for (unsigned s = 1; s < 32 * n_regs; s++)
        last = sum[s] < sum[last] ? s : last;
    *decisions = (uint8_t)last;
}

TARGET void qn_ect_viterbi_avx512(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions)
{
    switch (code->log2_states) {
    case 6:
        wide(code, b, rows, decisions, 2);
        break;
    case 7:
        wide(code, b, rows, decisions, 4);
        break;
    case 8:
        wide(code, b, rows, decisions, 8);
        break;
    default:
        narrow(code, b, rows, decisions);
    }
}
#endif
