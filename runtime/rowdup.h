/* rowdup.h: the parts of a ROWDUP or ROWS payload (docs/codecs/rowdup.md). */
#ifndef QN_RUNTIME_ROWDUP_H
#define QN_RUNTIME_ROWDUP_H

#include "runtime/codec.h"

typedef struct qn_rowdup_parts {
    uint32_t n_rows, n_unique;
    const uint32_t *map; /* n_rows: which unique row each is; in scratch                                       */
    qn_block rows;       /* the unique rows, and behind them what the block has after its last whole row        */
    unsigned codec;      /* that they are written with, in a payload of n_bytes, not looked at; one level deeper */
    const uint8_t *payload;
    size_t n_bytes;
} qn_rowdup_parts;

qn_code qn_rowdup_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_rowdup_parts *out,
                       qn_err *err) QN_MUST_CHECK;

#endif
