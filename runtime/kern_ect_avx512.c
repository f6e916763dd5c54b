/* kern_ect_avx512.c: the entropy-coded trellis codec, 16 lanes a register. Two gathers fetch the halves of the alias entries. */
#include "runtime/kern_ect.h"
#include "base/num.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef struct feed {
    const uint8_t *p, *end;
    __mmask16 escapes;
} feed;

/* 16 units. False when the words run out. */
INLINE bool step(const qn_ect_dec *d, __m512i *x, feed *f, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx)
{
    const __m512i c63 = _mm512_set1_epi32(63), c255 = _mm512_set1_epi32(255), m = _mm512_set1_epi32(QN_ECT_M - 1),
                  one = _mm512_set1_epi32(1);
    const __m512i state = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)trellis));
    const __m512i z = _mm512_and_si512(state, one),
                  tab = _mm512_slli_epi32(_mm512_or_si512(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)tab2)), z), 6);
    const __m512i own = _mm512_and_si512(_mm512_srli_epi32(*x, 8), c63), in = _mm512_and_si512(*x, c255),
                  at = _mm512_or_si512(tab, own);
    const __m512i low = _mm512_i32gather_epi32(at, (const void *)d->bucket, 8),
                  high = _mm512_i32gather_epi32(at, (const void *)((const uint8_t *)d->bucket + 4), 8);
    const __mmask16 other = _mm512_cmpge_epu32_mask(in, _mm512_and_si512(low, _mm512_set1_epi32(511)));
    const __m512i symbol = _mm512_mask_and_epi32(own, other, _mm512_srli_epi32(low, 9), c63);
    const __m512i freq = _mm512_and_si512(_mm512_mask_srli_epi32(high, other, high, QN_ECT_BITS), m);
    const __m512i off = _mm512_and_si512(_mm512_mask_add_epi32(in, other, in, _mm512_srli_epi32(low, 15)), m);
    __m512i y = _mm512_add_epi32(_mm512_mullo_epi32(freq, _mm512_srli_epi32(*x, QN_ECT_BITS)), off);
    const __mmask16 need = _mm512_cmplt_epu32_mask(y, _mm512_set1_epi32((int)QN_ECT_START));
    const unsigned n_words = (unsigned)_mm_popcnt_u32(need);
    if (n_words * 2 > (size_t)(f->end - f->p))
        return false;
    const __m512i words = f->end - f->p >= 32
                              ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)f->p))
                              : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)_bzhi_u32(0xffff, n_words), f->p));
    y = _mm512_mask_or_epi32(y, need, _mm512_slli_epi32(y, 16), _mm512_maskz_expand_epi32(need, words));
    f->p += 2 * n_words;
    *x = y;
    const __m512i h0 = _mm512_set1_epi32(d->code.h0), h1 = _mm512_set1_epi32(d->code.h1);
    __m512i next = _mm512_srli_epi32(state, 1);
    next = _mm512_mask_xor_epi32(next, _mm512_test_epi32_mask(state, one), next, h0);
    next = _mm512_mask_xor_epi32(next, _mm512_test_epi32_mask(symbol, one), next, h1);
    _mm_storeu_si128((void *)trellis, _mm512_cvtepi32_epi8(next));
    f->escapes |= _mm512_cmplt_epu32_mask(symbol, _mm512_set1_epi32(2));
    _mm256_storeu_si256((void *)idx, _mm512_cvtepi32_epi16(_mm512_or_si512(tab, symbol)));
    return true;
}

TARGET bool qn_ect_row_avx512(qn_ect_dec *d, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx, size_t n)
{
    size_t j = 0;
    feed f = {d->p, d->end, 0};
    if (d->n_lanes == 32) {
        __m512i a = _mm512_loadu_si512(d->x), b = _mm512_loadu_si512(d->x + 16);
        for (; j + 32 <= n; j += 32)
            if (!step(d, &a, &f, tab2 + j, trellis + j, idx + j) || !step(d, &b, &f, tab2 + j + 16, trellis + j + 16, idx + j + 16))
                return false;
        _mm512_storeu_si512(d->x, a);
        _mm512_storeu_si512(d->x + 16, b);
    } else if (d->n_lanes == 64) {
        __m512i x[4];
        for (int i = 0; i < 4; i++)
            x[i] = _mm512_loadu_si512(d->x + 16 * i);
        for (; j + 64 <= n; j += 64)
            if (!step(d, &x[0], &f, tab2 + j, trellis + j, idx + j) ||
                !step(d, &x[1], &f, tab2 + j + 16, trellis + j + 16, idx + j + 16) ||
                !step(d, &x[2], &f, tab2 + j + 32, trellis + j + 32, idx + j + 32) ||
                !step(d, &x[3], &f, tab2 + j + 48, trellis + j + 48, idx + j + 48))
                return false;
        for (int i = 0; i < 4; i++)
            _mm512_storeu_si512(d->x + 16 * i, x[i]);
    }
    d->p = f.p;
    d->escaped |= f.escapes != 0;
    /* j is a multiple of the lanes: the rest starts at lane 0 */
    return j == n || qn_ect_row_c(d, tab2 + j, trellis + j, idx + j, n - j);
}

TARGET void qn_ect_value_avx512(const float *point, const uint16_t *idx, const float *step, float *v, size_t n)
{
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 k = (__mmask16)_bzhi_u32(0xffff, n - j < 16 ? (unsigned)(n - j) : 16);
        const __m512i i = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(k, idx + j));
        const __m512 p = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), k, i, point, 4);
        _mm512_mask_storeu_ps(v + j, k, _mm512_mul_ps(p, _mm512_maskz_loadu_ps(k, step + j)));
    }
}
#endif
