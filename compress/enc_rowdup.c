/* enc_rowdup.c: repeated rows, each kept once. */
#include "base/err.h"
#include "compress/rows.h"
#include <string.h>

qn_code qn_enc_rowdup(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                      size_t *n_out, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const uint32_t n_rows = b->n / b->cols, tail = b->n % b->cols;
    const size_t row_bytes = (size_t)b->cols * unit;
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    qn_rows m;
    *n_out = 0;
    if (!qn_nest_allowed(cx))
        return QN_OK;
    QN_TRY(qn_rows_match(&m, src, n_rows, row_bytes, cx->scratch, err));
    if (m.n_unique < n_rows) {
        const qn_block ub = {b->dtype, m.n_unique * b->cols + tail, b->cols};
        uint8_t *rows = qn_arena_get(cx->scratch, (size_t)ub.n * unit, 64, err);
        if (!rows)
            return QN_E_MEMORY;
        for (uint32_t u = 0; u < m.n_unique; u++)
            memcpy(rows + u * row_bytes, src + m.first[u] * row_bytes, row_bytes);
        memcpy(rows + m.n_unique * row_bytes, src + n_rows * row_bytes, (size_t)tail * unit);
        qn_sink s = qn_sink_over(dst, cap);
        QN_TRY(qn_rows_put_map(cx, &s, &m, err));
        QN_TRY(qn_nest_encode(cx, &s, &ub, rows, true, err));
        *n_out = s.full ? 0 : s.n;
    }
    qn_arena_rewind(cx->scratch, mark);
    return QN_OK;
}
