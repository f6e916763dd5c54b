/* blocks.h: the BLOCKS payload: rows of one of ggml's block types. docs/codecs/blocks.md. */
#ifndef QN_RUNTIME_BLOCKS_H
#define QN_RUNTIME_BLOCKS_H

#include "runtime/codec.h"

/* A payload's parts, checked; `blocks` points into the payload. */
typedef struct qn_blocks_parts {
    qn_dtype type;         /* of the blocks                            */
    uint32_t rows, cols;
    size_t row_bytes;
    const uint8_t *blocks; /* (rows, row_bytes)                        */
} qn_blocks_parts;

/* QN_E_INPUT: no block type, rows that are no whole blocks, another length than that. What the blocks decode to is not looked at. */
qn_code qn_blocks_open(const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_blocks_parts *out, qn_err *err) QN_MUST_CHECK;

enum { QN_BLOCKS_HEAD_BYTES = 1 };

#endif
