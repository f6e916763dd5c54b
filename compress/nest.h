/* nest.h: writing payloads that hold payloads; the twin of runtime/nest.h. */
#ifndef QN_COMPRESS_NEST_H
#define QN_COMPRESS_NEST_H

#include "compress/encode.h"

/* Where an encoder writes: bounded, and sticky once full, so that a record is put first and tested once. */
typedef struct qn_sink {
    uint8_t *p;
    size_t cap, n;
    bool full;
} qn_sink;

static inline qn_sink qn_sink_over(uint8_t *p, size_t cap)
{
    return (qn_sink){.p = p, .cap = cap};
}

static inline size_t qn_sink_left(const qn_sink *s)
{
    return s->full ? 0 : s->cap - s->n;
}

void qn_sink_put(qn_sink *s, const void *p, size_t n_bytes);
void qn_sink_u8(qn_sink *s, unsigned v);
void qn_sink_varint(qn_sink *s, uint64_t v);
/* Ascending positions, as qn_nest_positions reads them. */
void qn_sink_positions(qn_sink *s, const uint32_t *at, uint32_t n);

/* May this context hold a nested payload at all? */
bool qn_nest_allowed(const qn_enc_ctx *cx);

/* Appends codec id, length and the best payload for the block. `look`: see-through codecs may be tried on it (they are
 * not, two levels down). Leaves nothing in scratch. */
qn_code qn_nest_encode(const qn_enc_ctx *cx, qn_sink *s, const qn_block *b, const uint8_t *src, bool look,
                       qn_err *err) QN_MUST_CHECK;

#endif
