/* nest.c: see nest.h. */
#include "runtime/nest.h"
#include "base/err.h"

qn_code qn_nest_decode(const qn_dec_ctx *cx, qn_cur *c, const qn_block *b, uint8_t *dst, const char *what, qn_err *err)
{
    const unsigned codec = qn_cur_u8(c);
    const uint64_t n = qn_cur_varint(c);
    if (c->failed || n > qn_cur_left(c))
        return QN_FAIL(err, QN_E_INPUT, c->at, "%s: nested payload is cut off", what);
    const uint8_t *payload = qn_cur_take(c, (size_t)n);
    qn_dec_ctx inner = *cx;
    inner.base = NULL; /* belongs to the geometry of the outermost block */
    inner.depth++;
    return qn_codec_decode(&inner, codec, b, payload, (size_t)n, dst, err);
}

uint8_t *qn_nest_get(const qn_dec_ctx *cx, qn_cur *c, const qn_block *b, const char *what, qn_code *rc, qn_err *err)
{
    uint8_t *dst = qn_arena_get(cx->scratch, (uint64_t)b->n * qn_unit_bytes(b->dtype), 64, err);
    *rc = dst ? qn_nest_decode(cx, c, b, dst, what, err) : QN_E_MEMORY;
    return *rc == QN_OK ? dst : NULL;
}

qn_code qn_nest_end(const qn_cur *c, const char *what, qn_err *err)
{
    if (c->failed)
        return QN_FAIL(err, QN_E_INPUT, c->at, "%s: payload is cut off", what);
    if (qn_cur_left(c) != 0)
        return QN_FAIL(err, QN_E_INPUT, c->at, "%s: %zu bytes too many", what, qn_cur_left(c));
    return QN_OK;
}

uint32_t *qn_nest_positions(const qn_dec_ctx *cx, qn_cur *c, uint64_t n, uint32_t limit, const char *what, qn_code *rc,
                            qn_err *err)
{
    *rc = QN_OK;
    /* each takes a byte at least: a count that the payload cannot hold asks for no memory */
    if (n > limit || n > qn_cur_left(c)) {
        *rc = QN_FAIL(err, QN_E_INPUT, c->at, "%s: %llu positions among %u", what, (unsigned long long)n, limit);
        return NULL;
    }
    uint32_t *at = qn_arena_get(cx->scratch, n * sizeof *at, 64, err);
    if (!at) {
        *rc = QN_E_MEMORY;
        return NULL;
    }
    uint64_t next = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t gap = qn_cur_varint(c);
        if (c->failed || gap >= limit || next + gap >= limit) {
            *rc = QN_FAIL(err, QN_E_INPUT, c->at, "%s: position %llu is outside", what, (unsigned long long)i);
            return NULL;
        }
        at[i] = (uint32_t)(next + gap);
        next += gap + 1;
    }
    return at;
}
