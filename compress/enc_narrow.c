/* enc_narrow.c: finds the narrowest dtype that nearly all units fit in, by narrowing and widening again: what comes back
 * with the same bits fits, whatever it is (NaN payloads, −0, subnormals); the rest are exceptions. */
#include "base/err.h"
#include "base/num.h"
#include "base/shape.h"
#include "compress/nest.h"
#include "compress/sample.h"
#include "runtime/narrow.h"
#include "runtime/widths.h"
#include <string.h>

static const qn_dtype order[] = {QN_I8,   QN_U8,  QN_F8_E4M3, QN_F8_E5M2, QN_I16, QN_U16,
                                 QN_BF16, QN_F16, QN_I32,     QN_U32,     QN_F32};

/* Any f64 → the f32 that might widen to it; a NaN keeps its top payload bits. */
static uint32_t f64_to_f32_bits(uint64_t u)
{
    union {
        uint64_t u;
        double d;
    } x = {.u = u};
    const uint32_t nan = (uint32_t)(u >> 32 & 0x80000000u) | 0x7f800000u | (uint32_t)(u >> 29 & 0x7fffff);
    return u << 1 > UINT64_C(0xffe) << 52 ? nan : qn_f32_bits((float)x.d);
}

static uint32_t as_f32(qn_dtype wide, const uint8_t *p)
{
    return wide == QN_F16 ? qn_f16_wide(qn_load16(p)) : wide == QN_BF16 ? (uint32_t)qn_load16(p) << 16 : qn_load32(p);
}

static void narrow_units(qn_dtype wide, qn_dtype narrow, const uint8_t *src, uint32_t n, uint8_t *dst)
{
    const unsigned from = qn_unit_bytes(wide), to = qn_unit_bytes(narrow);
    switch (narrow) {
    case QN_BF16: /* cut, not rounded: what does not fit is an exception anyway */
        for (uint32_t i = 0; i < n; i++)
            qn_store16(dst + 2 * (size_t)i, (uint16_t)(as_f32(wide, src + (size_t)i * from) >> 16));
        break;
    case QN_F16:
        for (uint32_t i = 0; i < n; i++)
            qn_store16(dst + 2 * (size_t)i, qn_f16_narrow(qn_load32(src + 4 * (size_t)i)));
        break;
    case QN_F32:
        for (uint32_t i = 0; i < n; i++)
            qn_store32(dst + 4 * (size_t)i, f64_to_f32_bits(qn_load64(src + 8 * (size_t)i)));
        break;
    case QN_F8_E4M3:
        for (uint32_t i = 0; i < n; i++)
            dst[i] = qn_f32_to_e4m3(qn_bits_f32(as_f32(wide, src + (size_t)i * from)));
        break;
    case QN_F8_E5M2:
        for (uint32_t i = 0; i < n; i++)
            dst[i] = qn_f32_to_e5m2(qn_bits_f32(as_f32(wide, src + (size_t)i * from)));
        break;
    default: /* integers: the low bytes */
        for (uint32_t i = 0; i < n; i++)
            memcpy(dst + (size_t)i * to, src + (size_t)i * from, to);
        break;
    }
}

static inline bool same(const uint8_t *a, const uint8_t *b, unsigned unit)
{
    return unit == 2 ? qn_load16(a) == qn_load16(b) : unit == 4 ? qn_load32(a) == qn_load32(b) : qn_load64(a) == qn_load64(b);
}

/* Do at most 1 in 32 of the sampled units that are not zero fall outside? */
static bool sample_fits(const qn_block *b, qn_dtype narrow, const uint8_t *src)
{
    enum { RUN = 64, RUNS = 32 };
    static const uint8_t zero[8];
    uint8_t small[RUN * 4], back[RUN * 8];
    const unsigned unit = qn_unit_bytes(b->dtype);
    const uint32_t run = b->n < RUN ? b->n : RUN, n_runs = b->n / run < RUNS ? b->n / run : RUNS;
    uint32_t misses = 0, seen = 0;
    for (uint32_t r = 0; r < n_runs && misses <= 16; r++) {
        const uint8_t *p = src + (size_t)qn_sample_at(b->n, run, n_runs, r) * unit;
        narrow_units(b->dtype, narrow, p, run, small);
        qn_narrow_widen(b->dtype, narrow, small, run, back);
        for (uint32_t i = 0; i < run; i++) {
            misses += !same(p + i * unit, back + i * unit, unit);
            seen += !same(p + i * unit, zero, unit);
        }
    }
    return misses <= seen / 32;
}

static uint32_t list_misses(const qn_block *b, const uint8_t *src, const uint8_t *back, uint32_t *at, uint32_t limit)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    uint32_t n = 0;
    if (memcmp(src, back, (size_t)b->n * unit) == 0)
        return 0;
    for (uint32_t i = 0; i < b->n && n < limit; i++)
        if (!same(src + (size_t)i * unit, back + (size_t)i * unit, unit))
            at[n++] = i;
    return n;
}

static qn_code write(const qn_enc_ctx *cx, const qn_block *b, qn_dtype narrow, const uint8_t *src, qn_sink *s,
                     qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const uint32_t limit = b->n / 16 + 1;
    uint8_t *small = qn_arena_get(cx->scratch, (size_t)b->n * qn_unit_bytes(narrow), 64, err);
    uint32_t *at = qn_arena_get(cx->scratch, limit * sizeof *at, 64, err);
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    uint8_t *back = qn_arena_get(cx->scratch, (size_t)b->n * unit, 64, err);
    if (!small || !at || !back)
        return QN_E_MEMORY;
    narrow_units(b->dtype, narrow, src, b->n, small);
    qn_narrow_widen(b->dtype, narrow, small, b->n, back);
    const uint32_t n_exc = list_misses(b, src, back, at, limit);
    qn_arena_rewind(cx->scratch, mark);
    if (n_exc == limit) {
        s->full = true; /* the sample was lucky */
        return QN_OK;
    }
    const qn_block nb = {narrow, b->n, b->cols};
    qn_sink_u8(s, narrow);
    qn_sink_varint(s, n_exc);
    qn_sink_positions(s, at, n_exc);
    for (uint32_t i = 0; i < n_exc; i++)
        qn_sink_put(s, src + (size_t)at[i] * unit, unit);
    return qn_nest_encode(cx, s, &nb, small, true, err);
}

qn_code qn_enc_narrow(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                      size_t *n_out, qn_err *err)
{
    *n_out = 0;
    if (!qn_nest_allowed(cx))
        return QN_OK;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (!qn_narrow_pair(b->dtype, order[i]) || !sample_fits(b, order[i], src))
            continue;
        const qn_arena_mark mark = qn_arena_tell(cx->scratch);
        qn_sink s = qn_sink_over(dst, cap);
        QN_TRY(write(cx, b, order[i], src, &s, err));
        qn_arena_rewind(cx->scratch, mark);
        if (!s.full) {
            *n_out = s.n;
            break;
        }
    }
    return QN_OK;
}
