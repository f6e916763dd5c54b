/* nest.c: see nest.h. */
#include "compress/nest.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

void qn_sink_put(qn_sink *s, const void *p, size_t n_bytes)
{
    if (s->full || n_bytes > s->cap - s->n) {
        s->full = true;
        return;
    }
    memcpy(s->p + s->n, p, n_bytes);
    s->n += n_bytes;
}

void qn_sink_u8(qn_sink *s, unsigned v)
{
    const uint8_t b = (uint8_t)v;
    qn_sink_put(s, &b, 1);
}

void qn_sink_varint(qn_sink *s, uint64_t v)
{
    uint8_t b[10];
    qn_sink_put(s, b, qn_put_varint(b, v));
}

void qn_sink_positions(qn_sink *s, const uint32_t *at, uint32_t n)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < n && !s->full; i++) {
        qn_sink_varint(s, at[i] - next);
        next = at[i] + 1;
    }
}

bool qn_nest_allowed(const qn_enc_ctx *cx)
{
    return cx->depth + 1 < QN_CODEC_DEPTH;
}

qn_code qn_nest_encode(const qn_enc_ctx *cx, qn_sink *s, const qn_block *b, const uint8_t *src, bool look, qn_err *err)
{
    const size_t total = (size_t)b->n * qn_unit_bytes(b->dtype);
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    qn_enc_ctx inner = *cx;
    inner.base = NULL;
    inner.depth++;
    /* One see-through inside another finds real structure (bf16 in f32 with zeros); a third does not. */
    inner.no_lookthrough = cx->no_lookthrough || !look || inner.depth >= 2;
    uint8_t *room = qn_arena_get(cx->scratch, total, 64, err);
    if (!room)
        return QN_E_MEMORY;
    unsigned codec;
    size_t n;
    QN_TRY(qn_encode_best(&inner, b, src, room, total, &codec, &n, err));
    qn_sink_u8(s, codec);
    qn_sink_varint(s, n);
    qn_sink_put(s, room, n);
    qn_arena_rewind(cx->scratch, mark);
    return QN_OK;
}
