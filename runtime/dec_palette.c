/* dec_palette.c: a table of up to 256 units and an index for each unit. docs/codecs/palette.md. */
#include "base/err.h"
#include "runtime/nest.h"
#include <string.h>

static void put_unit(uint8_t *dst, const uint64_t *value, unsigned unit)
{
    /* constant sizes become single stores */
    switch (unit) {
    case 1:
        *dst = (uint8_t)*value;
        break;
    case 2:
        qn_store16(dst, (uint16_t)*value);
        break;
    case 4:
        qn_store32(dst, (uint32_t)*value);
        break;
    default:
        qn_store64(dst, *value);
        break;
    }
}

qn_code qn_dec_palette(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                       qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    uint64_t table[256] = {0};
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    const unsigned count = qn_cur_u8(&c) + 1u;
    const unsigned bits = count <= 2 ? 1 : count <= 4 ? 2 : count <= 16 ? 4 : 8, per = 8 / bits;
    for (unsigned i = 0; i < count; i++)
        for (unsigned k = 0; k < unit; k++)
            table[i] |= (uint64_t)qn_cur_u8(&c) << 8 * k;
    if (c.failed)
        return QN_FAIL(err, QN_E_INPUT, c.at, "palette: table is cut off");
    const uint32_t packed = (b->n + per - 1) / per;
    const qn_block ib = {QN_U8, packed, bits == 8 ? b->cols : packed};
    const uint8_t *index = qn_nest_get(cx, &c, &ib, "palette", &rc, err);
    if (!index)
        return rc;
    QN_TRY(qn_nest_end(&c, "palette", err));
    unsigned highest = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const unsigned v = index[i / per] >> i % per * bits & ((1u << bits) - 1);
        highest |= v >= count;
        put_unit(dst + (size_t)i * unit, &table[v], unit); /* always inside the table: it has 256 entries */
    }
    if (highest)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "palette: index beyond %u entries", count);
    if (b->n % per && index[packed - 1] >> b->n % per * bits)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "palette: padding is not zero");
    return QN_OK;
}
