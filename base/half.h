/* half.h: narrow floats ↔ f32, bit-exact and independent of the rounding mode of the processor.
 *
 * f16: IEEE binary16. bf16: top half of an f32. e4m3: "fn" (no infinity, 0x7f/0xff NaN, max 448). e5m2: IEEE-like.
 * Narrowing rounds to nearest, ties to even; NaN stays NaN (quiet, payload's top bits kept); overflow goes to infinity,
 * in e4m3 to NaN (as the OCP FP8 specification's non-saturating mode). Widening is exact, NaN payload bits kept. */
#ifndef QN_BASE_HALF_H
#define QN_BASE_HALF_H

#include "quern/base.h"

float qn_f16_to_f32(uint16_t h);
uint16_t qn_f32_to_f16(float f);
float qn_bf16_to_f32(uint16_t h);
uint16_t qn_f32_to_bf16(float f);
float qn_e4m3_to_f32(uint8_t b);
uint8_t qn_f32_to_e4m3(float f);
float qn_e5m2_to_f32(uint8_t b);
uint8_t qn_f32_to_e5m2(float f);
/* AMD variants: 0x80 is NaN, no −0, exponent biases 8 and 16. */
float qn_e4m3fnuz_to_f32(uint8_t b);
float qn_e5m2fnuz_to_f32(uint8_t b);
float qn_e8m0_to_f32(uint8_t b);
/* OCP MX: e2m1 from a nibble, e2m3 and e3m2 from six bits. */
float qn_e2m1_to_f32(uint8_t nibble);
float qn_e2m3_to_f32(uint8_t six);
float qn_e3m2_to_f32(uint8_t six);

static inline uint32_t qn_f32_bits(float f)
{
    union {
        float f;
        uint32_t u;
    } x = {.f = f};
    return x.u;
}

static inline float qn_bits_f32(uint32_t u)
{
    union {
        uint32_t u;
        float f;
    } x = {.u = u};
    return x.f;
}

/* n elements of any dtype with a numeric meaning → f64 (C64: 2n values). src is packed as in a checkpoint. Block types (ggml.h):
 * whole blocks, else QN_E_USAGE. QN_E_UNSUPPORTED for F6 (bit order is not specified) and BYTES. */
qn_code qn_widen(qn_dtype t, const void *src, uint64_t n, double *dst, qn_err *err) QN_MUST_CHECK;

#endif
