/* shape.h: sizes that follow from dtype and dims. */
#ifndef QN_BASE_SHAPE_H
#define QN_BASE_SHAPE_H

#include "quern/base.h"

#define QN_RANK_MAX 16
#define QN_DIM_MAX  (UINT64_C(1) << 48)

/* dims → elements and bytes, every product checked, zero dimensions decided first. False when a product
 * overflows or sub-byte elements do not fill whole bytes. Rank 0 is one element. */
bool qn_shape_bytes(qn_dtype t, const uint64_t *dims, unsigned rank, uint64_t *n_elems, uint64_t *n_bytes);

/* Bytes of the *unit* that codecs work on (1, 2, 4, 8): an element; half a C64; a byte of packed sub-byte data. */
unsigned qn_unit_bytes(qn_dtype t);

/* Row length in units that codecs are told (scale classes go by row): the innermost dimensions multiplied
 * from the right until there are at least 32 units; (64,64,3,3) → 576, (4096,4096) → 4096. At least 1, and at
 * most all units. The shape must have passed qn_shape_bytes. */
uint64_t qn_shape_cols(qn_dtype t, const uint64_t *dims, unsigned rank);

#endif
