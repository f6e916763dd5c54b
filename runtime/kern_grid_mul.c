/* kern_grid_mul.c: the C reference of kern_grid_mul.h, and the choice. */
#include "runtime/kern_grid_mul.h"
#include "base/cpu.h"
#include "runtime/widths.h"

static void fix_c(const qn_grid_mul *m, const int16_t *x, void *fixed)
{
    memcpy(fixed, x, qn_grid_padded(m->cols) * sizeof *x);
}

static void rows_c(const qn_grid_mul *m, const qn_grid_x *x, uint32_t r0, uint32_t r1, float *y)
{
    const int16_t *fixed = x->fixed;
    const unsigned mask = (1u << m->bits) - 1;
    for (uint32_t r = r0; r < r1; r++) {
        const uint8_t *p = m->codes + r * m->row_bytes;
        float sum = 0, middle = 0;
        uint32_t word = 0;
        unsigned held = 0;
        for (uint32_t g = 0, j = 0; g < m->runs; g++) {
            const size_t at = (size_t)r * m->runs + g;
            const uint32_t end = m->cols - j < QN_GRID_RUN ? m->cols : j + QN_GRID_RUN;
            int32_t dot = 0;
            for (; j < end; j++) {
                if (held < m->bits) {
                    word |= (uint32_t)*p++ << held;
                    held += 8;
                }
                dot += (int32_t)(word & mask) * fixed[j];
                word >>= m->bits;
                held -= m->bits;
            }
            const float h = qn_bits_f32(qn_f16_wide(m->scale[at]));
            sum += h * x->step2[g] * (float)dot;
            middle += h * x->sum[g] * (m->zero ? 2 * (float)m->zero[at] : m->zero2);
        }
        y[r - r0] = (sum - middle) * m->unit;
    }
}

void qn_kern_grid_mul_init(qn_kern_grid_mul *k, unsigned cpu)
{
    *k = (qn_kern_grid_mul){.fix = fix_c, .rows = rows_c};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_kern_grid_mul_avx2(k);
    if (cpu & QN_CPU_AVX512)
        qn_kern_grid_mul_avx512(k);
#else
    (void)cpu;
#endif
}
