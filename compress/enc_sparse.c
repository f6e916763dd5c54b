/* enc_sparse.c: many units of zero bits (−0 is not one of them): a mask and the others. A zero costs a float codec its
 * raw mantissa bits as any value does, so this pays from a few percent of zeros on. */
#include "base/err.h"
#include "base/num.h"
#include "compress/nest.h"
#include "compress/sample.h"
#include <string.h>

enum { FAST_MIN = 64, MIN = 24 }; /* zeros in 1/1024 */

__attribute__((always_inline)) static inline uint32_t gather(const uint8_t *src, uint32_t n, unsigned unit,
                                                             uint8_t *mask, uint8_t *values)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t v = 0;
        memcpy(&v, src + (size_t)i * unit, unit);
        memcpy(values + (size_t)k * unit, &v, unit);
        mask[i / 8] |= (uint8_t)((v != 0) << i % 8);
        k += v != 0;
    }
    return k;
}

qn_code qn_enc_sparse(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                      size_t *n_out, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype), least = cx->level == QN_LEVEL_FAST ? FAST_MIN : MIN;
    const uint32_t mask_bytes = (b->n + 7) / 8;
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    *n_out = 0;
    /* For one-byte units an order-0 coder does as well. */
    if (!qn_nest_allowed(cx) || unit == 1 || b->n < 16 || qn_sample_zeros(src, b->n, unit) < least)
        return QN_OK;
    uint8_t *mask = qn_arena_get(cx->scratch, mask_bytes, 64, err);
    uint8_t *values = qn_arena_get(cx->scratch, (size_t)b->n * unit + 8, 64, err);
    if (!mask || !values)
        return QN_E_MEMORY;
    memset(mask, 0, mask_bytes);
    const uint32_t k = unit == 2   ? gather(src, b->n, 2, mask, values)
                       : unit == 4 ? gather(src, b->n, 4, mask, values)
                                   : gather(src, b->n, 8, mask, values);
    if (k > 0 && k < b->n) {
        qn_sink s = qn_sink_over(dst, cap);
        const uint32_t cols = (uint32_t)qn_max_u64(1, (uint64_t)b->cols * k / b->n);
        const qn_block mb = {QN_U8, mask_bytes, mask_bytes}, vb = {b->dtype, k, cols};
        qn_sink_varint(&s, k);
        QN_TRY(qn_nest_encode(cx, &s, &mb, mask, false, err));
        QN_TRY(qn_nest_encode(cx, &s, &vb, values, true, err));
        *n_out = s.full ? 0 : s.n;
    }
    qn_arena_rewind(cx->scratch, mark);
    return QN_OK;
}
