/* kern_vq_mul_avx2.c: products of four rows at a time: a centroid is one load, its x one broadcast. Wider registers would have to
 * be put together from as many loads, so there is no variant for them. */
#if defined(__x86_64__)
#include "runtime/kern_vq_field.h"
#include "runtime/kern_vq_mul.h"
#include "runtime/vq.h"
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { RUN = QN_VQ_MUL_RUN };

typedef uint32_t u32x8 __attribute__((vector_size(32)));

INLINE u32x8 read8(const uint32_t *p)
{
    u32x8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Places of the centroids of columns at … at + n − 1. */
INLINE void places(const qn_vq_strip *s, uint32_t at, uint32_t n, uint32_t *main, uint32_t *residual)
{
    const qn_vq_fields *a = &s->at;
    uint32_t field[RUN], i = 0;
    if (s->bytes_all) {
        for (; i < n; i++)
            main[i] = a->base[0] + s->bytes[at + i] * s->v;
        return;
    }
    const bool inside = s->n_bytes - a->byte[at + n - 1] >= 4;
    for (; inside && i < n; i++)
        field[i] = qn_load32(s->bytes + a->byte[at + i]);
    for (; i < n; i++)
        field[i] = qn_vq_field(s, at + i);
    for (i = 0; i + 8 <= n; i += 8) {
        const u32x8 f = read8(field + i), p = read8(a->base + at + i) + (f >> read8(a->shift + at + i) & read8(a->mask + at + i)) * s->v;
        memcpy(main + i, &p, sizeof p);
        if (residual) {
            const u32x8 q = read8(a->base2 + at + i) + (f >> read8(a->shift2 + at + i) & read8(a->mask2 + at + i)) * s->v;
            memcpy(residual + i, &q, sizeof q);
        }
    }
    for (; i < n; i++) {
        main[i] = a->base[at + i] + (field[i] >> a->shift[at + i] & a->mask[at + i]) * s->v;
        if (residual)
            residual[i] = a->base2[at + i] + (field[i] >> a->shift2[at + i] & a->mask2[at + i]) * s->v;
    }
}

INLINE __m128 term(const float *book, const uint32_t *main, const uint32_t *residual, const float *x, uint32_t i)
{
    __m128 c = _mm_loadu_ps(book + main[i]);
    if (residual)
        c = _mm_add_ps(c, _mm_loadu_ps(book + residual[i]));
    return _mm_mul_ps(c, _mm_broadcast_ss(x + i));
}

/* Four rows over one run. */
INLINE __m128 four(const float *book, const uint32_t *main, const uint32_t *residual, const float *x, uint32_t n)
{
    __m128 sum[8];
    for (unsigned k = 0; k < 8; k++)
        sum[k] = _mm_setzero_ps();
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (unsigned k = 0; k < 8; k++)
            sum[k] = _mm_add_ps(sum[k], term(book, main, residual, x, i + k));
    for (; i < n; i++)
        sum[0] = _mm_add_ps(sum[0], term(book, main, residual, x, i));
    return _mm_add_ps(_mm_add_ps(_mm_add_ps(sum[0], sum[1]), _mm_add_ps(sum[2], sum[3])),
                      _mm_add_ps(_mm_add_ps(sum[4], sum[5]), _mm_add_ps(sum[6], sum[7])));
}

TARGET static void strip_avx2(const qn_vq_strip *s, const float *x, float *y)
{
    double all[QN_VQ_VECTOR_MAX + 4] = {0};
    for (uint32_t at = 0; at < s->cols; at += RUN) {
        uint32_t main[RUN], residual[RUN];
        const uint32_t n = s->cols - at < RUN ? s->cols - at : RUN;
        places(s, at, n, main, s->at.base2 ? residual : NULL);
        for (unsigned i = 0; i < s->v; i += 4) {
            const __m128 sum = s->at.base2 ? four(s->book + i, main, residual, x + at, n) : four(s->book + i, main, NULL, x + at, n);
            _mm256_storeu_pd(all + i, _mm256_add_pd(_mm256_loadu_pd(all + i), _mm256_cvtps_pd(sum)));
        }
    }
    for (unsigned i = 0; i < s->v; i++)
        y[i] = (float)(all[i] * (double)s->row);
}

void qn_kern_vq_mul_avx2(qn_kern_vq_mul *k)
{
    k->strip = strip_avx2;
}
#endif
