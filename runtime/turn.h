/* turn.h: what decoder and encoder of TURN share (docs/codecs/turn.md). */
#ifndef QN_RUNTIME_TURN_H
#define QN_RUNTIME_TURN_H

#include "runtime/codec.h"

enum { QN_TURN_AS_IS = 0 /* the units in their order, in rows of another length */, QN_TURN_TURNED = 1 /* the transpose */ };

/* dst[c · rows + r] = src[r · cols + c], units of 1, 2, 4 or 8 bytes. They must not overlap. */
void qn_turn(unsigned unit, const uint8_t *src, uint32_t rows, uint32_t cols, uint8_t *dst);

/* A payload, checked as far as its own parts go. The one within counts as the outermost: codecs in it may hold as deep payloads as they do elsewhere. */
typedef struct qn_turn_parts {
    bool turned;
    qn_block matrix;  /* as the payload within has it: rows are out features                    */
    unsigned codec;   /* of that payload, n_bytes long, which was not looked at */
    const uint8_t *payload;
    size_t n_bytes;
} qn_turn_parts;
qn_code qn_turn_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_turn_parts *out,
                     qn_err *err) QN_MUST_CHECK;

#endif
