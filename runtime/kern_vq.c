/* kern_vq.c: the C reference of kern_vq.h, and the choice. */
#include "runtime/kern_vq.h"
#include "base/cpu.h"
#include "runtime/kern_vq_field.h"
#include "runtime/widths.h"

void qn_vq_rows_from(const qn_vq_strip *s, qn_dtype t, uint32_t m, uint32_t from, uint8_t *dst, size_t row_bytes)
{
    for (uint32_t j = from; j < s->cols; j++) {
        const uint32_t f = qn_vq_field(s, j);
        const float *c = s->book + s->at.base[j] + (f >> s->at.shift[j] & s->at.mask[j]) * s->v, *r = NULL;
        const float scale = s->row * s->col[j];
        if (s->at.base2)
            r = s->book + s->at.base2[j] + (f >> s->at.shift2[j] & s->at.mask2[j]) * s->v;
        for (uint32_t i = 0; i < m; i++) {
            const uint32_t u = qn_f32_bits((r ? c[i] + r[i] : c[i]) * scale);
            uint8_t *to = dst + i * row_bytes;
            if (t == QN_F32)
                qn_store32(to + 4 * (size_t)j, u);
            else
                qn_store16(to + 2 * (size_t)j, t == QN_BF16 ? qn_bf16_narrow(u) : qn_f16_narrow(u));
        }
    }
}

void qn_vq_rows_c(const qn_vq_strip *s, qn_dtype t, uint32_t m, uint8_t *dst, size_t row_bytes)
{
    qn_vq_rows_from(s, t, m, 0, dst, row_bytes);
}

void qn_kern_vq_init(qn_kern_vq *k, unsigned cpu)
{
    *k = (qn_kern_vq){.cpu = cpu, .rows = qn_vq_rows_c};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_kern_vq_avx2(k);
    if (cpu & QN_CPU_AVX512)
        qn_kern_vq_avx512(k);
#endif
}
