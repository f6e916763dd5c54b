/* kern_trellis_avx2.c: eight columns a vector. */
#if defined(__x86_64__) && defined(__GNUC__)
#define TARGET __attribute__((target("avx2,bmi,bmi2,f16c,popcnt")))
#define LANES 8
#define NAME(x) trellis8_##x
#include <immintrin.h>
#include <stdint.h>

typedef uint32_t trellis8_u32 __attribute__((vector_size(32)));
typedef int32_t trellis8_i32 __attribute__((vector_size(32)));
typedef float trellis8_f32 __attribute__((vector_size(32)));
typedef uint16_t trellis8_u16 __attribute__((vector_size(16)));

#define FN TARGET static inline __attribute__((always_inline)) trellis8_u32

/* A byte of ones for each bit of m. */
#define SPREAD(m) (_pdep_u64(m, UINT64_C(0x0101010101010101)) * 255)

FN trellis8_take(unsigned m, const void *p, trellis8_u32 v)
{
    /* byte i: the place of lane i's word, and the top bit where it takes one */
    const uint64_t mask = SPREAD(m), place = _pdep_u64(UINT64_C(0x0706050403020100), mask) | (mask & UINT64_C(0x8080808080808080));
    const __m256i at = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)place));
    const __m256i words = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(p), at);
    return (trellis8_u32)_mm256_blendv_ps((__m256)v, (__m256)words, (__m256)at);
}

FN trellis8_keep(unsigned m, trellis8_u32 a, trellis8_u32 v)
{
    return (trellis8_u32)_mm256_blendv_ps((__m256)a, (__m256)v, (__m256)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)SPREAD(m))));
}

FN trellis8_window(trellis8_u32 hi, trellis8_u32 lo, trellis8_u32 s)
{
    const __m256i left = _mm256_sllv_epi32((__m256i)hi, _mm256_sub_epi32(_mm256_set1_epi32(32), (__m256i)s)); /* 0 for s = 0 */
    return (trellis8_u32)_mm256_or_si256(left, _mm256_srlv_epi32((__m256i)lo, (__m256i)s));
}

FN trellis8_byte_sum(trellis8_u32 x)
{
    return (trellis8_u32)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)x, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}

#define to_f16(v) ((trellis8_u16)_mm256_cvtps_ph((__m256)(v), _MM_FROUND_TO_NEAREST_INT))
#include "runtime/kern_trellis_tmpl.h"

void qn_kern_trellis_avx2(qn_kern_trellis *k)
{
    NAME(fill)(k);
}
#endif
