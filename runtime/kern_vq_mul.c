/* kern_vq_mul.c: the C reference of kern_vq_mul.h, and the choice. */
#include "runtime/kern_vq_mul.h"
#include "base/cpu.h"
#include "runtime/kern_vq_field.h"
#include "runtime/vq.h"

static void strip_c(const qn_vq_strip *s, const float *x, float *y)
{
    double all[QN_VQ_VECTOR_MAX] = {0};
    for (uint32_t at = 0; at < s->cols; at += QN_VQ_MUL_RUN) {
        float sum[8][QN_VQ_VECTOR_MAX] = {{0}};
        for (uint32_t j = at; j < s->cols && j < at + QN_VQ_MUL_RUN; j++) {
            const uint32_t f = qn_vq_field(s, j);
            const float *c = s->book + s->at.base[j] + (f >> s->at.shift[j] & s->at.mask[j]) * s->v, *r = NULL;
            if (s->at.base2)
                r = s->book + s->at.base2[j] + (f >> s->at.shift2[j] & s->at.mask2[j]) * s->v;
            for (unsigned i = 0; i < s->v; i++)
                sum[j % 8][i] += (r ? c[i] + r[i] : c[i]) * x[j];
        }
        for (unsigned i = 0; i < s->v; i++)
            all[i] += (double)(((sum[0][i] + sum[1][i]) + (sum[2][i] + sum[3][i])) + ((sum[4][i] + sum[5][i]) + (sum[6][i] + sum[7][i])));
    }
    for (unsigned i = 0; i < s->v; i++)
        y[i] = (float)(all[i] * (double)s->row);
}

void qn_kern_vq_mul_init(qn_kern_vq_mul *k, unsigned cpu)
{
    k->strip = strip_c;
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_kern_vq_mul_avx2(k);
#endif
}
