/* kern_ect_avx2.c: the entropy-coded trellis codec, 8 lanes a register. */
#include "runtime/kern_ect.h"
#include "base/num.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include "runtime/kern_fast.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef struct feed {
    const uint8_t *p, *end;
    int escapes;
} feed;

INLINE __m256i select(__m256i no, __m256i yes, __m256i mask)
{
    return _mm256_blendv_epi8(no, yes, mask);
}

/* 8 units, when at least 16 bytes of words are left. */
INLINE void step(const qn_ect_dec *d, __m256i *x, feed *f, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx)
{
    const __m256i c63 = _mm256_set1_epi32(63), c255 = _mm256_set1_epi32(255), m = _mm256_set1_epi32(QN_ECT_M - 1),
                  one = _mm256_set1_epi32(1);
    const __m256i state = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)trellis)), z = _mm256_and_si256(state, one);
    const __m256i tab =
        _mm256_slli_epi32(_mm256_or_si256(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)tab2)), z), 6);
    const __m256i own = _mm256_and_si256(_mm256_srli_epi32(*x, 8), c63), in = _mm256_and_si256(*x, c255),
                  at = _mm256_or_si256(tab, own);
    const __m256i low = _mm256_i32gather_epi32((const void *)d->bucket, at, 8),
                  high = _mm256_i32gather_epi32((const void *)((const uint8_t *)d->bucket + 4), at, 8);
    const __m256i mine = _mm256_cmpgt_epi32(_mm256_and_si256(low, _mm256_set1_epi32(511)), in);
    const __m256i symbol = select(_mm256_and_si256(_mm256_srli_epi32(low, 9), c63), own, mine);
    const __m256i freq = _mm256_and_si256(select(_mm256_srli_epi32(high, QN_ECT_BITS), high, mine), m);
    const __m256i off = _mm256_and_si256(_mm256_add_epi32(in, _mm256_andnot_si256(mine, _mm256_srli_epi32(low, 15))), m);
    const __m256i y = _mm256_add_epi32(_mm256_mullo_epi32(freq, _mm256_srli_epi32(*x, QN_ECT_BITS)), off);
    const __m256i due = _mm256_cmpeq_epi32(_mm256_srli_epi32(y, 16), _mm256_setzero_si256());
    const unsigned need = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(due));
    /* lane i takes the word whose number is that of the set bits below i */
    const __m256i rank = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)&qn_fast_expand_tab[need]));
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)f->p));
    *x = select(y, _mm256_or_si256(_mm256_slli_epi32(y, 16), _mm256_permutevar8x32_epi32(words, rank)), due);
    f->p += 2 * (unsigned)_mm_popcnt_u32(need);
    const __m256i h0 = _mm256_set1_epi32(d->code.h0), h1 = _mm256_set1_epi32(d->code.h1), zero = _mm256_setzero_si256();
    const __m256i odd = _mm256_sub_epi32(zero, _mm256_and_si256(symbol, one));
    const __m256i next = _mm256_xor_si256(_mm256_srli_epi32(state, 1),
                                          _mm256_xor_si256(_mm256_and_si256(_mm256_sub_epi32(zero, z), h0), _mm256_and_si256(odd, h1)));
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_or_si256(tab, symbol), next), 0xd8);
    _mm_storeu_si128((void *)idx, _mm256_castsi256_si128(both));
    const __m128i bytes = _mm_packus_epi16(_mm256_extracti128_si256(both, 1), _mm_setzero_si128());
    _mm_storel_epi64((void *)trellis, bytes);
    f->escapes |= _mm256_movemask_epi8(_mm256_cmpgt_epi32(_mm256_set1_epi32(2), symbol));
}

TARGET bool qn_ect_row_avx2(qn_ect_dec *d, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx, size_t n)
{
    size_t j = 0;
    feed f = {d->p, d->end, 0};
    if (d->n_lanes == 32 || d->n_lanes == 64) {
        __m256i x[8];
        const unsigned n_lanes = d->n_lanes, n_regs = n_lanes / 8;
        for (unsigned i = 0; i < n_regs; i++)
            x[i] = _mm256_loadu_si256((const void *)(d->x + 8 * i));
        for (; j + n_lanes <= n && (size_t)(f.end - f.p) >= 2 * n_lanes; j += n_lanes)
            for (unsigned i = 0; i < n_regs; i++)
                step(d, &x[i], &f, tab2 + j + 8 * i, trellis + j + 8 * i, idx + j + 8 * i);
        for (unsigned i = 0; i < n_regs; i++)
            _mm256_storeu_si256((void *)(d->x + 8 * i), x[i]);
    }
    d->p = f.p;
    d->escaped |= f.escapes != 0;
    return j == n || qn_ect_row_c(d, tab2 + j, trellis + j, idx + j, n - j);
}

TARGET void qn_ect_value_avx2(const float *point, const uint16_t *idx, const float *step, float *v, size_t n)
{
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        const __m256i i = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(idx + j)));
        _mm256_storeu_ps(v + j, _mm256_mul_ps(_mm256_i32gather_ps(point, i, 4), _mm256_loadu_ps(step + j)));
    }
    qn_ect_value_c(point, idx + j, step + j, v + j, n - j);
}
#endif
