/* dec_grid.c: integers, a scale and maybe a zero point for each group. docs/codecs/grid.md. */
#include "base/err.h"
#include "runtime/grid.h"
#include "runtime/widths.h"

/* Half of each scale, twice each zero point. */
static void widen(const qn_grid_parts *g, float *half, int32_t *z2)
{
    const float unit = qn_bits_f32((uint32_t)(127 + g->head.exponent - 1) << 23);
    for (uint32_t i = 0; i < g->groups.count; i++)
        half[i] = qn_bits_f32(qn_f16_wide(qn_load16(g->scales + 2 * (size_t)i))) * unit;
    for (uint32_t i = 0; i < g->groups.count; i++)
        z2[i] = g->zeros ? 2 * g->zeros[i] : qn_grid_zero2(&g->head);
}

qn_code qn_dec_grid(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    qn_grid_parts g;
    QN_TRY(qn_grid_open(cx, b, payload, n_bytes, &g, err));
    float *half = qn_arena_get(cx->scratch, (uint64_t)g.groups.count * sizeof *half, 64, err);
    int32_t *z2 = half ? qn_arena_get(cx->scratch, (uint64_t)g.groups.count * sizeof *z2, 64, err) : NULL;
    if (!z2)
        return QN_E_MEMORY;
    widen(&g, half, z2);
    const qn_grid_fn run = cx->kern->grid.run[qn_grid_out_of(b->dtype)];
    const size_t unit = qn_unit_bytes(b->dtype);
    qn_grid_row r = {.codes = g.codes, .group = g.head.group, .bits = g.bits, .half = half, .z2 = z2};
    for (uint32_t left = b->n; left > 0; left -= r.n) {
        r.n = left < b->cols ? left : b->cols;
        run(&r, dst);
        r.codes += g.row_bytes;
        r.half += g.groups.per_row;
        r.z2 += g.groups.per_row;
        dst += unit * r.n;
    }
    return QN_OK;
}
