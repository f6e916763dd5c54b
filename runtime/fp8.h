/* fp8.h: the parts of an FP8 payload. docs/codecs/fp8.md. */
#ifndef QN_RUNTIME_FP8_H
#define QN_RUNTIME_FP8_H

#include "runtime/dequant.h"

/* Scales other than 0 lie between these, so that no product with one is subnormal. */
#define QN_FP8_SCALE_LEAST 0x1p-100f
#define QN_FP8_SCALE_MOST  0x1p100f

/* Checked but for the codes, which may be NaN. In scratch. */
typedef struct qn_fp8_parts {
    qn_groups groups;
    const uint8_t *scales; /* groups.count of binary32        */
    const uint8_t *codes;  /* E4M3, one for each unit          */
} qn_fp8_parts;

qn_code qn_fp8_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_fp8_parts *out,
                    qn_err *err) QN_MUST_CHECK;

#endif
