/* ggml.h: blocks of ggml's quantized types → numbers, bit by bit what ggml's own decoders give. */
#ifndef QN_BASE_GGML_H
#define QN_BASE_GGML_H

#include "quern/base.h"

enum { QN_GGML_BLOCK_MAX = 256 }; /* elements: no type has larger blocks, and every type's divide this */

/* One block → its elements. NULL for what is no block type. */
typedef void (*qn_ggml_block_fn)(const uint8_t *block, float *y);
qn_ggml_block_fn qn_ggml_block(qn_dtype t);

/* n elements, whole blocks, as f32 and as f64. QN_E_UNSUPPORTED for what is no block type, QN_E_USAGE for part of a block. */
qn_code qn_ggml_f32(qn_dtype t, const void *src, uint64_t n, float *dst, qn_err *err) QN_MUST_CHECK;
qn_code qn_ggml_widen(qn_dtype t, const void *src, uint64_t n, double *dst, qn_err *err) QN_MUST_CHECK;

#endif
