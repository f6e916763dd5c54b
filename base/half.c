/* half.c: see half.h. One widening and one narrowing routine serve all formats: a format is three numbers. */
#include "base/half.h"
#include "base/err.h"
#include "base/ggml.h"
#include "base/num.h"

/* A narrow IEEE-like format: sign, e exponent bits with this bias, m mantissa bits. */
struct layout {
    unsigned e, m;
    int bias;
    bool has_inf; /* the top exponent holds Inf and NaN; otherwise it holds numbers */
};

static const struct layout f16 = {5, 10, 15, true}, e5m2 = {5, 2, 15, true}, e4m3 = {4, 3, 7, false},
                           e4m3fnuz = {4, 3, 8, false}, e5m2fnuz = {5, 2, 16, false}, e2m1 = {2, 1, 1, false},
                           e2m3 = {2, 3, 1, false}, e3m2 = {3, 2, 3, false};

/* Exact: every value of these formats is an f32. NaN codes of formats without Inf are the caller's. */
static float widen(const struct layout *l, unsigned v)
{
    const uint32_t sign = (uint32_t)(v >> (l->e + l->m) & 1) << 31;
    const uint32_t exp = v >> l->m & ((1u << l->e) - 1), mant = v & ((1u << l->m) - 1);
    if (l->has_inf && exp == (1u << l->e) - 1)
        return qn_bits_f32(sign | 0x7f800000u | mant << (23 - l->m));
    if (exp == 0) {
        if (mant == 0)
            return qn_bits_f32(sign);
        const unsigned top = 31u - (unsigned)__builtin_clz(mant); /* value = mant × 2^(1 − bias − m) */
        const uint32_t e32 = (uint32_t)(127 + 1 - l->bias - (int)l->m + (int)top);
        return qn_bits_f32(sign | e32 << 23 | (mant ^ 1u << top) << (23 - top));
    }
    return qn_bits_f32(sign | (uint32_t)((int)exp - l->bias + 127) << 23 | mant << (23 - l->m));
}

/* Round to nearest even. Gives the exponent-and-mantissa code without sign, possibly beyond the largest finite one: the
 * caller maps overflow. Not for NaN and Inf. */
static uint32_t narrow(const struct layout *l, uint32_t abs)
{
    const int e32 = (int)(abs >> 23);
    if (e32 == 0)
        return 0; /* an f32 subnormal is below half of any format's smallest step */
    const uint32_t mant = (abs & 0x7fffff) | 0x800000;
    int exp = e32 - 127 + l->bias;
    unsigned drop = 23 - l->m;
    if (exp <= 0) { /* subnormal in the target: more bits fall away */
        if (exp < -(int)l->m)
            return 0; /* below half the smallest; exactly half is exp = −m with zero mantissa and handled below */
        drop += (unsigned)(1 - exp);
        exp = 1;
    }
    uint32_t code = mant >> drop;
    const uint32_t rest = mant & ((1u << drop) - 1), half = 1u << (drop - 1);
    if (rest > half || (rest == half && (code & 1)))
        code++;
    /* the hidden bit of `code` counts as one exponent step; a carry into the next binade does too */
    return ((uint32_t)(exp - 1) << l->m) + code;
}

float qn_f16_to_f32(uint16_t h)
{
    return widen(&f16, h);
}

uint16_t qn_f32_to_f16(float f)
{
    const uint32_t u = qn_f32_bits(f), abs = u & 0x7fffffff, sign = u >> 16 & 0x8000;
    if (abs > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (abs >> 13 & 0x3ff));
    if (abs == 0x7f800000)
        return (uint16_t)(sign | 0x7c00);
    const uint32_t code = narrow(&f16, abs);
    return (uint16_t)(sign | (code > 0x7c00 ? 0x7c00 : code));
}

float qn_bf16_to_f32(uint16_t h)
{
    return qn_bits_f32((uint32_t)h << 16);
}

uint16_t qn_f32_to_bf16(float f)
{
    const uint32_t u = qn_f32_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float qn_e4m3_to_f32(uint8_t b)
{
    return (b & 0x7f) == 0x7f ? qn_bits_f32((uint32_t)(b & 0x80) << 24 | 0x7ff00000u) : widen(&e4m3, b);
}

uint8_t qn_f32_to_e4m3(float f)
{
    const uint32_t u = qn_f32_bits(f), abs = u & 0x7fffffff, sign = u >> 24 & 0x80;
    if (abs >= 0x7f800000)
        return (uint8_t)(sign | 0x7f);
    const uint32_t code = narrow(&e4m3, abs);
    return (uint8_t)(sign | (code > 0x7e ? 0x7f : code));
}

float qn_e5m2_to_f32(uint8_t b)
{
    return widen(&e5m2, b);
}

uint8_t qn_f32_to_e5m2(float f)
{
    const uint32_t u = qn_f32_bits(f), abs = u & 0x7fffffff, sign = u >> 24 & 0x80;
    if (abs > 0x7f800000)
        return (uint8_t)(sign | 0x7e | (abs >> 21 & 3));
    if (abs == 0x7f800000)
        return (uint8_t)(sign | 0x7c);
    const uint32_t code = narrow(&e5m2, abs);
    return (uint8_t)(sign | (code > 0x7c ? 0x7c : code));
}

float qn_e4m3fnuz_to_f32(uint8_t b)
{
    return b == 0x80 ? qn_bits_f32(0x7fc00000u) : widen(&e4m3fnuz, b);
}

float qn_e5m2fnuz_to_f32(uint8_t b)
{
    return b == 0x80 ? qn_bits_f32(0x7fc00000u) : widen(&e5m2fnuz, b);
}

float qn_e8m0_to_f32(uint8_t b)
{
    if (b == 0xff)
        return qn_bits_f32(0x7fc00000u);
    return b == 0 ? qn_bits_f32(0x00400000u) : qn_bits_f32((uint32_t)b << 23); /* 2^−127 is an f32 subnormal */
}

float qn_e2m1_to_f32(uint8_t nibble)
{
    return widen(&e2m1, nibble & 15u);
}

float qn_e2m3_to_f32(uint8_t six)
{
    return widen(&e2m3, six & 63u);
}

float qn_e3m2_to_f32(uint8_t six)
{
    return widen(&e3m2, six & 63u);
}

typedef float (*widen8_fn)(uint8_t);

static void widen8(widen8_fn fn, const uint8_t *p, uint64_t n, double *dst)
{
    for (uint64_t i = 0; i < n; i++)
        dst[i] = (double)fn(p[i]);
}

static void widen_int(qn_dtype t, const uint8_t *p, uint64_t n, double *dst)
{
    for (uint64_t i = 0; i < n; i++)
        switch (t) {
        case QN_I8:
            dst[i] = (double)(int8_t)p[i];
            break;
        case QN_I16:
            dst[i] = (double)(int16_t)qn_load16(p + 2 * i);
            break;
        case QN_U16:
            dst[i] = (double)qn_load16(p + 2 * i);
            break;
        case QN_I32:
            dst[i] = (double)(int32_t)qn_load32(p + 4 * i);
            break;
        case QN_U32:
            dst[i] = (double)qn_load32(p + 4 * i);
            break;
        case QN_I64:
            dst[i] = (double)(int64_t)qn_load64(p + 8 * i);
            break;
        case QN_U64:
            dst[i] = (double)qn_load64(p + 8 * i);
            break;
        default:
            dst[i] = (double)p[i];
        }
}

static double f64_at(const uint8_t *p)
{
    const uint64_t u = qn_load64(p);
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

qn_code qn_widen(qn_dtype t, const void *src, uint64_t n, double *dst, qn_err *err)
{
    const uint8_t *p = src;
    switch (t) {
    case QN_F64:
        for (uint64_t i = 0; i < n; i++)
            dst[i] = f64_at(p + 8 * i);
        return QN_OK;
    case QN_F32:
    case QN_C64:
        for (uint64_t i = 0; i < (t == QN_C64 ? 2 * n : n); i++)
            dst[i] = (double)qn_bits_f32(qn_load32(p + 4 * i));
        return QN_OK;
    case QN_BF16:
    case QN_F16:
        for (uint64_t i = 0; i < n; i++)
            dst[i] = (double)(t == QN_F16 ? qn_f16_to_f32 : qn_bf16_to_f32)(qn_load16(p + 2 * i));
        return QN_OK;
    case QN_F8_E4M3:
        widen8(qn_e4m3_to_f32, p, n, dst);
        return QN_OK;
    case QN_F8_E5M2:
        widen8(qn_e5m2_to_f32, p, n, dst);
        return QN_OK;
    case QN_F8_E4M3FNUZ:
        widen8(qn_e4m3fnuz_to_f32, p, n, dst);
        return QN_OK;
    case QN_F8_E5M2FNUZ:
        widen8(qn_e5m2fnuz_to_f32, p, n, dst);
        return QN_OK;
    case QN_F8_E8M0:
        widen8(qn_e8m0_to_f32, p, n, dst);
        return QN_OK;
    case QN_F4:
        for (uint64_t i = 0; i < n; i++)
            dst[i] = (double)qn_e2m1_to_f32((uint8_t)(p[i / 2] >> (i % 2 * 4)));
        return QN_OK;
    case QN_BOOL:
    case QN_U8:
    case QN_I8:
    case QN_I16:
    case QN_U16:
    case QN_I32:
    case QN_U32:
    case QN_I64:
    case QN_U64:
        widen_int(t, p, n, dst);
        return QN_OK;
    default:
        if (qn_ggml_block(t))
            return qn_ggml_widen(t, src, n, dst, err);
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s has no numeric meaning that can be widened",
                       qn_dtype_name(t) ? qn_dtype_name(t) : "unknown dtype");
    }
}
