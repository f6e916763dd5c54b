/* kern_grid_mul_avx2.c: codes are unpacked to 16-bit lanes and multiplied, two to a 32-bit sum, with X.
 *
 * A code of up to 8 bits lies in two bytes: these are brought to its lane, a multiplication puts the code at the lane's top, and
 * a shift brings it down. */
#if defined(__x86_64__)
#include "runtime/kern_grid_mul.h"
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))

struct spread {
    __m256i gather, up; /* for the 16 codes of 2 · bits bytes */
};

TARGET static void fix(const qn_grid_mul *m, const int16_t *x, void *fixed)
{
    memcpy(fixed, x, qn_grid_padded(m->cols) * sizeof *x);
}

/* Of the 32 columns from p on: eight sums whose sum is Σ c X. */
INLINE __m256i run(unsigned bits, const struct spread *s, const uint8_t *p, const __m256i *x)
{
    __m256i sum = _mm256_setzero_si256();
    for (unsigned k = 0; k < 2; k++) {
        const __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(p + 2 * bits * k)));
        const __m256i c = _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(v, s->gather), s->up), (int)(16 - bits));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(c, x[k]));
    }
    return sum;
}

INLINE float add_up(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

INLINE float one_row(unsigned bits, const struct spread *s, const qn_grid_mul *m, const qn_grid_x *x, uint32_t r)
{
    const size_t run_bytes = 4 * bits, need = 2 * bits + 16;
    const uint8_t *p = m->codes + r * m->row_bytes;
    const uint16_t *scale = m->scale + (size_t)r * m->runs;
    const uint8_t *zero = m->zero ? m->zero + (size_t)r * m->runs : NULL;
    __m256 sum = _mm256_setzero_ps();
    float middle = 0;
    size_t left = m->row_bytes;
    for (uint32_t g = 0; g < m->runs; g++, p += run_bytes, left -= run_bytes) {
        uint8_t tail[48] = {0};
        const uint8_t *from = p;
        if (left < need) { /* the last runs of a row */
            memcpy(tail, p, left < run_bytes ? left : run_bytes);
            from = tail;
        }
        const __m256i dot = run(bits, s, from, (const __m256i *)x->fixed + 2 * (size_t)g);
        const float h = _cvtsh_ss(scale[g]);
        sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(h * x->step2[g]), sum);
        middle += h * x->sum[g] * (zero ? 2 * (float)zero[g] : m->zero2);
    }
    return (add_up(sum) - middle) * m->unit;
}

INLINE void all_rows(unsigned bits, const qn_grid_mul *m, const qn_grid_x *x, uint32_t r0, uint32_t r1, float *y)
{
    uint8_t gather[32];
    uint16_t up[16];
    for (unsigned i = 0; i < 16; i++) {
        const unsigned byte = i * bits / 8;
        gather[2 * i] = (uint8_t)byte;
        gather[2 * i + 1] = byte < 15 ? (uint8_t)(byte + 1) : 0x80;
        up[i] = (uint16_t)(1u << (16 - bits - i * bits % 8));
    }
    struct spread s;
    s.gather = _mm256_loadu_si256((const __m256i *)(const void *)gather);
    s.up = _mm256_loadu_si256((const __m256i *)(const void *)up);
    for (uint32_t r = r0; r < r1; r++)
        y[r - r0] = one_row(bits, &s, m, x, r);
}

#include "runtime/kern_grid_mul_tmpl.h"

void qn_kern_grid_mul_avx2(qn_kern_grid_mul *k)
{
    *k = (qn_kern_grid_mul){.fix = fix, .rows = rows};
}
#endif
