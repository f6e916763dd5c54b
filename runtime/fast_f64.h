/* fast_f64.h: 64-bit floats of the fast codec. Rare in checkpoints, so plain C and simple: see
 * docs/codecs/fast.md. */
#ifndef QN_RUNTIME_FAST_F64_H
#define QN_RUNTIME_FAST_F64_H

#include "base/alloc.h"
#include "runtime/kern_fast.h"

qn_code qn_fast_dec_f64(const qn_kern_fast *kern, size_t n, const uint8_t *payload, size_t n_bytes,
                        uint8_t *dst, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* The raw bits of n weights: the top five of 53 in raw5, 48 in raw6. The encoder's half. */
void qn_fast_split_f64(const uint8_t *src, size_t n, uint8_t *raw5, uint8_t *raw6);

static inline size_t qn_fast_raw5_bytes(size_t n)
{
    return (5 * n + 7) / 8;
}

#endif
