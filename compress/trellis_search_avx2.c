/* trellis_search_avx2.c: eight nodes at a time. Same numbers as the C reference. */
#include "compress/trellis_search.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2")))

__attribute__((always_inline)) TARGET static inline void row(const float *value, unsigned bits, unsigned k, float target, const float *cost,
                                                              float *to, uint8_t *decision)
{
    const uint32_t nodes = 1u << bits, ways = 1u << k;
    const __m256 x = _mm256_set1_ps(target);
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0), from = _mm256_srl_epi32(lane, _mm_cvtsi32_si128((int)k));
    for (uint32_t n = 0; n < nodes; n += 8) {
        __m256 best = _mm256_setzero_ps();
        __m256i at = _mm256_setzero_si256();
        for (uint32_t a = 0; a < ways; a++) {
            const uint32_t window = a << bits | n;
            const __m256 e = _mm256_sub_ps(x, _mm256_loadu_ps(value + window));
            const __m256 before = _mm256_permutevar8x32_ps(_mm256_loadu_ps(cost + (window >> k)), from);
            const __m256 c = _mm256_add_ps(before, _mm256_mul_ps(e, e));
            const __m256 less = a == 0 ? _mm256_castsi256_ps(_mm256_set1_epi32(-1)) : _mm256_cmp_ps(c, best, _CMP_LT_OQ);
            best = _mm256_blendv_ps(best, c, less);
            at = _mm256_blendv_epi8(at, _mm256_set1_epi32((int)a), _mm256_castps_si256(less));
        }
        const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(at), _mm256_extracti128_si256(at, 1));
        _mm256_storeu_ps(to + n, best);
        _mm_storel_epi64((void *)(decision + n), _mm_packus_epi16(half, half));
    }
}

#define ROWS       qn_trellis_rows_avx2
#define LOG2_LANES 3
#include "compress/trellis_search_tmpl.h"
#endif
