/* dec_vq.c: vectors down the columns as centroids of small books. docs/codecs/vq.md. */
#include "base/err.h"
#include "runtime/vq_parts.h"

qn_code qn_dec_vq(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    const size_t row_bytes = (size_t)b->cols * qn_unit_bytes(b->dtype);
    qn_vq_parts p;
    QN_TRY(qn_vq_open(cx, b, payload, n_bytes, cx->scratch, &p, err));
    for (uint32_t i = 0; i < p.n_strips; i++) {
        const uint32_t row = i * p.strip.v, m = p.rows - row < p.strip.v ? p.rows - row : p.strip.v;
        p.strip.bytes = p.indices + i * p.strip.n_bytes;
        p.strip.row = p.row[i];
        cx->kern->vq.rows(&p.strip, b->dtype, m, dst + row * row_bytes, row_bytes);
    }
    return QN_OK;
}
