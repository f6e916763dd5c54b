/* ekern_vq_avx2.c: eight vectors to a register. */
#if defined(__x86_64__)
#include "compress/ekern_vq.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define LANES 8
#define GROUPS 2
#define NAME(x) vq8_##x
#define VEC __m256
#define INTS __m256i
#define load(p) _mm256_loadu_ps(p)
#define mul(a, b) _mm256_mul_ps(a, b)
#define sub(a, b) _mm256_sub_ps(a, b)
#define all(x) _mm256_set1_ps(x)
#define ints(x) _mm256_set1_epi32(x)
#define closer(d, least, best, index)                                                                                                \
    do {                                                                                                                             \
        const __m256 m_ = _mm256_cmp_ps(d, least, _CMP_LT_OQ);                                                                       \
        least = _mm256_blendv_ps(least, d, m_);                                                                                      \
        best = _mm256_blendv_epi8(best, index, _mm256_castps_si256(m_));                                                             \
    } while (0)
#define put(to, v) vq8_put(to, v)

TARGET static inline __attribute__((always_inline)) void vq8_put(uint16_t *to, __m256i v)
{
    const __m256i p = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(p));
}

#include "compress/ekern_vq_tmpl.h"

void qn_ekern_vq_avx2(qn_ekern_vq *k)
{
    k->nearest = vq8_nearest;
}
#endif
