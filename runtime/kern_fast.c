/* kern_fast.c: C reference kernels of the fast codec, and the table. */
#include "runtime/kern_fast.h"
#include "base/cpu.h"
#include "base/num.h"
#include <string.h>

bool qn_fast_tab_build(qn_fast_tab *t, const uint8_t *sym, const uint8_t *freq, unsigned n,
                       unsigned esc)
{
    uint64_t seen = 0;
    unsigned at = 0;
    memset(t, 0, sizeof *t);
    if (n < 2 || n > QN_FAST_SYMS)
        return false;
    t->n = n;
    t->esc = esc;
    for (unsigned r = 0; r < n; r++) {
        const unsigned k = sym[r] & 63, f = freq[r];
        if (f == 0 || f > 256 - at || seen >> k & 1)
            return false;
        seen |= UINT64_C(1) << k;
        t->r_sym[r] = sym[r];
        t->r_freq[r] = t->freq[k] = (uint8_t)f;
        t->r_start[r] = t->start[k] = (uint8_t)at;
        for (unsigned i = 0; i < f; i++, at++) {
            t->sym[at] = sym[r];
            t->slot[at] = i | f << 8 | (uint32_t)sym[r] << 16 | (uint32_t)(sym[r] == esc) << 24;
        }
    }
    if (at != 256)
        return false;
    memset(t->cut, 16, sizeof t->cut);
    for (unsigned c = 0, r = 0; c < 16; c++) {
        while (r + 1 < n && t->r_start[r + 1] <= 16 * c)
            r++;
        t->cell[c] = (uint8_t)r;
        for (unsigned k = 0; r + k + 1 < n && t->r_start[r + k + 1] < 16 * (c + 1); k++) {
            if (k < QN_FAST_CUTS)
                t->cut[k][c] = (uint8_t)(t->r_start[r + k + 1] - 16 * c);
            if (t->n_cuts < k + 1)
                t->n_cuts = k + 1;
        }
    }
    return true;
}

/* All four formats hold the sign in the last raw bit, so a weight is a word rotated right by one.
 */
static void merge16(const uint8_t *sym, size_t n, const uint8_t *raw, uint8_t *dst)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned w = (unsigned)sym[i] << 8 | raw[i];
        qn_store16(dst + 2 * i, (uint16_t)(w >> 1 | w << 15));
    }
}

static void merge_f16(const uint8_t *sym, size_t n, const uint8_t *raw, const uint8_t *raw2,
                      size_t at, uint8_t *dst)
{
    for (size_t i = 0; i < n; i++) {
        const size_t q = at % 4 + i;
        const unsigned w = (unsigned)sym[i] << 10 | (raw2[q / 4] >> 2 * (q % 4) & 3u) << 8 | raw[i];
        qn_store16(dst + 2 * i, (uint16_t)(w >> 1 | w << 15));
    }
}

static void merge32(const uint8_t *sym, size_t n, const uint8_t *raw, uint8_t *dst)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t w = (uint32_t)sym[i] << 24 | (uint32_t)raw[3 * i + 2] << 16 |
                           (uint32_t)raw[3 * i + 1] << 8 | raw[3 * i];
        qn_store32(dst + 4 * i, w >> 1 | w << 31);
    }
}

void qn_fast_merge(qn_fast_kind kind, const uint8_t *sym, size_t n, const uint8_t *raw,
                   const uint8_t *raw2, size_t at, uint8_t *dst)
{
    switch (kind) {
    case QN_FAST_BF16:
        merge16(sym, n, raw, dst);
        break;
    case QN_FAST_F16:
        merge_f16(sym, n, raw, raw2, at, dst);
        break;
    case QN_FAST_F32:
        merge32(sym, n, raw, dst);
        break;
    default:
        memcpy(dst, sym, n);
    }
}

/* n ≤ n_streams weights of one round. The caller has made sure that n code bytes may be read, or
 * sets `careful`. */
static inline __attribute__((always_inline)) bool symbols(const qn_fast_tab *t, qn_fast_state *st,
                                                          uint16_t *x, unsigned n, uint8_t *sym,
                                                          bool careful)
{
    const uint8_t *p = st->p;
#pragma GCC unroll 4
    for (unsigned j = 0; j < n; j++) {
        const uint32_t e = t->slot[x[j] & 255];
        uint32_t y = (e >> 8 & 255) * (x[j] >> 8) + (e & 255);
        sym[j] = (uint8_t)(e >> 16);
        if (careful && y < 256 && p == st->end) {
            st->failed = true;
            return false;
        }
        /* a coin toss, so no branch: both outcomes are made */
        const uint32_t longer = y << 8 | (!careful || y < 256 ? *p : 0u);
        p += y < 256;
        y = y < 256 ? longer : y;
        x[j] = (uint16_t)y;
    }
    st->p = p;
    for (uint8_t *s = sym;
         t->esc != QN_FAST_NO_ESC && (s = memchr(s, (int)t->esc, (size_t)(sym + n - s))); s++) {
        if (st->esc == st->esc_end) {
            st->failed = true;
            return false;
        }
        *s = *st->esc++;
    }
    return true;
}

static void load_states(const qn_fast_state *st, uint16_t *x)
{
    for (unsigned j = 0; j < st->n_streams; j++)
        x[j] = (uint16_t)(st->lo[j] | st->hi[j] << 8);
}

static void store_states(qn_fast_state *st, const uint16_t *x)
{
    for (unsigned j = 0; j < st->n_streams; j++) {
        st->lo[j] = (uint8_t)x[j];
        st->hi[j] = (uint8_t)(x[j] >> 8);
    }
}

size_t qn_fast_run_c(qn_fast_kind kind, const qn_fast_tab *t, qn_fast_state *st, size_t n_rounds,
                     const uint8_t *raw, const uint8_t *raw2, uint8_t *dst)
{
    const size_t S = st->n_streams, raw_step = kind == QN_FAST_F32 ? 3 * S : S,
                 dst_step = S * (kind == QN_FAST_SYM   ? 1
                                 : kind == QN_FAST_F32 ? 4
                                                       : 2);
    uint16_t x[QN_FAST_STREAMS];
    uint8_t sym[QN_FAST_STREAMS];
    size_t r = 0;
    load_states(st, x);
    for (; r < n_rounds && !st->failed; r++) {
        /* one byte more than a round can take: the byte under a conditional move is read either way
         */
        const bool slack = (size_t)(st->end - st->p) > S;
        if (!(slack ? symbols(t, st, x, (unsigned)S, sym, false)
                    : symbols(t, st, x, (unsigned)S, sym, true)))
            break;
        const size_t at = r * S;
        qn_fast_merge(kind, sym, S, kind == QN_FAST_SYM ? NULL : raw + r * raw_step,
                      kind == QN_FAST_F16 ? raw2 + at / 4 : NULL, at, dst + r * dst_step);
    }
    store_states(st, x);
    return r;
}

bool qn_fast_part_c(const qn_fast_tab *t, qn_fast_state *st, unsigned n, uint8_t *sym)
{
    uint16_t x[QN_FAST_STREAMS];
    load_states(st, x);
    const bool ok = symbols(t, st, x, n, sym, true);
    store_states(st, x);
    return ok;
}

static size_t run_sym(const qn_fast_tab *t, qn_fast_state *st, size_t n, const uint8_t *raw,
                      const uint8_t *raw2, uint8_t *dst)
{
    return qn_fast_run_c(QN_FAST_SYM, t, st, n, raw, raw2, dst);
}

static size_t run_bf16(const qn_fast_tab *t, qn_fast_state *st, size_t n, const uint8_t *raw,
                       const uint8_t *raw2, uint8_t *dst)
{
    return qn_fast_run_c(QN_FAST_BF16, t, st, n, raw, raw2, dst);
}

static size_t run_f16(const qn_fast_tab *t, qn_fast_state *st, size_t n, const uint8_t *raw,
                      const uint8_t *raw2, uint8_t *dst)
{
    return qn_fast_run_c(QN_FAST_F16, t, st, n, raw, raw2, dst);
}

static size_t run_f32(const qn_fast_tab *t, qn_fast_state *st, size_t n, const uint8_t *raw,
                      const uint8_t *raw2, uint8_t *dst)
{
    return qn_fast_run_c(QN_FAST_F32, t, st, n, raw, raw2, dst);
}

void qn_kern_fast_init(qn_kern_fast *k, unsigned cpu)
{
    *k = (qn_kern_fast){cpu, {run_sym, run_bf16, run_f16, run_f32}};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_kern_fast_avx2(k);
    if (cpu & QN_CPU_AVX512)
        qn_kern_fast_avx512(k);
#endif
}
