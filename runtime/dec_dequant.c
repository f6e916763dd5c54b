/* dec_dequant.c: wide floats that are a scale times a small number, group by group; groups that are not, in full.
 * docs/codecs/dequant.md. */
#include "base/err.h"
#include "runtime/dequant.h"
#include "runtime/nest.h"
#include "runtime/widths.h"
#include <string.h>

enum { PIECE = 256 };

/* Codes → numbers. False when one is Inf or NaN. */
static bool numbers(unsigned grid, const uint8_t *codes, uint32_t len, float *out)
{
    if (grid == QN_GRID_I8 || grid == QN_GRID_I8_BIAS) {
        for (uint32_t i = 0; i < len; i++)
            out[i] = (float)(int8_t)codes[i];
        return true;
    }
    bool bad = false;
    for (uint32_t i = 0; i < len; i++) {
        /* e4m3 and e5m2 are f16 with fewer mantissa bits, but for e4m3's bias, which is a factor of 2^8 */
        const uint8_t abs = codes[i] & 0x7f;
        const uint16_t sign = (uint16_t)((codes[i] & 0x80) << 8);
        const bool e4 = grid == QN_GRID_E4M3;
        bad |= e4 ? abs == 0x7f : abs >= 0x7c;
        const uint16_t h = (uint16_t)(sign | (e4 ? abs << 7 : abs << 8));
        out[i] = qn_bits_f32(qn_f16_wide(h)) * (e4 ? 256.0f : 1.0f);
    }
    return !bad;
}

/* len ≤ PIECE */
static void store(qn_dtype t, const float *v, uint32_t len, uint8_t *dst)
{
    uint16_t half[PIECE];
    if (t == QN_F32 || t == QN_C64) {
        for (uint32_t i = 0; i < len; i++)
            qn_store32(dst + 4 * (size_t)i, qn_f32_bits(v[i]));
        return;
    }
    if (t == QN_BF16)
        for (uint32_t i = 0; i < len; i++)
            half[i] = qn_bf16_narrow(qn_f32_bits(v[i]));
    else
        for (uint32_t i = 0; i < len; i++)
            half[i] = qn_f16_narrow(qn_f32_bits(v[i]));
    qn_pack16(dst, half, len);
}

bool qn_dequant_group(qn_dtype t, unsigned grid, const uint8_t *codes, uint32_t len, float scale, float bias,
                      uint8_t *dst)
{
    const unsigned unit = t == QN_F32 || t == QN_C64 ? 4 : 2;
    float v[PIECE];
    for (uint32_t at = 0; at < len; at += PIECE) {
        const uint32_t m = len - at < PIECE ? len - at : PIECE;
        if (!numbers(grid, codes + at, m, v))
            return false;
        for (uint32_t i = 0; i < m; i++)
            v[i] *= scale;
        if (grid == QN_GRID_I8_BIAS)
            for (uint32_t i = 0; i < m; i++)
                v[i] += bias;
        store(t, v, m, dst + (size_t)at * unit);
    }
    return true;
}

/* Floats from a nested payload; Inf and NaN would make products that differ between processors. */
static float *finite(const qn_dec_ctx *cx, qn_cur *c, const qn_groups *gs, const char *what, qn_code *rc, qn_err *err)
{
    const qn_block b = {QN_F32, gs->count, gs->per_row < gs->count ? gs->per_row : gs->count};
    const uint8_t *raw = qn_nest_get(cx, c, &b, what, rc, err);
    float *v = raw ? qn_arena_get(cx->scratch, (uint64_t)gs->count * sizeof *v, 64, err) : NULL;
    if (!v) {
        *rc = *rc == QN_OK ? QN_E_MEMORY : *rc;
        return NULL;
    }
    bool bad = false;
    for (uint32_t g = 0; g < gs->count; g++) {
        const uint32_t u = qn_load32(raw + 4 * (size_t)g);
        bad |= (u & 0x7f800000) == 0x7f800000;
        v[g] = qn_bits_f32(u);
    }
    if (bad)
        *rc = QN_FAIL(err, QN_E_INPUT, c->at, "%s: not a finite number", what);
    return bad ? NULL : v;
}

/* Puts the groups that did not fit over what was decoded in their place. */
static qn_code exceptions(const qn_dec_ctx *cx, qn_cur *c, const qn_block *b, const qn_groups *gs, const uint32_t *at,
                          uint64_t n_exc, uint8_t *dst, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    uint32_t n = 0, len;
    qn_code rc;
    for (uint64_t i = 0; i < n_exc; i++) {
        (void)qn_group_at(gs, at[i], &len);
        n += len;
    }
    if (n == 0)
        return QN_OK;
    const qn_block xb = {b->dtype, n, gs->group < n ? gs->group : n};
    const uint8_t *p = qn_nest_get(cx, c, &xb, "dequant: exceptions", &rc, err);
    if (!p)
        return rc;
    for (uint64_t i = 0; i < n_exc; i++) {
        const uint32_t first = qn_group_at(gs, at[i], &len);
        memcpy(dst + (size_t)first * unit, p, (size_t)len * unit);
        p += (size_t)len * unit;
    }
    return QN_OK;
}

qn_code qn_dec_dequant(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                       qn_err *err)
{
    static const qn_dtype code_dtype[QN_GRID_COUNT] = {QN_I8, QN_F8_E4M3, QN_F8_E5M2, QN_I8};
    const unsigned unit = qn_unit_bytes(b->dtype);
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    const unsigned grid = qn_cur_u8(&c);
    const uint64_t group = qn_cur_varint(&c), n_exc = qn_cur_varint(&c);
    if (c.failed || grid >= QN_GRID_COUNT || !qn_dequant_dtype(b->dtype))
        return QN_FAIL(err, QN_E_INPUT, 0, "dequant: grid %u for %s", grid, qn_dtype_name(b->dtype));
    if (group < QN_GROUP_MIN || group > b->cols)
        return QN_FAIL(err, QN_E_INPUT, 1, "dequant: groups of %llu in rows of %u", (unsigned long long)group, b->cols);
    const qn_groups gs = qn_groups_of(b, (uint32_t)group);
    const uint32_t *at = qn_nest_positions(cx, &c, n_exc, gs.count, "dequant", &rc, err);
    if (!at)
        return rc;
    const float *scale = finite(cx, &c, &gs, "dequant: scales", &rc, err), *bias = NULL;
    if (!scale)
        return rc;
    if (grid == QN_GRID_I8_BIAS && !(bias = finite(cx, &c, &gs, "dequant: biases", &rc, err)))
        return rc;
    const qn_block cb = {code_dtype[grid], b->n, b->cols};
    const uint8_t *codes = qn_nest_get(cx, &c, &cb, "dequant: codes", &rc, err);
    if (!codes)
        return rc;
    for (uint32_t g = 0; g < gs.count; g++) {
        uint32_t len;
        const uint32_t first = qn_group_at(&gs, g, &len);
        if (!qn_dequant_group(b->dtype, grid, codes + first, len, scale[g], bias ? bias[g] : 0,
                              dst + (size_t)first * unit))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dequant: a code is not a finite number");
    }
    QN_TRY(exceptions(cx, &c, b, &gs, at, n_exc, dst, err));
    return qn_nest_end(&c, "dequant", err);
}
