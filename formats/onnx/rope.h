/* rope.h: a protobuf message in the making, as pieces: stretches of the file it comes from, bytes of our own, contents of tensors. Nothing is
 * copied until it is written, and its length is known before: what stands in front of a message is the length of it. */
#ifndef QN_FORMATS_ONNX_ROPE_H
#define QN_FORMATS_ONNX_ROPE_H

#include "base/alloc.h"

/* Content of a tensor; the writer knows where it comes from. */
typedef struct qn_onnx_content {
    struct qn_onnx_content *next;           /* of those in the data file                        */
    const struct qn_onnx_tensor *tensor;    /* as in the source, or NULL: the caller's `id`      */
    uint64_t id, n_bytes, off;              /* off: in the data file                             */
    const char *name;                       /* for messages                                      */
} qn_onnx_content;

typedef enum qn_onnx_piece_kind { QN_ONNX_PIECE_COPY, QN_ONNX_PIECE_BYTES, QN_ONNX_PIECE_CONTENT } qn_onnx_piece_kind;

typedef struct qn_onnx_piece {
    struct qn_onnx_piece *next;
    const uint8_t *bytes;             /* BYTES: in the arena               */
    const qn_onnx_content *content;   /* CONTENT: all of it                */
    uint64_t at, n;                   /* COPY: place in the model's file   */
    uint8_t kind;
} qn_onnx_piece;

typedef struct qn_onnx_rope {
    qn_arena *arena;
    qn_onnx_piece *first, *last;
    uint64_t n; /* bytes in all */
    bool changed;
} qn_onnx_rope;

qn_code qn_onnx_rope_copy(qn_onnx_rope *r, uint64_t at, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* These set `changed`. Bytes are copied. */
qn_code qn_onnx_rope_bytes(qn_onnx_rope *r, const void *p, uint64_t n, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_rope_content(qn_onnx_rope *r, uint32_t field, const qn_onnx_content *c, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_rope_varint(qn_onnx_rope *r, uint32_t field, uint64_t v, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_rope_float(qn_onnx_rope *r, uint32_t field, float v, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_rope_text(qn_onnx_rope *r, uint32_t field, const char *s, qn_err *err) QN_MUST_CHECK;
/* The field holds the message `sub`, which is used up. */
qn_code qn_onnx_rope_message(qn_onnx_rope *r, uint32_t field, const qn_onnx_rope *sub, qn_err *err) QN_MUST_CHECK;

#endif
