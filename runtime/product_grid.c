/* product_grid.c: products of packed grid codes. docs/codecs/grid.md. */
#include "runtime/product.h"

qn_code qn_product_grid(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_arena *keep,
                        qn_product *p, bool *taken, qn_err *err)
{
    (void)cx, (void)b, (void)payload, (void)n_bytes, (void)keep, (void)p, (void)err;
    *taken = false;
    return QN_OK;
}
