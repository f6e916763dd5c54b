/* dec_fast.c: FAST: floats as rANS-coded exponents and raw bits; see docs/codecs/fast.md. */
#include "base/err.h"
#include "base/num.h"
#include "runtime/codec.h"
#include "runtime/fast_f64.h"
#include "runtime/fast_stream.h"
#include <string.h>

enum { TAIL_MAX = 3 * QN_FAST_STREAMS }; /* weights: < carry bytes + one round */

/* What all steps share. raw2, raw: the planes as far as they are in the payload. */
typedef struct frame {
    qn_fast_kind kind;
    size_t n, raw_unit; /* weights, raw bytes a weight */
    const uint8_t *raw2, *raw;
    uint8_t *dst;
    size_t dst_unit;
} frame;

static void merge_constant(const frame *f, uint8_t symbol)
{
    uint8_t sym[1024];
    memset(sym, symbol, sizeof sym);
    for (size_t i = 0; i < f->n; i += sizeof sym) /* a multiple of 4, as raw2 wants */
        qn_fast_merge(f->kind, sym, qn_min_u64(sizeof sym, f->n - i), f->raw + i * f->raw_unit,
                      f->kind == QN_FAST_F16 ? f->raw2 + i / 4 : NULL, i, f->dst + i * f->dst_unit);
}

/* The raw bits of the last weights are only known after the last symbol: they are the states that
 * are left. */
static qn_code merge_tail(const frame *f, const qn_fast_stream *s, size_t at, const uint8_t *sym,
                          qn_err *err)
{
    uint8_t raw[3 * TAIL_MAX + QN_FAST_STREAMS * 3 / 2];
    const size_t n_raw = (f->n - at) * f->raw_unit, n_carry = qn_fast_carry_bytes(s->st.n_streams);
    QN_TRY(qn_fast_stream_close(s, raw + n_raw - n_carry, err));
    memcpy(raw, f->raw + at * f->raw_unit, n_raw - n_carry);
    qn_fast_merge(f->kind, sym, f->n - at, raw, f->kind == QN_FAST_F16 ? f->raw2 + at / 4 : NULL,
                  at, f->dst + at * f->dst_unit);
    return QN_OK;
}

static qn_code rounds(const qn_dec_ctx *cx, const frame *f, qn_fast_stream *s, qn_err *err)
{
    const size_t S = s->st.n_streams, n_rounds = (f->n - qn_fast_carry_bytes((unsigned)S)) / S;
    size_t r = 0;
    uint8_t sym[TAIL_MAX];
    for (unsigned c = 0; c < 2 && r < n_rounds && !s->st.failed; c++) {
        const size_t at = r * S;
        const uint8_t *raw = f->raw + at * f->raw_unit,
                      *raw2 = f->kind == QN_FAST_F16 ? f->raw2 + at / 4 : NULL;
        uint8_t *dst = f->dst + at * f->dst_unit;
        /* vector variants stop short of the end of the payload, or do nothing at all */
        r += c == 0 ? cx->kern->fast.run[f->kind](&s->tab, &s->st, n_rounds - r, raw, raw2, dst)
                    : qn_fast_run_c(f->kind, &s->tab, &s->st, n_rounds - r, raw, raw2, dst);
    }
    const size_t at = r * S, tail = f->n - at, full = tail / S * S;
    if (r < n_rounds ||
        qn_fast_run_c(QN_FAST_SYM, &s->tab, &s->st, tail / S, NULL, NULL, sym) < tail / S ||
        !qn_fast_part_c(&s->tab, &s->st, (unsigned)(tail % S), sym + full))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "fast: the code ends too early");
    return merge_tail(f, s, at, sym, err);
}

qn_code qn_dec_fast(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                    uint8_t *dst, qn_err *err)
{
    frame f = {.n = b->n, .dst = dst, .dst_unit = qn_unit_bytes(b->dtype), .raw_unit = 1};
    size_t n_raw2 = 0;
    unsigned n_values = 256;
    qn_fast_stream s;
    switch (b->dtype) {
    case QN_BF16:
        f.kind = QN_FAST_BF16;
        break;
    case QN_F16:
        f.kind = QN_FAST_F16;
        n_raw2 = (f.n + 3) / 4;
        n_values = 64;
        break;
    case QN_F32:
    case QN_C64:
        f.kind = QN_FAST_F32;
        f.raw_unit = 3;
        break;
    case QN_F64:
        return qn_fast_dec_f64(&cx->kern->fast, f.n, payload, n_bytes, dst, cx->scratch, err);
    default:
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "fast: not a codec for %s",
                       qn_dtype_name(b->dtype));
    }
    const unsigned low = n_bytes ? payload[0] & 15 : 0,
                   carry = low <= 8 ? qn_fast_carry_bytes(1u << low) : 0;
    if (carry > f.n)
        return QN_FAIL(err, QN_E_INPUT, 0, "fast: too many streams for %zu weights", f.n);
    const size_t n_raw = f.n * f.raw_unit - carry, n_behind = n_raw2 + n_raw;
    QN_TRY(qn_fast_stream_open(&cx->kern->fast, &s, f.n, n_values, payload, n_bytes, n_behind, 0,
                               cx->scratch, err));
    f.raw = payload + (n_bytes - n_raw);
    f.raw2 = f.raw - n_raw2;
    /* spare bits of the last byte of raw2: one spelling only */
    if (n_raw2 && f.n % 4 && f.raw2[n_raw2 - 1] >> 2 * (f.n % 4))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "fast: spare bits are not zero");
    if (s.mode == QN_FAST_CONST) {
        merge_constant(&f, s.constant);
        return QN_OK;
    }
    s.st.end = payload + n_bytes; /* the raw bits are as good as any padding */
    return rounds(cx, &f, &s, err);
}
