/* ekern_dense_avx512.c: 16 lanes a vector; the same words as qn_rans_encode_c, in any order of computing.
 *
 * Division is IEEE's: x < 2^32 and f < 2^12 are exact in double precision, and a quotient that is not whole is at least 2^-12
 * away from the next whole number, far more than its rounding error, so truncation gives ⌊x/f⌋. */
#if defined(__x86_64__)
#include "compress/ekern_dense.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")))

TARGET static inline __attribute__((always_inline)) __m512i divide(__m512i x, __m512i f)
{
    const __m512d a = _mm512_div_pd(_mm512_cvtepu32_pd(_mm512_castsi512_si256(x)), _mm512_cvtepu32_pd(_mm512_castsi512_si256(f)));
    const __m512d b = _mm512_div_pd(_mm512_cvtepu32_pd(_mm512_extracti64x4_epi64(x, 1)),
                                    _mm512_cvtepu32_pd(_mm512_extracti64x4_epi64(f, 1)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvttpd_epu32(a)), _mm512_cvttpd_epu32(b), 1);
}

TARGET uint8_t *qn_rans_encode_avx512(const qn_rans_etab *t, const uint8_t *sym, size_t n, uint32_t *x, unsigned n_lanes,
                                      uint8_t *end)
{
    if (n_lanes < 16 || n < n_lanes)
        return qn_rans_encode_c(t, sym, n, x, n_lanes, end);
    size_t at = n & ~(size_t)(n_lanes - 1); /* the last, partial turn comes first */
    uint8_t *p = qn_rans_encode_c(t, sym + at, n - at, x, n_lanes, end);
    while (at > 0) {
        at -= 16;
        uint32_t *const lanes = x + (at & (n_lanes - 1));
        const __m512i s = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(sym + at)));
        const __m512i pair = _mm512_i32gather_epi32(s, (const void *)t->pair, 4);
        const __m512i f = _mm512_srli_epi32(pair, 16), cum = _mm512_and_si512(pair, _mm512_set1_epi32(0xffff));
        __m512i v = _mm512_loadu_si512(lanes);
        const __mmask16 full = _mm512_cmpge_epu32_mask(v, _mm512_slli_epi32(f, 20));
        const unsigned n_words = (unsigned)_mm_popcnt_u32(full);
        p -= 2 * n_words;
        _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n_words) - 1), _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, v)));
        v = _mm512_mask_srli_epi32(v, full, v, 16);
        const __m512i q = divide(v, f), r = _mm512_sub_epi32(v, _mm512_mullo_epi32(q, f));
        const __m512i slot = _mm512_and_si512(_mm512_i32gather_epi32(_mm512_add_epi32(cum, r), (const void *)t->slot, 2),
                                              _mm512_set1_epi32(0xffff));
        _mm512_storeu_si512(lanes, _mm512_or_si512(_mm512_slli_epi32(q, 12), slot));
    }
    return p;
}
#endif
