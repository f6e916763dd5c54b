/* pvq_codec.h: what decoder and encoder of the pvq codec share: docs/codecs/pvq.md. */
#ifndef QN_RUNTIME_PVQ_CODEC_H
#define QN_RUNTIME_PVQ_CODEC_H

#include "runtime/pvq.h"
#include "base/num.h"
#include "quern/base.h"

#define QN_PVQ_CLASSES 64 /* most classes of columns                             */
#define QN_PVQ_PULSES  127 /* largest K: coordinates fit in an int8_t            */
#define QN_PVQ_SHELLS  0x80u /* beside log2 N in the first byte: K is told for each group */
#define QN_PVQ_SHELL_N 16  /* rows of a group then                              */
#define QN_PVQ_CONTEXTS 64 /* most contexts of K in that form                     */

/* Columns that are quantized alike. */
typedef struct qn_pvq_class {
    uint8_t pulses, gain_bits;
    uint32_t n_cols;      /* columns of this class        */
    uint32_t short_k;     /* of the groups of the last, shorter, block of rows */
    unsigned width, short_width; /* bits of a group: index, then level */
} qn_pvq_class;

/* Bits that a number below v takes when the first numbers are one bit shorter than the others: ⌊log2 v⌋ or one more. u: so many
 * are short. last: v − 1; bits: of it, 1 at least. */
static inline qn_u128 qn_pvq_n_short(qn_u128 last, unsigned bits)
{
    const qn_u128 all = bits < 64 ? qn_u128_of((UINT64_C(1) << bits) - 1) : bits == 64 ? qn_u128_of(UINT64_MAX)
                      : (qn_u128){UINT64_MAX, bits < 128 ? (UINT64_C(1) << (bits - 64)) - 1 : UINT64_MAX};
    return qn_u128_sub(all, last);
}

static inline bool qn_pvq_dtype(qn_dtype t)
{
    return t == QN_F32 || t == QN_F16 || t == QN_BF16;
}

static inline unsigned qn_pvq_context(unsigned col, unsigned row, unsigned n)
{
    return col + row < n ? col + row : n - 1;
}

/* The f32 nearest to 1/√q, 1 ≤ q ≤ QN_PVQ_PULSES². Newton's iteration in f64 from a guess by exponent; tests/runtime/test_pvq.c
 * checks every q against integers. */
float qn_pvq_inverse_root(uint32_t q);

/* f32 factors of a group, multiplied in this order. */
static inline float qn_pvq_amplitude(float base, uint8_t row, uint8_t col, uint16_t level)
{
    return base * qn_pvq_scale(row) * qn_pvq_scale(col) * ((float)level / 4096.0f);
}

#define QN_PVQ_BASE_MIN 0x1p-64f
#define QN_PVQ_BASE_MAX 0x1p+64f

/* Bits [at, at + width) of p, lowest first, width ≤ 64; reads the bytes that hold them and no others. */
static inline uint64_t qn_pvq_field(const uint8_t *p, size_t n_bytes, uint64_t at, unsigned width)
{
    const size_t byte = (size_t)(at / 8);
    const unsigned shift = at % 8;
    uint64_t v = 0;
    if (width == 0)
        return 0;
    if (n_bytes - byte >= 9) {
        v = qn_load64(p + byte) >> shift;
        v |= shift ? (uint64_t)p[byte + 8] << (64 - shift) : 0;
    } else {
        for (unsigned i = 0; i < 9 && byte + i < n_bytes; i++)
            v |= i == 0 ? (uint64_t)p[byte] >> shift : 8 * i - shift < 64 ? (uint64_t)p[byte + i] << (8 * i - shift) : 0;
    }
    return width < 64 ? v & ((UINT64_C(1) << width) - 1) : v;
}

#endif
