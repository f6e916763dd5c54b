/* dec_delta.c: difference to the same block of a base checkpoint, unit by unit as unsigned integers.
 * docs/codecs/delta.md. */
#include "base/err.h"
#include "runtime/nest.h"

enum { OP_XOR = 0, OP_SUB = 1, OP_COUNT = 2 };

/* The difference is zigzag coded: 0, −1, 1, −2, … → 0, 1, 2, 3, … */
#define APPLY(bits, load, store)                                                                      \
    for (uint32_t i = 0; i < n; i++) {                                                                \
        const size_t at = (size_t)i * (bits / 8);                                                     \
        const uint##bits##_t z = load(diff + at), x = load(base + at);                                \
        const uint##bits##_t d = (uint##bits##_t)(z >> 1 ^ (uint##bits##_t)(0u - (z & 1u)));          \
        store(dst + at, (uint##bits##_t)(op == OP_XOR ? z ^ x : x + d));                              \
    }

static inline uint8_t load8(const uint8_t *p)
{
    return *p;
}

static inline void store8(uint8_t *p, uint8_t v)
{
    *p = v;
}

static void apply(unsigned op, unsigned unit, const uint8_t *restrict diff, const uint8_t *restrict base, uint32_t n,
                  uint8_t *restrict dst)
{
    switch (unit) {
    case 1:
        APPLY(8, load8, store8)
        break;
    case 2:
        APPLY(16, qn_load16, qn_store16)
        break;
    case 4:
        APPLY(32, qn_load32, qn_store32)
        break;
    default:
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t z = qn_load64(diff + 8 * (size_t)i), x = qn_load64(base + 8 * (size_t)i);
            qn_store64(dst + 8 * (size_t)i, op == OP_XOR ? z ^ x : x + (z >> 1 ^ (0 - (z & 1))));
        }
        break;
    }
}

qn_code qn_dec_delta(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                     qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const qn_block db = {unit == 1 ? QN_U8 : unit == 2 ? QN_U16 : unit == 4 ? QN_U32 : QN_U64, b->n, b->cols};
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_code rc;
    if (!cx->base)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "delta: the base checkpoint is needed and was not given");
    const unsigned op = qn_cur_u8(&c);
    if (c.failed || op >= OP_COUNT)
        return QN_FAIL(err, QN_E_INPUT, 0, "delta: unknown operation %u", op);
    const uint8_t *diff = qn_nest_get(cx, &c, &db, "delta", &rc, err);
    if (!diff)
        return rc;
    QN_TRY(qn_nest_end(&c, "delta", err));
    apply(op, unit, diff, cx->base, b->n, dst);
    return QN_OK;
}
