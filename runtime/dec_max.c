/* dec_max.c: the MAX codec, decoding: header, range decoder. The model is runtime/max_model.c, the order of decisions
 * runtime/max_walk.h.
 *
 * Range coder: G. N. N. Martin, "Range encoding" (1979), with carries resolved by the encoder. The decoder keeps
 * value − low, so it never sees a carry. The encoder ends on a value whose last three bytes are zero and does not store
 * them: bytes behind the payload read as zero, and a payload holds exactly one byte more than the decoder shifted in
 * by renormalising, which is how a missing or surplus byte is noticed. */
#include "base/err.h"
#include "runtime/max_walk.h"

typedef struct range_dec {
    uint32_t range, value;
    const uint8_t *p;
    size_t n_bytes, at; /* at counts bytes wanted: it may run past n_bytes */
} range_dec;

static inline uint32_t next_byte(range_dec *d)
{
    const size_t at = d->at++;
    return at < d->n_bytes ? d->p[at] : 0;
}

static inline void renorm(range_dec *d)
{
    while (d->range < UINT32_C(1) << 24) {
        d->range <<= 8;
        d->value = d->value << 8 | next_byte(d);
    }
}

static inline unsigned get_bit(void *io, uint32_t p, unsigned bit)
{
    range_dec *d = io;
    const uint32_t one = (uint32_t)((uint64_t)d->range * p >> 16);
    if (d->value < one) {
        d->range = one;
        bit = 1;
    } else {
        d->value -= one;
        d->range -= one;
        bit = 0;
    }
    renorm(d);
    return bit;
}

static inline uint64_t get_raw(void *io, unsigned n_bits, uint64_t bits)
{
    range_dec *d = io;
    bits = 0;
    while (n_bits > 0) {
        const unsigned k = n_bits < 8 ? n_bits : 8;
        d->range >>= k;
        uint32_t v = d->value / d->range;
        v = v < 1u << k ? v : (1u << k) - 1; /* only in damaged payloads */
        d->value -= v * d->range;
        bits = bits << k | v;
        n_bits -= k;
        renorm(d);
    }
    return bits;
}

typedef struct out {
    uint8_t *dst;
    unsigned unit_bytes;
} out;

static inline uint64_t nothing(void *data, uint32_t i)
{
    (void)data;
    (void)i;
    return 0;
}

static inline void put_unit(void *data, uint32_t i, uint64_t u)
{
    const out *o = data;
    uint8_t *p = o->dst + (size_t)i * o->unit_bytes;
    switch (o->unit_bytes) {
    case 1:
        *p = (uint8_t)u;
        break;
    case 2:
        qn_store16(p, (uint16_t)u);
        break;
    case 4:
        qn_store32(p, (uint32_t)u);
        break;
    default:
        qn_store64(p, u);
    }
}

static qn_code read_head(qn_max_head *h, const qn_max_form *f, const uint8_t *p, size_t n_bytes, qn_err *err)
{
    if (n_bytes < QN_MAX_HEADER_BYTES + 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "max: %zu bytes, too short for a header", n_bytes);
    const unsigned last = f->man_bits + (1u << f->exp_bits) - 1;
    *h = (qn_max_head){.n_modelled = p[0],
                       .model_sign = p[1] & 1,
                       .lo = qn_load16(p + 2),
                       .hi = qn_load16(p + 4),
                       .scale = qn_load16(p + 6),
                       .lag = {p[8], p[9]}};
    if (h->n_modelled > QN_MAX_MODELLED || h->n_modelled > f->man_bits)
        return QN_FAIL(err, QN_E_INPUT, 0, "max: %u modelled mantissa bits", h->n_modelled);
    if (p[1] > 1 || p[10] != 0)
        return QN_FAIL(err, QN_E_INPUT, 1, "max: flags 0x%02x 0x%02x, not known", p[1], p[10]);
    if (h->hi > last || h->lo > h->hi || h->scale >= (last + 1) * 16)
        return QN_FAIL(err, QN_E_INPUT, 2, "max: classes %u to %u around %u/16 of 0 to %u", h->lo, h->hi, h->scale, last);
    return QN_OK;
}

qn_code qn_dec_max(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                   qn_err *err)
{
    qn_max_form f;
    qn_max_head h;
    if (!qn_max_form_of(b->dtype, &f))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "max: dtype %d has no exponent", (int)b->dtype);
    QN_TRY(read_head(&h, &f, payload, n_bytes, err));
    qn_max *m = qn_arena_get(cx->scratch, sizeof *m, 64, err);
    if (!m)
        return QN_E_MEMORY;
    QN_TRY(qn_max_init(m, b, &h, cx->scratch, err));
    range_dec d = {.range = UINT32_MAX, .p = payload + QN_MAX_HEADER_BYTES, .n_bytes = n_bytes - QN_MAX_HEADER_BYTES};
    for (unsigned k = 0; k < 4; k++)
        d.value = d.value << 8 | next_byte(&d);
    out o = {dst, f.unit_bytes};
    const qn_max_io io = {&d, get_bit, get_raw};
    uint32_t at = 0;
    if (!qn_max_walk(m, &io, nothing, put_unit, &o, &at))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "max: unit %u has a class above %u", at, h.hi);
    if (d.at - 3 != d.n_bytes)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "max: %zu code bytes, %zu used", d.n_bytes, d.at - 3);
    return QN_OK;
}
