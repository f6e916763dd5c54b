/* wire.h: the protobuf wire format, read in place: fields come one by one as positions in the file, payloads are not
 * touched. Nothing is stored, so a message is walked as often as one likes; unknown fields cost only their header.
 *
 * Refused: groups (wire types 3 and 4), field number 0 and those past 2^29 − 1, varints past 10 bytes or 64 bits, payloads that
 * reach past the end of the message they stand in, messages nested deeper than 64. */
#ifndef QN_FORMATS_WIRE_WIRE_H
#define QN_FORMATS_WIRE_WIRE_H

#include "quern/base.h"

enum { QN_WIRE_DEPTH_MAX = 64, QN_WIRE_WINDOW_MIN = 64 };

typedef enum qn_wire_type { QN_WIRE_VARINT = 0, QN_WIRE_FIXED64 = 1, QN_WIRE_BYTES = 2, QN_WIRE_FIXED32 = 5 } qn_wire_type;

/* Exactly n bytes at off. */
typedef qn_code (*qn_wire_read_fn)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);

typedef struct qn_wire {
    qn_wire_read_fn read;
    void *ctx;
    uint64_t n_bytes;  /* of the file */
    uint8_t *window;   /* the caller's: what was read last */
    uint64_t window_bytes, from, n_held;
} qn_wire;

/* A message, or what is left of it. Copied freely: going back is using an older copy. */
typedef struct qn_wire_msg {
    uint64_t at, end;
    unsigned depth;
} qn_wire_msg;

typedef struct qn_wire_field {
    uint64_t off;   /* where its tag stands                                         */
    uint64_t at, n; /* its payload; of a varint, the bytes that it takes            */
    uint64_t value; /* of a varint, a fixed64 (its 64 bits) or a fixed32 (its 32 bits) */
    uint32_t number;
    uint8_t type;   /* qn_wire_type */
} qn_wire_field;

/* window: at least QN_WIRE_WINDOW_MIN bytes. */
void qn_wire_init(qn_wire *w, qn_wire_read_fn read, void *ctx, uint64_t n_bytes, uint8_t *window, uint64_t window_bytes);
/* The whole file as a message. */
qn_wire_msg qn_wire_whole(const qn_wire *w);
/* The next field; *more = false at the end of the message. */
qn_code qn_wire_next(qn_wire *w, qn_wire_msg *m, qn_wire_field *f, bool *more, qn_err *err) QN_MUST_CHECK;
/* The message that a field of m holds. */
qn_code qn_wire_enter(const qn_wire_msg *m, const qn_wire_field *f, qn_wire_msg *sub, qn_err *err) QN_MUST_CHECK;
/* A varint at *at, which moves behind it; `end` is where it must end at the latest. */
qn_code qn_wire_varint(qn_wire *w, uint64_t *at, uint64_t end, uint64_t *v, qn_err *err) QN_MUST_CHECK;
/* n bytes at off that a field has been found to span; through the window when they are few. */
qn_code qn_wire_bytes(qn_wire *w, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;

#endif
