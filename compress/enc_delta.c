/* enc_delta.c: difference to a base checkpoint: XOR, or the wrapping difference (zigzag), whichever a sample says is
 * smaller plane by plane. Floats are compared as the integers they are stored as: near values are near integers. */
#include "base/err.h"
#include "base/num.h"
#include "compress/nest.h"
#include "compress/sample.h"
#include <string.h>

enum { OP_XOR = 0, OP_SUB = 1 };

static uint64_t load(const uint8_t *p, unsigned unit)
{
    return unit == 1 ? *p : unit == 2 ? qn_load16(p) : unit == 4 ? qn_load32(p) : qn_load64(p);
}

static void store(uint8_t *p, unsigned unit, uint64_t v)
{
    if (unit == 1)
        *p = (uint8_t)v;
    else if (unit == 2)
        qn_store16(p, (uint16_t)v);
    else if (unit == 4)
        qn_store32(p, (uint32_t)v);
    else
        qn_store64(p, v);
}

static inline void differ(unsigned op, unsigned unit, const uint8_t *src, const uint8_t *base, uint32_t n, uint8_t *out)
{
    const unsigned up = 64 - 8 * unit;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t a = load(src + (size_t)i * unit, unit), x = load(base + (size_t)i * unit, unit);
        const uint64_t d = (a - x) << up; /* the sign of the narrow difference at the top */
        store(out + (size_t)i * unit, unit, op == OP_XOR ? a ^ x : d >> up << 1 ^ (0 - (d >> 63)));
    }
}

static void differ_any(unsigned op, unsigned unit, const uint8_t *src, const uint8_t *base, uint32_t n, uint8_t *out)
{
    switch (unit) {
    case 1:
        differ(op, 1, src, base, n, out);
        break;
    case 2:
        differ(op, 2, src, base, n, out);
        break;
    case 4:
        differ(op, 4, src, base, n, out);
        break;
    default:
        differ(op, 8, src, base, n, out);
        break;
    }
}

/* Total plane entropy of the sampled difference, as bytes for the block. */
static size_t guess(unsigned op, unsigned unit, const qn_block *b, const uint8_t *src, const uint8_t *base)
{
    enum { RUN = 64, RUNS = 16 };
    uint8_t diff[RUN * RUNS * 8];
    const uint32_t run = b->n < RUN ? b->n : RUN, n_runs = b->n / run < RUNS ? b->n / run : RUNS;
    for (uint32_t r = 0; r < n_runs; r++) {
        const size_t at = (size_t)qn_sample_at(b->n, run, n_runs, r) * unit;
        differ_any(op, unit, src + at, base + at, run, diff + (size_t)r * run * unit);
    }
    return (size_t)((uint64_t)qn_sample_planes(diff, run * n_runs, unit) * b->n / (run * n_runs));
}

qn_code qn_enc_delta(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                     size_t *n_out, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const qn_block db = {unit == 1 ? QN_U8 : unit == 2 ? QN_U16 : unit == 4 ? QN_U32 : QN_U64, b->n, b->cols};
    const size_t total = (size_t)b->n * unit;
    *n_out = 0;
    if (!cx->base || !qn_nest_allowed(cx))
        return QN_OK;
    const size_t by_xor = guess(OP_XOR, unit, b, src, cx->base), by_sub = guess(OP_SUB, unit, b, src, cx->base);
    const unsigned op = by_sub < by_xor ? OP_SUB : OP_XOR;
    if (total > 4096 && (by_sub < by_xor ? by_sub : by_xor) > total - total / 16)
        return QN_OK;
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    uint8_t *diff = qn_arena_get(cx->scratch, total, 64, err);
    if (!diff)
        return QN_E_MEMORY;
    differ_any(op, unit, src, cx->base, b->n, diff);
    qn_sink s = qn_sink_over(dst, cap);
    qn_sink_u8(&s, op);
    QN_TRY(qn_nest_encode(cx, &s, &db, diff, true, err));
    *n_out = s.full ? 0 : s.n;
    qn_arena_rewind(cx->scratch, mark);
    return QN_OK;
}
