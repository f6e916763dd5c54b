/* enc_fast.c: FAST: the mirror of runtime/dec_fast.c and runtime/fast_stream.c; see
 * docs/codecs/fast.md. */
#include "base/err.h"
#include "base/num.h"
#include "compress/encode.h"
#include "compress/fast_model.h"
#include "runtime/fast_f64.h"
#include "runtime/fast_stream.h"
#include <string.h>

static void etab_build(const qn_fast_model *m, qn_fast_etab *t)
{
    unsigned start = 0;
    memset(t, 0, sizeof *t);
    t->esc = m->esc;
    memset(t->map, m->esc == QN_FAST_NO_ESC ? 0 : (int)m->esc, sizeof t->map);
    for (unsigned i = 0; i < m->n; i++) {
        const unsigned k = m->sym[i] & 63, f = m->freq[i],
                       r = 65536 / f < 65535 ? 65536 / f : 65535;
        t->map[m->sym[i]] = m->sym[i];
        t->freq[k] = (uint8_t)f;
        t->start[k] = (uint8_t)start;
        t->rcp[k] = (0x1000000 + f - 1) / f;
        t->rcp_lo[k] = (uint8_t)r;
        t->rcp_hi[k] = (uint8_t)(r >> 8);
        start += f;
    }
}

/* log2 of the streams for n symbols. A stream costs about three bits more than it carries, ten when
 * it carries nothing; speed wants 256. */
static unsigned streams_for(size_t n, bool nested)
{
    if (nested)
        return n >= 256 ? 3 : n >= 64 ? 2 : 0; /* one stream decodes at the pace of its latency */
    return n >= 131072 ? 8 : n >= 8192 ? 6 : n >= 1024 ? 3 : n >= 16 ? 1 : 0;
}

/* Starts the streams from carry (NULL: nothing is carried): 12 bits each, so that states stay below
 * 2^13. What a state holds costs log2 of it in code and saves 12 bits; states are distributed like
 * 1/x, so this is near the optimum. */
static void start_states(qn_fast_estate *st, const uint8_t *carry)
{
    const unsigned S = st->n_streams;
    memset(st->lo, 0, sizeof st->lo);
    memset(st->hi, 1, sizeof st->hi);
    if (!carry)
        return;
    memcpy(st->lo, carry, S);
    for (unsigned j = 0; j + 1 < S; j += 2) {
        st->hi[j] = (uint8_t)(1 + (carry[S + j / 2] & 15));
        st->hi[j + 1] = (uint8_t)(1 + (carry[S + j / 2] >> 4));
    }
}

/* What is written, and where it must end. */
typedef struct sink {
    uint8_t *p, *end;
} sink;

static bool put(sink *k, const void *src, size_t n)
{
    if (n > (size_t)(k->end - k->p))
        return false;
    if (n)
        memcpy(k->p, src, n);
    k->p += n;
    return true;
}

static bool put_byte(sink *k, unsigned v)
{
    const uint8_t b = (uint8_t)v;
    return put(k, &b, 1);
}

static bool put_varint(sink *k, uint64_t v)
{
    uint8_t b[10];
    return put(k, b, qn_put_varint(b, v));
}

static qn_code put_stream(const qn_enc_ctx *cx, const uint8_t *sym, size_t n,
                          const uint32_t *counts, unsigned log_s, const uint8_t *carry,
                          unsigned depth, sink *k, bool *fits, qn_err *err);

/* The nested stream of the escapes, or the bytes themselves when that is not smaller. */
static qn_code put_escapes(const qn_enc_ctx *cx, const uint8_t *esc, size_t n, unsigned depth,
                           sink *k, bool *fits, qn_err *err)
{
    uint32_t counts[256] = {0};
    uint8_t *room = qn_arena_get(cx->scratch, n + 1, 1, err);
    if (!room)
        return QN_E_MEMORY;
    sink sub = {room, room + n};
    bool coded = false;
    qn_fast_count_c(esc, n, counts);
    if (depth + 1 < QN_FAST_DEPTH)
        QN_TRY(
            put_stream(cx, esc, n, counts, streams_for(n, true), NULL, depth, &sub, &coded, err));
    const size_t n_sub = coded ? (size_t)(sub.p - room) : n + 1;
    *fits = put_varint(k, n) && put_varint(k, n_sub) && (coded || put_byte(k, QN_FAST_STORED)) &&
            put(k, coded ? room : esc, coded ? n_sub : n);
    return QN_OK;
}

static qn_code put_stream(const qn_enc_ctx *cx, const uint8_t *sym, size_t n,
                          const uint32_t *counts, unsigned log_s, const uint8_t *carry,
                          unsigned depth, sink *k, bool *fits, qn_err *err)
{
    qn_fast_model m;
    qn_fast_etab t;
    qn_fast_estate st = {.n_streams = 1u << log_s};
    uint8_t table[QN_FAST_TABLE_MAX] = {0};
    *fits = false;
    if (counts[sym[0]] == n) {
        *fits = put_byte(k, QN_FAST_CONST) && put_byte(k, sym[0]);
        return QN_OK;
    }
    qn_fast_model_choose(counts, n, &m);
    if (m.bits_q16 >> 19 > (uint64_t)(k->end - k->p) || m.n < 2)
        return QN_OK;
    const size_t n_table = qn_fast_model_write(&m, table);
    etab_build(&m, &t);
    /* at most one byte a symbol, and the 64 spare bytes that kernels may ask for */
    uint8_t *room = qn_arena_get(cx->scratch, n + 64, 64, err);
    uint8_t *esc = qn_arena_get(cx->scratch, m.n_esc + 64, 1, err),
            *esc_end = esc ? esc + 64 + m.n_esc : NULL;
    if (!room || !esc)
        return QN_E_MEMORY;
    st.p = room + 64 + n;
    st.esc = esc_end;
    start_states(&st, carry);
    if (depth == 0)
        cx->ekern->fast.code(&t, &st, sym, n);
    else
        qn_fast_code_c(&t, &st, sym, n);
    *fits = put_byte(k, log_s | (m.order ? QN_FAST_ORDER : 0) | (m.n_esc ? QN_FAST_ESC : 0)) &&
            put(k, table, n_table);
    if (*fits && m.n_esc)
        QN_TRY(put_escapes(cx, st.esc, m.n_esc, depth + 1, k, fits, err));
    *fits = *fits && put(k, st.lo, st.n_streams) && put(k, st.hi, st.n_streams) &&
            put(k, st.p, (size_t)(room + 64 + n - st.p));
    return QN_OK;
}

/* 64-bit floats: symbols are indices into the list of exponents that occur, raw bits are two
 * planes. */
static qn_code enc_f64(const qn_enc_ctx *cx, size_t n, const uint8_t *src, uint8_t *dst, size_t cap,
                       size_t *n_out, qn_err *err)
{
    uint16_t index[2048] = {0}, exps[256];
    uint32_t counts[256] = {0};
    const size_t n_raw5 = qn_fast_raw5_bytes(n), n_raw = n_raw5 + 6 * n;
    unsigned n_exps = 0;
    if (cap < n_raw)
        return QN_OK;
    uint8_t *sym = qn_arena_get(cx->scratch, n, 64, err);
    if (!sym)
        return QN_E_MEMORY;
    for (size_t i = 0; i < n; i++)
        index[qn_load64(src + 8 * i) >> 52 & 2047] = 1;
    for (unsigned e = 0; e < 2048; e++)
        if (index[e]) {
            if (n_exps == 256)
                return QN_OK;
            index[e] = (uint16_t)n_exps;
            exps[n_exps++] = (uint16_t)e;
        }
    for (size_t i = 0; i < n; i++)
        sym[i] = (uint8_t)index[qn_load64(src + 8 * i) >> 52 & 2047];
    cx->ekern->fast.count(sym, n, counts);
    sink k = {dst, dst + cap - n_raw};
    bool fits = put_varint(&k, n_exps);
    for (unsigned i = 0; i < n_exps; i++)
        fits = fits && put_varint(&k, i ? (uint64_t)exps[i] - exps[i - 1] : exps[0]);
    if (fits)
        QN_TRY(put_stream(cx, sym, n, counts, streams_for(n, false), NULL, 0, &k, &fits, err));
    if (!fits)
        return QN_OK;
    qn_fast_split_f64(src, n, k.p, k.p + n_raw5);
    *n_out = (size_t)(k.p - dst) + n_raw;
    return QN_OK;
}

qn_code qn_enc_fast(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst,
                    size_t cap, size_t *n_out, qn_err *err)
{
    const size_t n = b->n, unit = qn_unit_bytes(b->dtype);
    const qn_fast_kind kind = b->dtype == QN_BF16                        ? QN_FAST_BF16
                              : b->dtype == QN_F16                       ? QN_FAST_F16
                              : b->dtype == QN_F32 || b->dtype == QN_C64 ? QN_FAST_F32
                                                                         : QN_FAST_KINDS;
    const size_t raw_unit = kind == QN_FAST_F32 ? 3 : 1,
                 n_raw2 = kind == QN_FAST_F16 ? (n + 3) / 4 : 0;
    uint32_t counts[256] = {0};
    uint8_t carry[QN_FAST_STREAMS * 3 / 2];
    *n_out = 0;
    if (b->dtype == QN_F64)
        return enc_f64(cx, n, src, dst, cap, n_out, err);
    if (kind == QN_FAST_KINDS || cap < raw_unit * n)
        return QN_OK;
    uint8_t *sym = qn_arena_get(cx->scratch, n, 64, err);
    if (!sym)
        return QN_E_MEMORY;
    cx->ekern->fast.symbols(kind, src, n, sym);
    cx->ekern->fast.count(sym, n, counts);
    const bool constant = counts[sym[0]] == n;
    const unsigned log_s = streams_for(n, false),
                   n_carry = constant ? 0 : qn_fast_carry_bytes(1u << log_s);
    const size_t n_raw = raw_unit * n - n_carry;
    if (cap < n_raw2 + n_raw)
        return QN_OK;
    if (n_carry) { /* the raw bytes of the last n_carry weights hold them */
        uint8_t last[3 * sizeof carry], last2[sizeof carry];
        qn_fast_raws_c(kind, src + (n - n_carry) * unit, n_carry, last2, last, raw_unit * n_carry);
        memcpy(carry, last + (raw_unit - 1) * n_carry, n_carry);
    }
    sink k = {dst, dst + cap - n_raw2 - n_raw};
    bool fits;
    QN_TRY(put_stream(cx, sym, n, counts, log_s, carry, 0, &k, &fits, err));
    if (!fits)
        return QN_OK;
    cx->ekern->fast.raws(kind, src, n, k.p, k.p + n_raw2, n_raw);
    *n_out = (size_t)(k.p - dst) + n_raw2 + n_raw;
    return QN_OK;
}
