/* ekern_vq.c: the C reference of ekern_vq.h, and the choice. */
#include "compress/ekern_vq.h"
#include "base/cpu.h"

void qn_vq_book_halves(const float *c, unsigned v, uint32_t k, float *half)
{
    for (uint32_t i = 0; i < k; i++) {
        float sum = 0;
        for (unsigned d = 0; d < v; d++)
            sum += c[(size_t)i * v + d] * c[(size_t)i * v + d];
        half[i] = 0.5f * sum;
    }
}

void qn_vq_nearest_c(const qn_vq_book *b, const float *x, size_t ld, size_t n, uint16_t *at)
{
    for (size_t i = 0; i < n; i++) {
        float least = 0;
        uint32_t best = 0;
        for (uint32_t k = 0; k < b->k; k++) {
            const float *c = b->c + (size_t)k * b->v;
            float d = b->half[k];
            for (unsigned j = 0; j < b->v; j++)
                d -= x[j * ld + i] * c[j];
            if (k == 0 || d < least) {
                least = d;
                best = k;
            }
        }
        at[i] = (uint16_t)best;
    }
}

void qn_ekern_vq_init(qn_ekern_vq *k, unsigned cpu)
{
    k->nearest = qn_vq_nearest_c;
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_ekern_vq_avx2(k);
    if (cpu & QN_CPU_AVX512)
        qn_ekern_vq_avx512(k);
#endif
}
