/* ekern_vq_avx512.c: sixteen vectors to a register. */
#if defined(__x86_64__)
#include "compress/ekern_vq.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define LANES 16
#define GROUPS 4
#define NAME(x) vq16_##x
#define VEC __m512
#define INTS __m512i
#define load(p) _mm512_loadu_ps(p)
#define mul(a, b) _mm512_mul_ps(a, b)
#define sub(a, b) _mm512_sub_ps(a, b)
#define all(x) _mm512_set1_ps(x)
#define ints(x) _mm512_set1_epi32(x)
#define closer(d, least, best, index)                                                                                                \
    do {                                                                                                                             \
        const __mmask16 m_ = _mm512_cmp_ps_mask(d, least, _CMP_LT_OQ);                                                               \
        least = _mm512_min_ps(d, least);                                                                                             \
        best = _mm512_mask_mov_epi32(best, m_, index);                                                                               \
    } while (0)
#define put(to, v) _mm256_storeu_si256((__m256i *)(void *)(to), _mm512_cvtepi32_epi16(v))

#include "compress/ekern_vq_tmpl.h"

void qn_ekern_vq_avx512(qn_ekern_vq *k)
{
    k->nearest = vq16_nearest;
}
#endif
