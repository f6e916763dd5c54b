/* dec_narrow.c: units that are narrower than their dtype says, widened; and the few that are not, in full.
 * docs/codecs/narrow.md. */
#include "base/err.h"
#include "base/shape.h"
#include "runtime/narrow.h"
#include "runtime/nest.h"
#include "runtime/widths.h"
#include <string.h>

static unsigned bit(qn_dtype t)
{
    return 1u << t;
}

bool qn_narrow_pair(qn_dtype wide, qn_dtype narrow)
{
    const unsigned fp8 = bit(QN_F8_E4M3) | bit(QN_F8_E5M2);
    unsigned allowed = 0;
    switch (wide) {
    case QN_F32:
    case QN_C64:
        allowed = fp8 | bit(QN_BF16) | bit(QN_F16);
        break;
    case QN_F64:
        allowed = bit(QN_F32);
        break;
    case QN_F16:
        allowed = fp8 | bit(QN_BF16);
        break;
    case QN_BF16:
        allowed = fp8;
        break;
    case QN_I64:
        allowed = bit(QN_I32) | bit(QN_I16) | bit(QN_I8);
        break;
    case QN_I32:
        allowed = bit(QN_I16) | bit(QN_I8);
        break;
    case QN_I16:
        allowed = bit(QN_I8);
        break;
    case QN_U64:
        allowed = bit(QN_U32) | bit(QN_U16) | bit(QN_U8);
        break;
    case QN_U32:
        allowed = bit(QN_U16) | bit(QN_U8);
        break;
    case QN_U16:
        allowed = bit(QN_U8);
        break;
    default:
        break;
    }
    return (unsigned)narrow < QN_DTYPE_COUNT && (allowed >> narrow & 1);
}

/* 256 codes, 256 values: the loop is a table look-up. */
static void widen_fp8(qn_dtype wide, qn_dtype narrow, const uint8_t *src, uint32_t n, uint8_t *dst)
{
    uint32_t table[256];
    for (unsigned i = 0; i < 256; i++) {
        const uint32_t u = qn_f32_bits(narrow == QN_F8_E4M3 ? qn_e4m3_to_f32((uint8_t)i) : qn_e5m2_to_f32((uint8_t)i));
        table[i] = wide == QN_F16 ? qn_f16_narrow(u) : wide == QN_BF16 ? u >> 16 : u;
    }
    if (qn_unit_bytes(wide) == 2)
        for (uint32_t i = 0; i < n; i++)
            qn_store16(dst + 2 * (size_t)i, (uint16_t)table[src[i]]);
    else
        for (uint32_t i = 0; i < n; i++)
            qn_store32(dst + 4 * (size_t)i, table[src[i]]);
}

static uint64_t f32_to_f64_bits(uint32_t u)
{
    union {
        double d;
        uint64_t u;
    } x = {.d = (double)qn_bits_f32(u)};
    /* a processor would make a signalling NaN quiet */
    const uint64_t nan = (uint64_t)(u & 0x80000000u) << 32 | UINT64_C(0x7ff) << 52 | (uint64_t)(u & 0x7fffff) << 29;
    return (u & 0x7fffffff) > 0x7f800000 ? nan : x.u;
}

enum { PIECE = 256 };

static void bf16_to_f16(const uint8_t *src, uint32_t n, uint8_t *dst)
{
    uint16_t in[PIECE], out[PIECE];
    for (uint32_t at = 0; at < n; at += PIECE) {
        const uint32_t m = n - at < PIECE ? n - at : PIECE;
        qn_unpack16(in, src + 2 * (size_t)at, m);
        for (uint32_t i = 0; i < m; i++)
            out[i] = qn_f16_narrow((uint32_t)in[i] << 16);
        qn_pack16(dst + 2 * (size_t)at, out, m);
    }
}

static void widen_float(qn_dtype wide, qn_dtype narrow, const uint8_t *restrict src, uint32_t n, uint8_t *restrict dst)
{
    if (wide == QN_F64)
        for (uint32_t i = 0; i < n; i++)
            qn_store64(dst + 8 * (size_t)i, f32_to_f64_bits(qn_load32(src + 4 * (size_t)i)));
    else if (wide == QN_F16)
        bf16_to_f16(src, n, dst);
    else if (narrow == QN_BF16)
        for (uint32_t i = 0; i < n; i++)
            qn_store32(dst + 4 * (size_t)i, (uint32_t)qn_load16(src + 2 * (size_t)i) << 16);
    else
        for (uint32_t i = 0; i < n; i++)
            qn_store32(dst + 4 * (size_t)i, qn_f16_wide(qn_load16(src + 2 * (size_t)i)));
}

/* Sign or zero extension; any pair of widths. */
static void widen_int(bool is_signed, unsigned from, unsigned to, const uint8_t *src, uint32_t n, uint8_t *dst)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *p = src + (size_t)i * from;
        uint64_t v = from == 1 ? *p : from == 2 ? qn_load16(p) : qn_load32(p);
        if (is_signed && v >> (8 * from - 1))
            v |= UINT64_MAX << 8 * from;
        uint8_t *q = dst + (size_t)i * to;
        if (to == 2)
            qn_store16(q, (uint16_t)v);
        else if (to == 4)
            qn_store32(q, (uint32_t)v);
        else
            qn_store64(q, v);
    }
}

void qn_narrow_widen(qn_dtype wide, qn_dtype narrow, const uint8_t *src, uint32_t n, uint8_t *dst)
{
    if (narrow == QN_F8_E4M3 || narrow == QN_F8_E5M2)
        widen_fp8(wide, narrow, src, n, dst);
    else if (wide == QN_F32 || wide == QN_C64 || wide == QN_F64 || wide == QN_F16)
        widen_float(wide, narrow, src, n, dst);
    else
        widen_int(wide == QN_I16 || wide == QN_I32 || wide == QN_I64, qn_unit_bytes(narrow), qn_unit_bytes(wide), src, n,
                  dst);
}

qn_code qn_dec_narrow(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                      qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    const unsigned narrow = qn_cur_u8(&c);
    const uint64_t n_exc = qn_cur_varint(&c);
    if (c.failed || !qn_narrow_pair(b->dtype, (qn_dtype)narrow))
        return QN_FAIL(err, QN_E_INPUT, 0, "narrow: dtype %u inside %s", narrow, qn_dtype_name(b->dtype));
    const uint32_t *at = qn_nest_positions(cx, &c, n_exc, b->n, "narrow", &rc, err);
    if (!at)
        return rc;
    const uint8_t *full = qn_cur_take(&c, (size_t)n_exc * unit);
    if (!full)
        return QN_FAIL(err, QN_E_INPUT, c.at, "narrow: exceptions are cut off");
    const qn_block nb = {(qn_dtype)narrow, b->n, b->cols};
    const uint8_t *units = qn_nest_get(cx, &c, &nb, "narrow", &rc, err);
    if (!units)
        return rc;
    QN_TRY(qn_nest_end(&c, "narrow", err));
    qn_narrow_widen(b->dtype, (qn_dtype)narrow, units, b->n, dst);
    for (uint64_t i = 0; i < n_exc; i++)
        memcpy(dst + (size_t)at[i] * unit, full + i * unit, unit);
    return QN_OK;
}
