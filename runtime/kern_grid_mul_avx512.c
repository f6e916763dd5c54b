/* kern_grid_mul_avx512.c: codes are unpacked to bytes and multiplied, four to a 32-bit sum, with the two bytes of X.
 *
 * One load gives SPLIT vectors of 64 codes: for 2 and 4 bits by shifts alone, so that vector k has the codes k, k + SPLIT, …
 * and sums of all of them go to the same lanes; X is laid out that way. Other widths are spread by a permutation, so that each
 * eight bytes hold eight codes, and shifts that differ by byte. */
#if defined(__x86_64__)
#include "runtime/kern_grid_mul.h"
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512vnni,avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { PLANES = 2, MOST_ROWS = 4, MOST_SPLIT = 4 };

struct spread {
    __m512i gather, shift;
};

INLINE unsigned split_of(unsigned bits)
{
    return bits == 2 ? 4 : bits == 4 ? 2 : 1;
}

TARGET static void fix(const qn_grid_mul *m, const int16_t *x, void *fixed)
{
    const unsigned split = split_of(m->bits);
    int8_t *to = fixed;
    for (uint32_t j = 0; j < qn_grid_padded(m->cols); j += 64 * split, to += 64 * split * PLANES)
        for (unsigned k = 0; k < split; k++)
            for (unsigned i = 0; i < 64; i++) {
                const int16_t v = x[j + i * split + k];
                int8_t *at = to + 64 * k + i;
                at[0] = (int8_t)((v + 128) >> 8);
                at[64 * split] = (int8_t)v;
            }
}

INLINE void unpack(unsigned bits, const struct spread *s, __m512i v, __m512i *c)
{
    const __m512i mask = _mm512_set1_epi8((char)((1u << bits) - 1));
    if (bits == 8) {
        c[0] = v;
    } else if (bits == 4) {
        c[0] = _mm512_and_si512(v, mask);
        c[1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    } else if (bits == 2) {
        c[0] = _mm512_and_si512(v, mask);
        c[1] = _mm512_and_si512(_mm512_srli_epi16(v, 2), mask);
        c[2] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
        c[3] = _mm512_and_si512(_mm512_srli_epi16(v, 6), mask);
    } else {
        c[0] = _mm512_and_si512(_mm512_multishift_epi64_epi8(s->shift, _mm512_permutexvar_epi8(s->gather, v)), mask);
    }
}

/* 512 columns of `n` rows: left: bytes from p to the end of the row. scale: of the 16 runs. */
INLINE void stripe(unsigned bits, unsigned n, const struct spread *how, const uint8_t *p, size_t row_bytes, size_t left,
                   const __m512i *x, const __m512 *scale, __m512 *sum)
{
    const unsigned split = split_of(bits), n_bytes = 8 * bits * split;
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i run = split == 4 ? _mm512_srli_epi32(lane, 1) : split == 2 ? _mm512_srli_epi32(lane, 2) : _mm512_srli_epi32(lane, 3);
    for (unsigned t = 0; t < QN_GRID_STRIPE / 64 / split; t++, p += n_bytes, x += split * PLANES) {
        __m512i c[MOST_ROWS][MOST_SPLIT], s[MOST_ROWS];
        const size_t have = left > (size_t)t * n_bytes ? left - (size_t)t * n_bytes : 0;
        const __mmask64 in = have >= n_bytes ? ~(__mmask64)0 >> (64 - n_bytes) : ((__mmask64)1 << have) - 1;
        for (unsigned i = 0; i < n; i++) {
            _mm_prefetch((const char *)p + (i + n) * row_bytes, _MM_HINT_T1); /* the next rows */
            unpack(bits, how, _mm512_maskz_loadu_epi8(in, p + i * row_bytes), c[i]);
            s[i] = _mm512_setzero_si512();
        }
        for (unsigned q = 0; q < PLANES; q++)
            for (unsigned k = 0; k < split; k++) {
                const __m512i v = _mm512_load_si512(x + q * split + k);
                for (unsigned i = 0; i < n; i++)
                    s[i] = _mm512_dpbusd_epi32(q && !k ? _mm512_slli_epi32(s[i], 8) : s[i], c[i][k], v);
            }
        for (unsigned i = 0; i < n; i++)
            sum[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[i]), _mm512_permutexvar_ps(run, scale[i]), sum[i]);
        run = _mm512_add_epi32(run, _mm512_set1_epi32((int)(2 * split)));
    }
}

INLINE void some_rows(unsigned bits, unsigned n, const struct spread *how, const qn_grid_mul *m, const qn_grid_x *x, uint32_t r, float *y)
{
    const __m512i *fixed = x->fixed;
    const uint8_t *p = m->codes + r * m->row_bytes;
    __m512 sum[MOST_ROWS], middle[MOST_ROWS], scale[MOST_ROWS];
    for (unsigned i = 0; i < n; i++)
        sum[i] = middle[i] = _mm512_setzero_ps();
    for (uint32_t g = 0; g < m->runs; g += 16, p += 64 * bits, fixed += QN_GRID_STRIPE / 64 * PLANES) {
        const __mmask16 in = m->runs - g >= 16 ? 0xffff : (__mmask16)((1u << (m->runs - g)) - 1);
        const __m512 step2 = _mm512_loadu_ps(x->step2 + g), total = _mm512_loadu_ps(x->sum + g);
        for (unsigned i = 0; i < n; i++) {
            const size_t at = (size_t)(r + i) * m->runs + g;
            const __m512 h = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(in, m->scale + at));
            __m512 z = h;
            if (m->zero)
                z = _mm512_mul_ps(h, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(in, m->zero + at))));
            scale[i] = _mm512_mul_ps(h, step2);
            middle[i] = _mm512_fmadd_ps(z, total, middle[i]);
        }
        stripe(bits, n, how, p, m->row_bytes, m->row_bytes - (size_t)g / 16 * 64 * bits, fixed, scale, sum);
    }
    const float zero2 = m->zero ? 2 : m->zero2;
    for (unsigned i = 0; i < n; i++)
        y[i] = (_mm512_reduce_add_ps(sum[i]) - _mm512_reduce_add_ps(middle[i]) * zero2) * m->unit;
}

INLINE void all_rows(unsigned bits, const qn_grid_mul *m, const qn_grid_x *x, uint32_t r0, uint32_t r1, float *y)
{
    const unsigned n = bits >= 5 ? 2 : 4;
    uint8_t gather[64], shift[64];
    for (unsigned i = 0; i < 64; i++) {
        gather[i] = (uint8_t)(i / 8 * bits + i % 8);
        shift[i] = (uint8_t)(i % 8 * bits);
    }
    struct spread how;
    how.gather = _mm512_loadu_si512(gather);
    how.shift = _mm512_loadu_si512(shift);
    uint32_t r = r0;
    for (; r + n <= r1; r += n)
        some_rows(bits, n, &how, m, x, r, y + (r - r0));
    for (; r < r1; r++)
        some_rows(bits, 1, &how, m, x, r, y + (r - r0));
}

#include "runtime/kern_grid_mul_tmpl.h"

void qn_kern_grid_mul_avx512(qn_kern_grid_mul *k)
{
    *k = (qn_kern_grid_mul){.fix = fix, .rows = rows};
}
#endif
