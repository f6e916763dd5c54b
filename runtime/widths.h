/* widths.h: inline conversions between float widths, bit for bit those of base/half.h, in a form that compilers turn into
 * SIMD loops. No subnormal operand is ever given to the floating-point unit's inputs, so flush modes do no harm. */
#ifndef QN_RUNTIME_WIDTHS_H
#define QN_RUNTIME_WIDTHS_H

#include "base/half.h"
#include "base/num.h"

/* Little-endian bytes ↔ numbers, in bulk: byte-wise loads keep compilers from using SIMD in the loops around them. */
static inline void qn_unpack16(uint16_t *dst, const uint8_t *src, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(dst, src, n * 2);
#else
    for (size_t i = 0; i < n; i++)
        dst[i] = qn_load16(src + 2 * i);
#endif
}

static inline void qn_pack16(uint8_t *dst, const uint16_t *src, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(dst, src, n * 2);
#else
    for (size_t i = 0; i < n; i++)
        qn_store16(dst + 2 * i, src[i]);
#endif
}

static inline uint32_t qn_f16_wide(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, abs = h & 0x7fff;
    const uint32_t normal = (abs << 13) + (112u << 23);
    const uint32_t special = normal + (112u << 23); /* exponent 31 → 255 */
    const uint32_t small = qn_f32_bits((float)(int32_t)abs * 0x1p-24f);
    return sign | (abs < 0x400 ? small : abs < 0x7c00 ? normal : special);
}

/* Round to nearest even; NaN quiet with the payload's top bits. */
static inline uint16_t qn_f16_narrow(uint32_t u)
{
    const uint32_t sign = u >> 16 & 0x8000, abs = u & 0x7fffffff;
    const uint32_t normal = (abs + 0xfff + (abs >> 13 & 1)) >> 13;
    const uint32_t capped = normal - (112u << 10) > 0x7c00 ? 0x7c00 : normal - (112u << 10);
    /* below 2^-14 a step is 2^-24, which is what one ulp of 0.5 … 1 is in f32 */
    const uint32_t tiny = abs < 0x800000 ? 0 : abs;
    const uint32_t small = qn_f32_bits(qn_bits_f32(tiny) + 0.5f) - 0x3f000000u;
    const uint32_t nan = 0x7e00 | (abs >> 13 & 0x3ff);
    return (uint16_t)(sign | (abs > 0x7f800000 ? nan : abs < (113u << 23) ? small : capped));
}

/* Not for NaN. */
static inline uint16_t qn_bf16_narrow(uint32_t u)
{
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

#endif
