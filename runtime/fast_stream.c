/* fast_stream.c: parsing of symbol streams; see fast_stream.h and docs/codecs/fast.md. */
#include "runtime/fast_stream.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

/* Bits from the low end of each byte up. Past the end: zeros and `failed`. */
typedef struct bits {
    const uint8_t *p;
    size_t n_bits, at;
    bool failed;
} bits;

static unsigned take(bits *b, unsigned n)
{
    unsigned v = 0;
    if (n > b->n_bits - b->at) {
        b->failed = true;
        b->at = b->n_bits;
        return 0;
    }
    for (unsigned i = 0; i < n; i++, b->at++)
        v |= (b->p[b->at / 8] >> b->at % 8 & 1u) << i;
    return v;
}

/* Elias gamma: z zeros, a one, the z bits below the leading one. Values 1 … 511. */
static unsigned take_gamma(bits *b)
{
    unsigned z = 0;
    while (z < 9 && !b->failed && take(b, 1) == 0)
        z++;
    if (z == 9)
        b->failed = true;
    return b->failed ? 1 : 1u << z | take(b, z);
}

static unsigned index_bits(unsigned n)
{
    unsigned b = 0;
    while (1u << b < n)
        b++;
    return b;
}

/* The table; false when it is none. */
static bool parse_table(bits *b, unsigned head, unsigned n_values, qn_fast_tab *tab)
{
    uint8_t sym[QN_FAST_SYMS + 1], freq[QN_FAST_SYMS + 1], s2[QN_FAST_SYMS], f2[QN_FAST_SYMS];
    const unsigned n_esc = head & QN_FAST_ESC ? 1 : 0, n_coded = take(b, 6) + 1,
                   n = n_coded + n_esc;
    unsigned left = 256, esc = QN_FAST_NO_ESC, v = take(b, 8);
    uint64_t seen = 0;
    if (n > QN_FAST_SYMS || n < 2)
        return false;
    for (unsigned i = 0; i < n_coded; i++) {
        if (i > 0)
            v += take_gamma(b);
        if (b->failed || v >= n_values || seen >> (v & 63) & 1)
            return false;
        seen |= UINT64_C(1) << (v & 63);
        sym[i] = (uint8_t)v;
    }
    if (n_esc) { /* any byte will do whose place in the tables is free */
        for (esc = 0; seen >> esc & 1; esc++)
            ;
        sym[n_coded] = (uint8_t)esc;
    }
    for (unsigned i = 0; i < n; i++) {
        const unsigned k = n_esc ? (i == 0 ? n_coded : i - 1)
                                 : i; /* the escape's comes first, the last is implied */
        const unsigned f = i + 1 < n ? take_gamma(b) : left;
        if (b->failed || f == 0 || f > 255 || f > left)
            return false;
        freq[k] = (uint8_t)f;
        left -= f;
    }
    if (!(head & QN_FAST_ORDER))
        return qn_fast_tab_build(tab, sym, freq, n, esc);
    for (unsigned i = 0; i < n; i++) {
        const unsigned k = take(b, index_bits(n - i));
        if (b->failed || k >= n - i)
            return false;
        s2[i] = sym[k];
        f2[i] = freq[k];
        memmove(sym + k, sym + k + 1, n - i - k - 1);
        memmove(freq + k, freq + k + 1, n - i - k - 1);
    }
    return qn_fast_tab_build(tab, s2, f2, n, esc);
}

qn_code qn_fast_stream_all(const qn_kern_fast *kern, size_t n, unsigned n_values, const uint8_t *p,
                           size_t n_bytes, size_t n_behind, unsigned depth, qn_arena *scratch,
                           const uint8_t **out, qn_err *err)
{
    qn_fast_stream s;
    uint8_t carry[QN_FAST_STREAMS * 3 / 2], *sym = qn_arena_get(scratch, n, 1, err);
    if (!sym)
        return QN_E_MEMORY;
    *out = sym;
    QN_TRY(qn_fast_stream_open(kern, &s, n, n_values, p, n_bytes, n_behind, depth, scratch, err));
    if (s.mode == QN_FAST_STORED) {
        *out = s.stored;
        for (size_t i = 0; i < n; i++)
            if (s.stored[i] >= n_values)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "fast: symbol %u of %u", s.stored[i],
                               n_values);
        return QN_OK;
    }
    if (s.mode == QN_FAST_CONST) {
        memset(sym, s.constant, n);
        return QN_OK;
    }
    const size_t S = s.st.n_streams, n_rounds = n / S;
    size_t r = kern->run[QN_FAST_SYM](&s.tab, &s.st, n_rounds, NULL, NULL, sym);
    if (!s.st.failed) /* vector variants stop short of the end */
        r += qn_fast_run_c(QN_FAST_SYM, &s.tab, &s.st, n_rounds - r, NULL, NULL, sym + r * S);
    if (r < n_rounds || !qn_fast_part_c(&s.tab, &s.st, (unsigned)(n % S), sym + n_rounds * S))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "fast: the code ends too early");
    QN_TRY(qn_fast_stream_close(&s, carry, err));
    for (size_t i = 0; i < qn_fast_carry_bytes((unsigned)S); i++)
        if (carry[i])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                           "fast: final states are not those to start from");
    return QN_OK;
}

qn_code qn_fast_stream_open(const qn_kern_fast *kern, qn_fast_stream *s, size_t n,
                            unsigned n_values, const uint8_t *p, size_t n_bytes, size_t n_behind,
                            unsigned depth, qn_arena *scratch, qn_err *err)
{
    if (n_behind > n_bytes)
        return QN_FAIL(err, QN_E_INPUT, 0, "fast: %zu bytes found, at least %zu expected", n_bytes,
                       n_behind);
    qn_cur c = qn_cur_over(p, n_bytes - n_behind);
    const unsigned head = qn_cur_u8(&c), low = head & 15;
    if (c.failed || head >> 6 || (low > 8 && low != QN_FAST_CONST && low != QN_FAST_STORED) ||
        (low > 8 && head >> 4) || (low == QN_FAST_STORED && depth == 0))
        return QN_FAIL(err, QN_E_INPUT, 0, "fast: head byte 0x%02x is none of this version", head);
    if (depth >= QN_FAST_DEPTH)
        return QN_FAIL(err, QN_E_INPUT, 0, "fast: escapes nested deeper than %d", QN_FAST_DEPTH);
    s->mode = low > 8 ? low : 0;
    if (s->mode) {
        const size_t want = s->mode == QN_FAST_CONST ? 1 : n;
        const uint8_t *q = qn_cur_take(&c, want);
        if (!q || qn_cur_left(&c))
            return QN_FAIL(err, QN_E_INPUT, 1, "fast: %zu bytes found, %zu expected",
                           qn_cur_left(&c), want);
        s->stored = q;
        s->constant = *q;
        if (s->mode == QN_FAST_CONST && s->constant >= n_values)
            return QN_FAIL(err, QN_E_INPUT, 1, "fast: symbol %u of %u", s->constant, n_values);
        return QN_OK;
    }
    bits b = {.p = p + c.at, .n_bits = 8 * qn_cur_left(&c)};
    if (!parse_table(&b, head, n_values, &s->tab))
        return QN_FAIL(err, QN_E_INPUT, 1, "fast: damaged table of frequencies");
    (void)qn_cur_take(&c, (b.at + 7) / 8);
    s->st = (qn_fast_state){.n_streams = 1u << low};
    if (head & QN_FAST_ESC) {
        const uint64_t n_esc = qn_cur_varint(&c), n_sub = qn_cur_varint(&c);
        const uint8_t *sub = n_sub <= qn_cur_left(&c) ? qn_cur_take(&c, (size_t)n_sub) : NULL;
        if (!sub || n_esc == 0 || n_esc > n)
            return QN_FAIL(err, QN_E_INPUT, c.at, "fast: %llu escapes in %llu bytes",
                           (unsigned long long)n_esc, (unsigned long long)n_sub);
        QN_TRY(qn_fast_stream_all(kern, (size_t)n_esc, n_values, sub, (size_t)n_sub, 0, depth + 1,
                                  scratch, &s->st.esc, err));
        s->st.esc_end = s->st.esc + n_esc;
    }
    const uint8_t *lo = qn_cur_take(&c, s->st.n_streams), *hi = qn_cur_take(&c, s->st.n_streams);
    if (!lo || !hi || memchr(hi, 0, s->st.n_streams))
        return QN_FAIL(err, QN_E_INPUT, c.at, "fast: states are missing or too small");
    memcpy(s->st.lo, lo, s->st.n_streams);
    memcpy(s->st.hi, hi, s->st.n_streams);
    s->st.p = p + c.at;
    s->code_end = s->st.end = p + c.n_bytes;
    return QN_OK;
}

qn_code qn_fast_stream_close(const qn_fast_stream *s, uint8_t *carry, qn_err *err)
{
    const unsigned S = s->st.n_streams;
    if (s->st.failed || s->st.p != s->code_end || s->st.esc != s->st.esc_end)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                       "fast: the code does not end where it should");
    memcpy(carry, s->st.lo, S);
    for (unsigned j = 0; j < S; j++)
        if (s->st.hi[j] < 1 || s->st.hi[j] > 16 || (S == 1 && s->st.hi[j] != 1))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                           "fast: final state %u is none to start from", j);
    for (unsigned j = 0; j + 1 < S; j += 2)
        carry[S + j / 2] = (uint8_t)((s->st.hi[j] - 1) | (s->st.hi[j + 1] - 1) << 4);
    return QN_OK;
}
