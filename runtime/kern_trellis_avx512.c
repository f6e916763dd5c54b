/* kern_trellis_avx512.c: sixteen columns a vector. */
#if defined(__x86_64__) && defined(__GNUC__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2,bmi,bmi2,f16c,popcnt")))
#define LANES 16
#define NAME(x) trellis16_##x
#include <immintrin.h>
#include <stdint.h>

typedef uint32_t trellis16_u32 __attribute__((vector_size(64)));
typedef int32_t trellis16_i32 __attribute__((vector_size(64)));
typedef float trellis16_f32 __attribute__((vector_size(64)));
typedef uint16_t trellis16_u16 __attribute__((vector_size(32)));

#define FN TARGET static inline __attribute__((always_inline)) trellis16_u32

FN trellis16_take(unsigned m, const void *p, trellis16_u32 v)
{
    return (trellis16_u32)_mm512_mask_expand_epi32((__m512i)v, (__mmask16)m, _mm512_loadu_si512(p));
}

FN trellis16_keep(unsigned m, trellis16_u32 a, trellis16_u32 v)
{
    return (trellis16_u32)_mm512_mask_mov_epi32((__m512i)a, (__mmask16)m, (__m512i)v);
}

FN trellis16_window(trellis16_u32 hi, trellis16_u32 lo, trellis16_u32 s)
{
    return (trellis16_u32)_mm512_shrdv_epi32((__m512i)lo, (__m512i)hi, (__m512i)s);
}

FN trellis16_byte_sum(trellis16_u32 x)
{
    return (trellis16_u32)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)x, _mm512_set1_epi8(1)), _mm512_set1_epi16(1));
}

#define to_f16(v) ((trellis16_u16)_mm512_cvtps_ph((__m512)(v), _MM_FROUND_TO_NEAREST_INT))
#include "runtime/kern_trellis_tmpl.h"

void qn_kern_trellis_avx512(qn_kern_trellis *k)
{
    NAME(fill)(k);
}
#endif
