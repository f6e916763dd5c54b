/* dec_rowdup.c: unique rows, and which of them each row is. docs/codecs/rowdup.md. */
#include "base/err.h"
#include "runtime/nest.h"
#include "runtime/rowdup.h"
#include <string.h>

/* The nested rows count as one level deeper, as everywhere; the map is of the block. */
qn_code qn_rowdup_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_rowdup_parts *out, qn_err *err)
{
    const uint32_t n_rows = b->n / b->cols, tail = b->n % b->cols;
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    const uint64_t n_unique = qn_cur_varint(&c);
    if (c.failed || n_unique == 0 || n_unique >= n_rows)
        return QN_FAIL(err, QN_E_INPUT, 0, "rowdup: %llu unique rows of %u", (unsigned long long)n_unique, n_rows);
    const bool wide = n_unique > 65536;
    const qn_block mb = {wide ? QN_U32 : QN_U16, n_rows, n_rows};
    *out = (qn_rowdup_parts){.n_rows = n_rows, .n_unique = (uint32_t)n_unique,
                             .rows = {b->dtype, (uint32_t)n_unique * b->cols + tail, b->cols}};
    const uint8_t *steps = qn_nest_get(cx, &c, &mb, "rowdup: map", &rc, err);
    if (!steps)
        return rc;
    out->codec = qn_cur_u8(&c);
    const uint64_t n = qn_cur_varint(&c);
    if (c.failed || n > qn_cur_left(&c))
        return QN_FAIL(err, QN_E_INPUT, c.at, "rowdup: rows: nested payload is cut off");
    out->payload = qn_cur_take(&c, (size_t)n);
    out->n_bytes = (size_t)n;
    QN_TRY(qn_nest_end(&c, "rowdup", err));
    uint32_t *map = qn_arena_get(cx->scratch, n_rows * sizeof *map, 64, err);
    if (!map)
        return QN_E_MEMORY;
    uint32_t at = UINT32_MAX; /* row −1: the first step of 0 leads to row 0 */
    for (uint32_t r = 0; r < n_rows; r++) {
        at += 1 + (wide ? qn_load32(steps + 4 * (size_t)r) : qn_load16(steps + 2 * (size_t)r));
        if (!wide)
            at &= 0xffff;
        if (at >= n_unique)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rowdup: row %u is unique row %u of %llu", r, at,
                           (unsigned long long)n_unique);
        map[r] = at;
    }
    out->map = map;
    return QN_OK;
}

qn_code qn_dec_rowdup(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                      qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const size_t row_bytes = (size_t)b->cols * unit;
    qn_rowdup_parts p;
    QN_TRY(qn_rowdup_open(cx, b, payload, n_bytes, &p, err));
    uint8_t *rows = qn_arena_get(cx->scratch, (uint64_t)p.rows.n * unit, 64, err);
    qn_dec_ctx inner = *cx;
    inner.base = NULL;
    inner.depth++;
    if (!rows)
        return QN_E_MEMORY;
    QN_TRY(qn_codec_decode(&inner, p.codec, &p.rows, p.payload, p.n_bytes, rows, err));
    for (uint32_t r = 0; r < p.n_rows; r++)
        memcpy(dst + r * row_bytes, rows + p.map[r] * row_bytes, row_bytes);
    memcpy(dst + p.n_rows * row_bytes, rows + p.n_unique * row_bytes, b->n % b->cols * (size_t)unit);
    return QN_OK;
}
