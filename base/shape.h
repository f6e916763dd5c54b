/* shape.h: sizes that follow from dtype and dims. */
#ifndef QN_BASE_SHAPE_H
#define QN_BASE_SHAPE_H

#include "quern/base.h"

#define QN_RANK_MAX 16
#define QN_DIM_MAX  (UINT64_C(1) << 48)

/* dims → elements and bytes, every product checked, zero dimensions decided first. False when a product
 * overflows, sub-byte elements do not fill whole bytes, or blocks of a block type do not fill the innermost dimension; and for
 * what is no dtype. Rank 0 is one element. */
bool qn_shape_bytes(qn_dtype t, const uint64_t *dims, unsigned rank, uint64_t *n_elems, uint64_t *n_bytes);

/* A type whose elements have no width of their own (ggml's). */
static inline bool qn_dtype_is_block(qn_dtype t)
{
    return qn_dtype_bits(t) == 0 && qn_dtype_block_bytes(t) != 0;
}

/* A whole number, signed or not. BOOL is none, nor is a type whose elements are bit patterns of floats. */
static inline bool qn_dtype_is_integer(qn_dtype t)
{
    return t == QN_U8 || t == QN_I8 || t == QN_U16 || t == QN_I16 || t == QN_U32 || t == QN_I32 || t == QN_U64 || t == QN_I64;
}

/* Bytes of n elements, which must be whole blocks; and the elements in n bytes: of a block type those of whole blocks. t must be
 * a dtype, the bytes those of a shape that has passed qn_shape_bytes. */
static inline uint64_t qn_bytes_of_elems(qn_dtype t, uint64_t n)
{
    return n / qn_dtype_block_elems(t) * qn_dtype_block_bytes(t);
}

static inline uint64_t qn_elems_of_bytes(qn_dtype t, uint64_t n_bytes)
{
    const unsigned bits = qn_dtype_bits(t);
    return bits ? n_bytes * 8 / bits : n_bytes / qn_dtype_block_bytes(t) * qn_dtype_block_elems(t);
}

/* Bytes of the *unit* that codecs work on (1, 2, 4, 8): an element; half a C64; a byte of packed sub-byte data and of blocks. */
unsigned qn_unit_bytes(qn_dtype t);

/* Row length in units that codecs are told (scale classes go by row): the innermost dimensions multiplied
 * from the right until there are at least 32 units; (64,64,3,3) → 576, (4096,4096) → 4096. At least 1, and at
 * most all units. Of a block type: (4096, 4096) in Q4_0 → 2304 bytes. The shape must have passed qn_shape_bytes. */
uint64_t qn_shape_cols(qn_dtype t, const uint64_t *dims, unsigned rank);

#endif
