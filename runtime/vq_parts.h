/* vq_parts.h: the parts of a vq payload, parsed and checked once: for the decoder, and whoever works on the indices. docs/codecs/vq.md. */
#ifndef QN_RUNTIME_VQ_PARTS_H
#define QN_RUNTIME_VQ_PARTS_H

#include "runtime/codec.h"
#include "runtime/vq.h"

typedef struct qn_vq_parts {
    uint32_t rows, n_strips;
    unsigned n_classes, main_bits, residual_bits; /* bits: of the first class; its books begin at strip.book + v, main and then residual */
    float base;
    qn_vq_strip strip;      /* all but what is of one strip: bytes and row; n_bytes is set */
    const float *row;       /* (n_strips): base × scale of the strip           */
    const uint8_t *indices; /* (n_strips, strip.n_bytes), in the payload       */
} qn_vq_parts;

/* Everything is checked: what follows cannot fail. Arrays come from `keep`; cx->scratch is for what they are read from (the two may be
 * one). QN_E_INPUT for a malformed payload. */
qn_code qn_vq_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_arena *keep, qn_vq_parts *out,
                   qn_err *err) QN_MUST_CHECK;

#endif
