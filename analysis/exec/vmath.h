/* vmath.h: f32 functions that a compiler can turn into vector code, with the same bits from every compiler and width (no libm, no
 * contraction). */
#ifndef QN_ANALYSIS_EXEC_VMATH_H
#define QN_ANALYSIS_EXEC_VMATH_H

#include "base/half.h"

/* e^x, error below 1.5 ulp; e^x = 2^n · e^r with n = round(x / ln 2), |r| ≤ ln 2 / 2, e^r by its Taylor polynomial of degree 7 (what is
 * left out is below r^8 / 8! < 6e-9). Subnormal results are rounded twice. NaN stays NaN. */
static inline float qn_vexp(float x)
{
    const float round = 12582912.0f; /* 1.5 · 2^23: adding it leaves an integer in the low bits */
    x = x > 100.0f ? 100.0f : x;
    x = x < -110.0f ? -110.0f : x;
    const float shifted = x * 1.44269504f + round;
    const float n = shifted - round;
    const int32_t k = (int32_t)(qn_f32_bits(shifted) - qn_f32_bits(round));
    /* ln 2 in two parts, the first with so few bits that n · first is exact */
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.0f;
    /* 2^k in two factors, so that both are normal numbers */
    const int32_t half = k >> 1, rest = k - half;
    return p * qn_bits_f32((uint32_t)(half + 127) << 23) * qn_bits_f32((uint32_t)(rest + 127) << 23);
}

/* 1 / (1 + e^−x) */
static inline float qn_vsigmoid(float x)
{
    return 1.0f / (1.0f + qn_vexp(-x));
}

/* tanh: by its series near 0, where 1 − 2 / (e^2x + 1) would cancel. Error below 4 ulp. */
static inline float qn_vtanh(float x)
{
    const float s = x * x;
    const float small = x + x * s * (-1.0f / 3.0f + s * (2.0f / 15.0f + s * (-17.0f / 315.0f + s * (62.0f / 2835.0f + s * (-1382.0f / 155925.0f)))));
    const float large = 1.0f - 2.0f / (qn_vexp(2.0f * x) + 1.0f);
    return s < 0.0625f ? small : large;
}

#endif
