/* kern_vq_avx512.c: sixteen columns a vector. */
#if defined(__x86_64__)
#include "runtime/kern_vq.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2,f16c")))
#define LANES 16
#define NAME(x) vq16_##x
#define VEC __m512
#define low(a, b) _mm512_unpacklo_ps(a, b)
#define high(a, b) _mm512_unpackhi_ps(a, b)
#define low_pairs(a, b) _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
#define high_pairs(a, b) _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
#define add(a, b) _mm512_add_ps(a, b)
#define mul(a, b) _mm512_mul_ps(a, b)
#define all(x) _mm512_set1_ps(x)
#define load(p) _mm512_loadu_ps(p)
#define quads(book, place) vq16_quads(book, place)
#define pairs(book, place) vq16_pairs(book, place)
#define evens(a, b) _mm512_shuffle_ps(a, b, 0x88)
#define odds(a, b) _mm512_shuffle_ps(a, b, 0xdd)
#define store(t, to, v) vq16_store(t, to, v)

TARGET static inline __attribute__((always_inline)) __m512 vq16_quads(const float *book, const uint32_t *place)
{
    const __m256 a = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(book + place[0])), _mm_loadu_ps(book + place[4]), 1);
    const __m256 b = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(book + place[8])), _mm_loadu_ps(book + place[12]), 1);
    return _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1);
}

TARGET static inline __attribute__((always_inline)) __m128 vq16_pair2(const float *book, const uint32_t *place)
{
    const __m128d a = _mm_load_sd((const double *)(const void *)(book + place[0]));
    return _mm_castpd_ps(_mm_loadh_pd(a, (const double *)(const void *)(book + place[1])));
}

TARGET static inline __attribute__((always_inline)) __m512 vq16_pairs(const float *book, const uint32_t *place)
{
    const __m256 a = _mm256_insertf128_ps(_mm256_castps128_ps256(vq16_pair2(book, place)), vq16_pair2(book, place + 4), 1);
    const __m256 b = _mm256_insertf128_ps(_mm256_castps128_ps256(vq16_pair2(book, place + 8)), vq16_pair2(book, place + 12), 1);
    return _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1);
}

TARGET static inline __attribute__((always_inline)) void vq16_store(qn_dtype t, uint8_t *to, __m512 v)
{
    if (t == QN_F32) {
        _mm512_storeu_ps(to, v);
    } else if (t == QN_F16) {
        _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    } else {
        const __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
        const __m512i r = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
        _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(r));
    }
}

#include "runtime/kern_vq_tmpl.h"

void qn_kern_vq_avx512(qn_kern_vq *k)
{
    k->rows = vq16_any;
}
#endif
