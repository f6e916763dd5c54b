/* kern_pvq_row.h: the parts of the pvq kernels that compilers turn into SIMD by themselves: compiled once for any machine, once
 * for AVX2, once for AVX-512. */
#ifndef QN_RUNTIME_KERN_PVQ_ROW_H
#define QN_RUNTIME_KERN_PVQ_ROW_H

#include "runtime/kern_pvq.h"
#include "runtime/widths.h"

static inline __attribute__((always_inline)) void qn_pvq_norms_any(const int8_t *restrict y, size_t ld, uint32_t m, size_t count,
                                                                   uint32_t *restrict norm2)
{
    for (size_t c = 0; c < count; c++)
        norm2[c] = 0;
    for (uint32_t i = 0; i < m; i++)
        for (size_t c = 0; c < count; c++)
            norm2[c] += (uint32_t)(y[i * ld + c] * y[i * ld + c]);
}

static inline __attribute__((always_inline)) void qn_pvq_row_any(qn_dtype t, const int8_t *restrict y, const float shift[2],
                                                                 const float *restrict scale, const uint32_t *restrict pos, size_t n, uint8_t *restrict dst)
{
    enum { PIECE = 128 };
    const float one = shift[0], beyond = shift[1];
    const bool moves = one != 0 || beyond != 0;
    for (size_t at = 0; at < n; at += PIECE) {
        const size_t len = n - at < PIECE ? n - at : PIECE;
        int8_t picked[PIECE];
        float v[PIECE];
        uint16_t half[PIECE];
        const int8_t *from = y + at;
        if (pos) {
            for (size_t i = 0; i < len; i++)
                picked[i] = y[pos[at + i]];
            from = picked;
        }
        if (moves) {
            for (size_t i = 0; i < len; i++) {
                const int32_t n1 = from[i];
                const float by = n1 > 1 || n1 < -1 ? beyond : one;
                v[i] = ((float)n1 + (n1 > 0 ? by : n1 < 0 ? -by : 0.0f)) * scale[at + i];
            }
        } else {
            for (size_t i = 0; i < len; i++)
                v[i] = (float)from[i] * scale[at + i];
        }
        if (t == QN_F32) {
            for (size_t i = 0; i < len; i++)
                qn_store32(dst + 4 * (at + i), qn_f32_bits(v[i]));
            continue;
        }
        if (t == QN_BF16)
            for (size_t i = 0; i < len; i++)
                half[i] = qn_bf16_narrow(qn_f32_bits(v[i]));
        else
            for (size_t i = 0; i < len; i++)
                half[i] = qn_f16_narrow(qn_f32_bits(v[i]));
        qn_pack16(dst + 2 * at, half, len);
    }
}

#endif
