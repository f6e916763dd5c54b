/* dec_rowdup.c: unique rows, and which of them each row is. docs/codecs/rowdup.md. */
#include "base/err.h"
#include "runtime/nest.h"
#include <string.h>

qn_code qn_dec_rowdup(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                      qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const uint32_t n_rows = b->n / b->cols, tail = b->n % b->cols;
    const size_t row_bytes = (size_t)b->cols * unit;
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    const uint64_t n_unique = qn_cur_varint(&c);
    if (c.failed || n_unique == 0 || n_unique >= n_rows)
        return QN_FAIL(err, QN_E_INPUT, 0, "rowdup: %llu unique rows of %u", (unsigned long long)n_unique, n_rows);
    const bool wide = n_unique > 65536;
    const qn_block mb = {wide ? QN_U32 : QN_U16, n_rows, n_rows};
    const qn_block ub = {b->dtype, (uint32_t)n_unique * b->cols + tail, b->cols};
    const uint8_t *map = qn_nest_get(cx, &c, &mb, "rowdup: map", &rc, err);
    if (!map)
        return rc;
    const uint8_t *rows = qn_nest_get(cx, &c, &ub, "rowdup: rows", &rc, err);
    if (!rows)
        return rc;
    QN_TRY(qn_nest_end(&c, "rowdup", err));
    uint32_t at = UINT32_MAX; /* row −1: the first step of 0 leads to row 0 */
    for (uint32_t r = 0; r < n_rows; r++) {
        at += 1 + (wide ? qn_load32(map + 4 * (size_t)r) : qn_load16(map + 2 * (size_t)r));
        if (!wide)
            at &= 0xffff;
        if (at >= n_unique)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rowdup: row %u is unique row %u of %llu", r, at,
                           (unsigned long long)n_unique);
        memcpy(dst + r * row_bytes, rows + at * row_bytes, row_bytes);
    }
    memcpy(dst + n_rows * row_bytes, rows + n_unique * row_bytes, (size_t)tail * unit);
    return QN_OK;
}
