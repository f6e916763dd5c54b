/* kern_grid.c: the C reference of kern_grid.h, and the choice. */
#include "runtime/kern_grid.h"
#include "base/cpu.h"
#include "runtime/widths.h"

static unsigned code_at(const qn_grid_row *r, uint32_t i)
{
    const uint64_t bit = (uint64_t)i * r->bits;
    const uint8_t *p = r->codes + bit / 8;
    const unsigned shift = bit % 8;
    unsigned v = p[0];
    if (shift + r->bits > 8)
        v |= (unsigned)p[1] << 8;
    return v >> shift & ((1u << r->bits) - 1);
}

void qn_grid_run_c(qn_grid_out out, const qn_grid_row *r, uint32_t from, uint8_t *dst)
{
    for (uint32_t i = from; i < r->n; i++) {
        const uint32_t g = i / r->group;
        const float v = (float)(2 * (int32_t)code_at(r, i) - r->z2[g]) * r->half[g];
        const uint32_t u = qn_f32_bits(v);
        if (out == QN_GRID_F32)
            qn_store32(dst + 4 * (size_t)i, u);
        else
            qn_store16(dst + 2 * (size_t)i, out == QN_GRID_BF16 ? qn_bf16_narrow(u) : qn_f16_narrow(u));
    }
}

static void f32_c(const qn_grid_row *r, uint8_t *dst)
{
    qn_grid_run_c(QN_GRID_F32, r, 0, dst);
}

static void bf16_c(const qn_grid_row *r, uint8_t *dst)
{
    qn_grid_run_c(QN_GRID_BF16, r, 0, dst);
}

static void f16_c(const qn_grid_row *r, uint8_t *dst)
{
    qn_grid_run_c(QN_GRID_F16, r, 0, dst);
}

void qn_kern_grid_init(qn_kern_grid *k, unsigned cpu)
{
    *k = (qn_kern_grid){.cpu = cpu, .run = {f32_c, bf16_c, f16_c}};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_kern_grid_avx2(k);
    if (cpu & QN_CPU_AVX512)
        qn_kern_grid_avx512(k);
#endif
}
