/* kern_trellis.c: the C reference of kern_trellis.h, and the choice. */
#include "runtime/kern_trellis.h"
#include "base/cpu.h"
#include "runtime/widths.h"

/* Values of row r in all lanes; `before` is the word before the last. */
static void row_values(qn_trellis_group *g, const qn_trellis_tile *t, uint32_t r, uint32_t *before, float *v)
{
    const uint8_t *p = t->words + 4 * (size_t)g->at[r];
    for (uint32_t i = 0; i < g->n; i++) {
        const uint32_t shift = (0u - g->k[i] * (r + 1)) & 31;
        if (g->refill[r] >> i & 1) {
            before[i] = g->last[i];
            g->last[i] = qn_load32(p);
            p += 4;
        }
        const uint32_t window = shift ? g->last[i] >> shift | before[i] << (32 - shift) : g->last[i];
        v[i] = (float)qn_trellis_value(window & t->mask, g->multiplier[i]);
    }
}

void qn_trellis_tile_c(qn_trellis_out out, qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes)
{
    uint32_t before[QN_TRELLIS_LANES] = {0};
    float v[QN_TRELLIS_LANES];
    for (uint32_t r = 0; r < t->rows; r++, dst += row_bytes) {
        row_values(g, t, r, before, v);
        for (uint32_t i = 0; i < g->n; i++) {
            const uint32_t u = qn_f32_bits(v[i] * g->step[i]);
            if (out == QN_TRELLIS_F32)
                qn_store32(dst + 4 * i, u);
            else
                qn_store16(dst + 2 * i, out == QN_TRELLIS_BF16 ? qn_bf16_narrow(u) : qn_f16_narrow(u));
        }
    }
}

void qn_trellis_dot_c(qn_trellis_group *g, const qn_trellis_tile *t, const float *xs, float *sum)
{
    uint32_t before[QN_TRELLIS_LANES] = {0};
    float v[QN_TRELLIS_LANES];
    for (uint32_t r = 0; r < t->rows; r++, sum += QN_TRELLIS_LANES) {
        row_values(g, t, r, before, v);
        for (uint32_t i = 0; i < g->n; i++)
            sum[i] += v[i] * xs[i];
    }
}

static void f32_c(qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes)
{
    qn_trellis_tile_c(QN_TRELLIS_F32, g, t, dst, row_bytes);
}

static void bf16_c(qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes)
{
    qn_trellis_tile_c(QN_TRELLIS_BF16, g, t, dst, row_bytes);
}

static void f16_c(qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes)
{
    qn_trellis_tile_c(QN_TRELLIS_F16, g, t, dst, row_bytes);
}

void qn_kern_trellis_init(qn_kern_trellis *k, unsigned cpu)
{
    *k = (qn_kern_trellis){.cpu = cpu, .tile = {f32_c, bf16_c, f16_c}, .dot = qn_trellis_dot_c};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_kern_trellis_avx2(k);
    if (cpu & QN_CPU_AVX512)
        qn_kern_trellis_avx512(k);
#endif
}
