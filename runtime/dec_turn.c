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

qn_code qn_turn_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_turn_parts *out, qn_err *err)
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
    *out = (qn_turn_parts){.turned = way == QN_TURN_TURNED, .matrix = {b->dtype, b->n, (uint32_t)cols}, .codec = qn_cur_u8(&c)};
    const uint64_t n = qn_cur_varint(&c);
    if (c.failed || n > qn_cur_left(&c))
        return QN_FAIL(err, QN_E_INPUT, c.at, "turn: nested payload is cut off");
    if (out->codec == QN_CODEC_TURN)
        return QN_FAIL(err, QN_E_INPUT, c.at, "turn: within itself");
    out->payload = qn_cur_take(&c, (size_t)n);
    out->n_bytes = (size_t)n;
    return qn_nest_end(&c, "turn", err);
}

qn_code qn_dec_turn(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    qn_turn_parts p;
    QN_TRY(qn_turn_open(cx, b, payload, n_bytes, &p, err));
    qn_dec_ctx inner = *cx;
    inner.base = NULL; /* of the block as it lies */
    uint8_t *m = p.turned ? qn_arena_get(cx->scratch, (uint64_t)b->n * qn_unit_bytes(b->dtype), 64, err) : dst;
    if (!m)
        return QN_E_MEMORY;
    QN_TRY(qn_codec_decode(&inner, p.codec, &p.matrix, p.payload, p.n_bytes, m, err));
    if (p.turned)
        qn_turn(qn_unit_bytes(b->dtype), m, b->n / p.matrix.cols, p.matrix.cols, dst);
    return QN_OK;
}
