/* trellis_search_avx512.c: sixteen nodes at a time. Same numbers as the C reference. */
#include "compress/trellis_search.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2")))

__attribute__((always_inline)) TARGET static inline void row(const float *value, unsigned bits, unsigned k, float target, const float *cost,
                                                              float *to, uint8_t *decision)
{
    const uint32_t nodes = 1u << bits, ways = 1u << k;
    const __m512 x = _mm512_set1_ps(target);
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), from = _mm512_srl_epi32(lane, _mm_cvtsi32_si128((int)k));
    for (uint32_t n = 0; n < nodes; n += 16) {
        __m512 best = _mm512_setzero_ps();
        __m512i at = _mm512_setzero_si512();
        for (uint32_t a = 0; a < ways; a++) {
            const uint32_t window = a << bits | n;
            const __m512 e = _mm512_sub_ps(x, _mm512_loadu_ps(value + window));
            const __m512 before = _mm512_permutexvar_ps(from, _mm512_loadu_ps(cost + (window >> k)));
            const __m512 c = _mm512_add_ps(before, _mm512_mul_ps(e, e));
            const __mmask16 less = a == 0 ? 0xffff : _mm512_cmp_ps_mask(c, best, _CMP_LT_OQ);
            best = _mm512_mask_mov_ps(best, less, c);
            at = _mm512_mask_mov_epi32(at, less, _mm512_set1_epi32((int)a));
        }
        _mm512_storeu_ps(to + n, best);
        _mm_storeu_si128((void *)(decision + n), _mm512_cvtepi32_epi8(at));
    }
}

#define ROWS       qn_trellis_rows_avx512
#define LOG2_LANES 4
#include "compress/trellis_search_tmpl.h"
#endif
