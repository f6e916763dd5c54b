/* kern_vq_avx2.c: eight columns a vector. */
#if defined(__x86_64__)
#include "runtime/kern_vq.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,f16c")))
#define LANES 8
#define NAME(x) vq8_##x
#define VEC __m256
#define low(a, b) _mm256_unpacklo_ps(a, b)
#define high(a, b) _mm256_unpackhi_ps(a, b)
#define low_pairs(a, b) _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))
#define high_pairs(a, b) _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))
#define add(a, b) _mm256_add_ps(a, b)
#define mul(a, b) _mm256_mul_ps(a, b)
#define all(x) _mm256_set1_ps(x)
#define load(p) _mm256_loadu_ps(p)
#define quads(book, place) vq8_quads(book, place)
#define pairs(book, place) vq8_pairs(book, place)
#define evens(a, b) _mm256_shuffle_ps(a, b, 0x88)
#define odds(a, b) _mm256_shuffle_ps(a, b, 0xdd)
#define store(t, to, v) vq8_store(t, to, v)

TARGET static inline __attribute__((always_inline)) __m256 vq8_quads(const float *book, const uint32_t *place)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(book + place[0])), _mm_loadu_ps(book + place[4]), 1);
}

TARGET static inline __attribute__((always_inline)) __m128 vq8_pair2(const float *book, const uint32_t *place)
{
    const __m128d a = _mm_load_sd((const double *)(const void *)(book + place[0]));
    return _mm_castpd_ps(_mm_loadh_pd(a, (const double *)(const void *)(book + place[1])));
}

TARGET static inline __attribute__((always_inline)) __m256 vq8_pairs(const float *book, const uint32_t *place)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(vq8_pair2(book, place)), vq8_pair2(book, place + 4), 1);
}

TARGET static inline __attribute__((always_inline)) void vq8_store(qn_dtype t, uint8_t *to, __m256 v)
{
    if (t == QN_F32) {
        _mm256_storeu_ps((float *)(void *)to, v);
    } else if (t == QN_F16) {
        _mm_storeu_si128((__m128i *)(void *)to, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    } else {
        const __m256i u = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
        const __m256i r = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd), 16);
        const __m256i p = _mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0x08);
        _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(p));
    }
}

#include "runtime/kern_vq_tmpl.h"

void qn_kern_vq_avx2(qn_kern_vq *k)
{
    k->rows = vq8_any;
}
#endif
