/* dec_turn.c: a matrix that was coded with rows other than those of the block. docs/codecs/turn.md. */
#include "base/err.h"
#include "runtime/nest.h"
#include "runtime/turn.h"
#include <string.h>

/* Tiles of 32 × 32 units stay in the cache on both sides. */
#define TURN(NAME, X)                                                                       \
    static void NAME(const uint8_t *src, uint32_t rows, uint32_t cols, uint8_t *dst)        \
    {                                                                                       \
        enum { T = 32 };                                                                    \
        for (uint32_t r0 = 0; r0 < rows; r0 += T)                                           \
            for (uint32_t c0 = 0; c0 < cols; c0 += T)                                       \
                for (uint32_t c = c0; c < cols && c < c0 + T; c++)                          \
                    for (uint32_t r = r0; r < rows && r < r0 + T; r++)                      \
                        memcpy(dst + ((size_t)c * rows + r) * sizeof(X),                    \
                               src + ((size_t)r * cols + c) * sizeof(X), sizeof(X));        \
    }
TURN(turn1, uint8_t)
TURN(turn2, uint16_t)
TURN(turn4, uint32_t)
TURN(turn8, uint64_t)

void qn_turn(unsigned unit, const uint8_t *src, uint32_t rows, uint32_t cols, uint8_t *dst)
{
    switch (unit) {
    case 1: turn1(src, rows, cols, dst); break;
    case 2: turn2(src, rows, cols, dst); break;
    case 4: turn4(src, rows, cols, dst); break;
    default: turn8(src, rows, cols, dst); break;
    }
}

/* The payload within counts as the outermost one: codecs in it may hold as deep payloads as they do elsewhere. */
static qn_code decode_inner(const qn_dec_ctx *cx, qn_cur *c, const qn_block *b, uint8_t *dst, qn_err *err)
{
    const unsigned codec = qn_cur_u8(c);
    const uint64_t n = qn_cur_varint(c);
    if (c->failed || n > qn_cur_left(c))
        return QN_FAIL(err, QN_E_INPUT, c->at, "turn: nested payload is cut off");
    if (codec == QN_CODEC_TURN)
        return QN_FAIL(err, QN_E_INPUT, c->at, "turn: within itself");
    const uint8_t *payload = qn_cur_take(c, (size_t)n);
    qn_dec_ctx inner = *cx;
    inner.base = NULL; /* of the block as it lies */
    QN_TRY(qn_codec_decode(&inner, codec, b, payload, (size_t)n, dst, err));
    return qn_nest_end(c, "turn", err);
}

qn_code qn_dec_turn(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    const unsigned way = qn_cur_u8(&c);
    const uint64_t cols = qn_cur_varint(&c);
    if (cx->depth > 0)
        return QN_FAIL(err, QN_E_INPUT, 0, "turn: within another payload");
    if (c.failed || way > QN_TURN_TURNED)
        return QN_FAIL(err, QN_E_INPUT, 0, "turn: way %u of lying, or cut off", way);
    if (cols == 0 || cols > b->n || b->n % cols != 0)
        return QN_FAIL(err, QN_E_INPUT, 1, "turn: rows of %llu units in a block of %u", (unsigned long long)cols, b->n);
    const qn_block inner = {b->dtype, b->n, (uint32_t)cols};
    if (way == QN_TURN_AS_IS)
        return decode_inner(cx, &c, &inner, dst, err);
    uint8_t *m = qn_arena_get(cx->scratch, (uint64_t)b->n * qn_unit_bytes(b->dtype), 64, err);
    if (!m)
        return QN_E_MEMORY;
    QN_TRY(decode_inner(cx, &c, &inner, m, err));
    qn_turn(qn_unit_bytes(b->dtype), m, b->n / (uint32_t)cols, (uint32_t)cols, dst);
    return QN_OK;
}
