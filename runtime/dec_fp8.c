/* dec_fp8.c: numbers of eight bits, E4M3, and a scale for each group. docs/codecs/fp8.md. */
#include "base/err.h"
#include "base/half.h"
#include "runtime/fp8.h"
#include "runtime/grid.h"
#include "runtime/nest.h"

static bool is_scale(uint32_t u)
{
    const float s = qn_bits_f32(u & 0x7fffffff);
    return (u & 0x7fffffff) == 0 || (s >= QN_FP8_SCALE_LEAST && s <= QN_FP8_SCALE_MOST); /* false for NaN */
}

qn_code qn_fp8_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_fp8_parts *out, qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    const uint64_t group = qn_cur_varint(&c);
    if (c.failed || !qn_grid_dtype(b->dtype))
        return QN_FAIL(err, QN_E_INPUT, 0, "fp8: for %s, or cut off", qn_dtype_name(b->dtype));
    if (group == 0 || group > b->cols)
        return QN_FAIL(err, QN_E_INPUT, 0, "fp8: groups of %llu in rows of %u", (unsigned long long)group, b->cols);
    *out = (qn_fp8_parts){.groups = qn_groups_of(b, (uint32_t)group)};
    const qn_groups *gs = &out->groups;
    const qn_block sb = {QN_F32, gs->count, gs->per_row < gs->count ? gs->per_row : gs->count}, cb = {QN_F8_E4M3, b->n, b->cols};
    if (!(out->scales = qn_nest_get(cx, &c, &sb, "fp8: scales", &rc, err)))
        return rc;
    for (uint32_t g = 0; g < gs->count; g++)
        if (!is_scale(qn_load32(out->scales + 4 * (size_t)g)))
            return QN_FAIL(err, QN_E_INPUT, c.at, "fp8: the scale of group %u is out of range", g);
    if (!(out->codes = qn_nest_get(cx, &c, &cb, "fp8: codes", &rc, err)))
        return rc;
    return qn_nest_end(&c, "fp8", err);
}

qn_code qn_dec_fp8(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    qn_fp8_parts p;
    QN_TRY(qn_fp8_open(cx, b, payload, n_bytes, &p, err));
    const unsigned unit = qn_unit_bytes(b->dtype);
    for (uint32_t g = 0; g < p.groups.count; g++) {
        uint32_t len;
        const uint32_t first = qn_group_at(&p.groups, g, &len);
        if (!qn_dequant_group(b->dtype, QN_GRID_E4M3, p.codes + first, len, qn_bits_f32(qn_load32(p.scales + 4 * (size_t)g)), 0,
                              dst + (size_t)first * unit))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "fp8: a code is not a number");
    }
    return QN_OK;
}
