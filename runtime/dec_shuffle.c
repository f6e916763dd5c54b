/* dec_shuffle.c: byte planes of wide units, lowest byte first, each a nested payload of n U8, or all in one.
 * docs/codecs/shuffle.md. */
#include "base/err.h"
#include "runtime/nest.h"

static void interleave(const uint8_t *const plane[8], unsigned unit, uint32_t n, uint8_t *restrict dst)
{
    /* two and four planes are the common widths: loops that compilers turn into unpack instructions */
    if (unit == 2) {
        const uint8_t *restrict a = plane[0], *restrict b = plane[1];
        for (uint32_t i = 0; i < n; i++) {
            dst[2 * (size_t)i] = a[i];
            dst[2 * (size_t)i + 1] = b[i];
        }
    } else if (unit == 4) {
        const uint8_t *restrict a = plane[0], *restrict b = plane[1], *restrict c = plane[2], *restrict d = plane[3];
        for (uint32_t i = 0; i < n; i++)
            qn_store32(dst + 4 * (size_t)i,
                       (uint32_t)a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24);
    } else {
        for (unsigned k = 0; k < unit; k++)
            for (uint32_t i = 0; i < n; i++)
                dst[(size_t)i * unit + k] = plane[k][i];
    }
}

/* One payload for all planes, end to end: for small blocks, where four headers weigh too much. */
static qn_code joint(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                     qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const qn_block all = {QN_U8, b->n * unit, b->n};
    const uint8_t *plane[8];
    qn_dec_ctx inner = *cx;
    inner.base = NULL;
    inner.depth++;
    uint8_t *room = qn_arena_get(cx->scratch, (uint64_t)b->n * unit, 64, err);
    if (!room)
        return QN_E_MEMORY;
    QN_TRY(qn_codec_decode(&inner, payload[0] & ~QN_SHUFFLE_JOINT, &all, payload + 1, n_bytes - 1, room, err));
    for (unsigned k = 0; k < unit; k++)
        plane[k] = room + (size_t)k * b->n;
    interleave(plane, unit, b->n, dst);
    return QN_OK;
}

qn_code qn_dec_shuffle(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                       qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const qn_block pb = {QN_U8, b->n, b->cols};
    const uint8_t *plane[8];
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    if (unit < 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "shuffle: units of one byte");
    if (n_bytes && payload[0] & QN_SHUFFLE_JOINT)
        return joint(cx, b, payload, n_bytes, dst, err);
    for (unsigned k = 0; k < unit; k++) {
        plane[k] = qn_nest_get(cx, &c, &pb, "shuffle", &rc, err);
        if (!plane[k])
            return rc;
    }
    QN_TRY(qn_nest_end(&c, "shuffle", err));
    interleave(plane, unit, b->n, dst);
    return QN_OK;
}
