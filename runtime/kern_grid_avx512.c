/* kern_grid_avx512.c: sixteen units a vector. Their codes are brought to 32-bit lanes by one permutation of bytes and one shift. Up to
 * four bits a code then picks its value from the group's table of sixteen; wider ones are computed. */
#if defined(__x86_64__)
#include "runtime/kern_grid.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { LANES = 16 };

struct spread {
    __m512i gather, down;
};

INLINE __m512i lanes(void)
{
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

INLINE struct spread spread_of(unsigned bits)
{
    struct spread s;
    const __m512i at = _mm512_mullo_epi32(lanes(), _mm512_set1_epi32((int)bits)), byte = _mm512_srli_epi32(at, 3);
    s.down = _mm512_and_si512(at, _mm512_set1_epi32(7));
    s.gather = _mm512_or_si512(byte, _mm512_slli_epi32(_mm512_add_epi32(byte, _mm512_set1_epi32(1)), 8));
    return s;
}

INLINE void store(qn_grid_out out, __m512 v, uint8_t *dst)
{
    if (out == QN_GRID_F32) {
        _mm512_storeu_ps(dst, v);
    } else if (out == QN_GRID_F16) {
        _mm256_storeu_si256((__m256i *)(void *)dst, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    } else {
        const __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
        const __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
        _mm256_storeu_si256((__m256i *)(void *)dst, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
    }
}

/* float(2 · code − z2) × half: the difference is exact. */
INLINE __m512 value(__m512i code, __m512 z2, __m512 half)
{
    return _mm512_mul_ps(_mm512_fmsub_ps(_mm512_cvtepi32_ps(code), _mm512_set1_ps(2), z2), half);
}

INLINE void run(qn_grid_out out, unsigned bits, const qn_grid_row *r, uint8_t *dst)
{
    const size_t unit = out == QN_GRID_F32 ? 4 : 2, n_bytes = ((size_t)r->n * bits + 7) / 8;
    const struct spread s = spread_of(bits);
    const __m512i mask = _mm512_set1_epi32((1 << bits) - 1), all = _mm512_and_si512(lanes(), mask);
    uint32_t i = 0;
    if (r->group % LANES == 0 || r->group >= r->n)
        for (uint32_t g = 0; i < r->n; g++) {
            const uint32_t end = r->n - i < r->group ? r->n : i + r->group;
            const __m512 half = _mm512_set1_ps(r->half[g]), z2 = _mm512_cvtepi32_ps(_mm512_set1_epi32(r->z2[g]));
            const __m512 table = value(all, z2, half);
            for (; i + LANES <= end; i += LANES) {
                const size_t at = (size_t)i / 8 * bits, left = n_bytes - at;
                const __mmask16 in = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
                const __m128i p = left >= 16 ? _mm_loadu_si128((const __m128i *)(const void *)(r->codes + at))
                                             : _mm_maskz_loadu_epi8(in, r->codes + at);
                const __m512i w = _mm512_srlv_epi32(_mm512_permutexvar_epi8(s.gather, _mm512_castsi128_si512(p)), s.down);
                /* bits above the code do not matter: the table repeats */
                const __m512 v = bits <= 4 ? _mm512_permutexvar_ps(w, table) : value(_mm512_and_si512(w, mask), z2, half);
                store(out, v, dst + unit * i);
            }
            if (i < end)
                break;
        }
    qn_grid_run_c(out, r, i, dst);
}

INLINE void any(qn_grid_out out, const qn_grid_row *r, uint8_t *dst)
{
    switch (r->bits) {
    case 2: run(out, 2, r, dst); break;
    case 3: run(out, 3, r, dst); break;
    case 4: run(out, 4, r, dst); break;
    case 8: run(out, 8, r, dst); break;
    default: run(out, r->bits, r, dst); break;
    }
}

TARGET static void f32_row(const qn_grid_row *r, uint8_t *dst)
{
    any(QN_GRID_F32, r, dst);
}

TARGET static void bf16_row(const qn_grid_row *r, uint8_t *dst)
{
    any(QN_GRID_BF16, r, dst);
}

TARGET static void f16_row(const qn_grid_row *r, uint8_t *dst)
{
    any(QN_GRID_F16, r, dst);
}

void qn_kern_grid_avx512(qn_kern_grid *k)
{
    k->run[QN_GRID_F32] = f32_row;
    k->run[QN_GRID_BF16] = bf16_row;
    k->run[QN_GRID_F16] = f16_row;
}
#endif
