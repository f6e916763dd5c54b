/* enc_order0.c: ORDER0; the mirror of runtime/dec_order0.c. */
#include "compress/rans_pack.h"

qn_code qn_enc_order0(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                      qn_err *err)
{
    *n_out = 0;
    if (qn_unit_bytes(b->dtype) != 1)
        return QN_OK;
    return qn_rans_pack(cx, src, b->n, dst, cap, n_out, err);
}
