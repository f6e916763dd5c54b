/* dec_sparse.c: a bit for each unit, and the units that are not all zero bits. docs/codecs/sparse.md. */
#include "base/err.h"
#include "runtime/nest.h"
#include <string.h>

/* Returns how many bits are set among the n; bits beyond n count as far too many. */
static uint64_t count_ones(const uint8_t *mask, uint32_t n)
{
    uint64_t ones = 0;
    uint32_t i = 0;
    for (; i + 64 <= n; i += 64)
        ones += (unsigned)__builtin_popcountll(qn_load64(mask + i / 8));
    for (; i < n; i += 8)
        ones += (unsigned)__builtin_popcount(mask[i / 8]);
    return n % 8 && mask[n / 8] >> n % 8 ? UINT64_MAX : ones;
}

/* Without branches: the next value is read for every unit and kept for those whose bit is set, so one unit of room
 * behind the values is read too. */
__attribute__((always_inline)) static inline void spread(const uint8_t *mask, const uint8_t *values, uint32_t n,
                                                         unsigned unit, uint8_t *dst)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t on = mask[i / 8] >> i % 8 & 1;
        uint64_t v = 0;
        memcpy(&v, values, unit);
        v &= 0 - on;
        memcpy(dst + (size_t)i * unit, &v, unit);
        values += on * unit;
    }
}

qn_code qn_dec_sparse(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                      qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    const uint64_t k = qn_cur_varint(&c);
    if (c.failed || k == 0 || k >= b->n)
        return QN_FAIL(err, QN_E_INPUT, 0, "sparse: %llu units of %u are not zero", (unsigned long long)k, b->n);
    const uint32_t cols = (uint32_t)qn_max_u64(1, b->cols * k / b->n), mask_bytes = (b->n + 7) / 8;
    const qn_block mb = {QN_U8, mask_bytes, mask_bytes}, vb = {b->dtype, (uint32_t)k, cols};
    const uint8_t *mask = qn_nest_get(cx, &c, &mb, "sparse: mask", &rc, err);
    if (!mask)
        return rc;
    uint8_t *values = qn_arena_get(cx->scratch, (k + 1) * unit, 64, err);
    if (!values)
        return QN_E_MEMORY;
    memset(values + k * unit, 0, unit);
    QN_TRY(qn_nest_decode(cx, &c, &vb, values, "sparse: values", err));
    QN_TRY(qn_nest_end(&c, "sparse", err));
    if (count_ones(mask, b->n) != k)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "sparse: the mask does not hold %llu ones", (unsigned long long)k);
    switch (unit) { /* constant sizes: a copy becomes a move */
    case 1:
        spread(mask, values, b->n, 1, dst);
        break;
    case 2:
        spread(mask, values, b->n, 2, dst);
        break;
    case 4:
        spread(mask, values, b->n, 4, dst);
        break;
    default:
        spread(mask, values, b->n, 8, dst);
        break;
    }
    return QN_OK;
}
