/* dec_order0.c: ORDER0, whole bytes in 12-bit rANS. Format: docs/codecs/order0.md. */
#include "base/err.h"
#include "runtime/rans_tab.h"

qn_code qn_dec_order0(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                      qn_err *err)
{
    if (qn_unit_bytes(b->dtype) != 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "order0: units of %u bytes, only single bytes are coded",
                       qn_unit_bytes(b->dtype));
    return qn_rans_unpack(cx->kern, payload, n_bytes, dst, b->n, err);
}
