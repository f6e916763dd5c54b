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
            t->step[at] = (uint16_t)(i | f << 8);
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
static void merge16(const uint8_t *restrict sym, size_t n, const uint8_t *restrict raw,
                    uint8_t *restrict dst)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned w = (unsigned)sym[i] << 8 | raw[i];
        qn_store16(dst + 2 * i, (uint16_t)(w >> 1 | w << 15));
    }
}

/* `at` is a multiple of 4 but for the pieces that tails are merged in. */
static void merge_f16(const uint8_t *restrict sym, size_t n, const uint8_t *restrict raw,
                      const uint8_t *restrict raw2, size_t at, uint8_t *restrict dst)
{
    uint8_t two[256];
    for (size_t i = 0; i < n;) {
        size_t m = n - i < sizeof two ? n - i : sizeof two;
        if ((at + i) % 4 || m < 4) {
            const size_t q = at % 4 + i;
            two[0] = raw2[q / 4] >> 2 * (q % 4) & 3u;
            m = 1;
        } else {
            m -= m % 4;
            for (size_t k = 0; k < m; k += 4) {
                const uint32_t b = raw2[(at % 4 + i + k) / 4];
                qn_store32(two + k, (b | b << 6 | b << 12 | b << 18) & 0x03030303);
            }
        }
        for (size_t k = 0; k < m; k++, i++) {
            const unsigned w = (unsigned)sym[i] << 10 | (unsigned)two[k] << 8 | raw[i];
            qn_store16(dst + 2 * i, (uint16_t)(w >> 1 | w << 15));
        }
    }
}

static void merge32(const uint8_t *restrict sym, size_t n, const uint8_t *restrict raw,
                    uint8_t *restrict dst)
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

/* The first n weights of a round, one after the other. */
static bool symbols(const qn_fast_tab *t, qn_fast_state *st, unsigned n, uint8_t *sym)
{
    for (unsigned j = 0; j < n; j++) {
        const unsigned slot = st->lo[j], e = t->step[slot];
        unsigned x = (e >> 8) * st->hi[j] + (e & 255);
        sym[j] = t->sym[slot];
        if (x < 256) {
            if (st->p == st->end) {
                st->failed = true;
                return false;
            }
            x = x << 8 | *st->p++;
        }
        st->lo[j] = (uint8_t)x;
        st->hi[j] = (uint8_t)(x >> 8);
    }
    return true;
}

/* States after a step, with their low bytes moved up where a byte is needed, which is said in `need`. */
static void advance(const uint16_t *restrict step, uint8_t *restrict lo, uint8_t *restrict hi,
                    uint8_t *restrict need, unsigned n)
{
    for (unsigned j = 0; j < n; j++) {
        const uint16_t x = (uint16_t)((step[j] >> 8) * hi[j] + (step[j] & 255));
        const uint8_t l = (uint8_t)x, h = (uint8_t)(x >> 8), due = h == 0 ? 0xff : 0;
        lo[j] = l;
        hi[j] = (uint8_t)(h | (l & due));
        need[j] = due & 1;
    }
}

/* A whole round of S ≥ 8 streams, in four passes that do little each. Only the lookups are one by
 * one; the arithmetic is a loop over arrays for the compiler to vectorise. Which streams need a byte
 * is close to random, so nothing branches on it: each eight of them append the indices of those that
 * do to a list, and the code bytes go where the list says. */
static bool symbols_wide(const qn_fast_tab *t, qn_fast_state *st, uint8_t *restrict sym)
{
    const uint64_t ones = 0x0101010101010101;
    const unsigned S = st->n_streams;
    uint16_t step[QN_FAST_STREAMS];
    uint8_t *restrict lo = st->lo, *restrict hi = st->hi, need[QN_FAST_STREAMS],
                      list[QN_FAST_STREAMS + 8];
    const uint8_t *p = st->p;
    size_t n = 0;
#pragma GCC unroll 8
    for (unsigned j = 0; j < S; j++) {
        const unsigned slot = lo[j];
        step[j] = t->step[slot];
        sym[j] = t->sym[slot];
    }
    advance(step, lo, hi, need, S);
    for (unsigned j = 0; j < S; j += 8) {
        const uint64_t m = qn_load64(need + j);
        /* the product gathers the eight low bits in the top byte, nothing else meets there */
        uint64_t eight;
        memcpy(&eight, qn_fast_index_tab[m * 0x0102040810204080 >> 56], 8);
        eight += j * ones; /* no carries: right in either byte order */
        memcpy(list + n, &eight, 8);
        n += m * ones >> 56;
    }
    if (n > (size_t)(st->end - p)) {
        st->failed = true;
        return false;
    }
#pragma GCC unroll 4
    for (size_t k = 0; k < n; k++)
        lo[list[k]] = p[k];
    st->p = p + n;
    return true;
}

/* Puts the symbols of the nested stream where escapes are. */
static bool replace(const qn_fast_tab *t, qn_fast_state *st, uint8_t *sym, size_t n)
{
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

enum { BATCH = 512 }; /* symbols decoded before they are merged, a multiple of a round */

size_t qn_fast_run_c(qn_fast_kind kind, const qn_fast_tab *t, qn_fast_state *st, size_t n_rounds,
                     const uint8_t *raw, const uint8_t *raw2, uint8_t *dst)
{
    const size_t S = st->n_streams, raw_step = kind == QN_FAST_F32 ? 3 * S : S,
                 dst_step = S * (kind == QN_FAST_SYM   ? 1
                                 : kind == QN_FAST_F32 ? 4
                                                       : 2);
    uint8_t sym[BATCH];
    size_t r = 0;
    while (r < n_rounds) {
        const size_t left = n_rounds - r, n = left < BATCH / S ? left : BATCH / S, at = r * S;
        for (size_t i = 0; i < n; i++)
            if (!(S < 8 ? symbols(t, st, (unsigned)S, sym + i * S)
                        : symbols_wide(t, st, sym + i * S)))
                return r;
        if (!replace(t, st, sym, n * S))
            return r;
        qn_fast_merge(kind, sym, n * S, kind == QN_FAST_SYM ? NULL : raw + r * raw_step,
                      kind == QN_FAST_F16 ? raw2 + at / 4 : NULL, at, dst + r * dst_step);
        r += n;
    }
    return r;
}

bool qn_fast_part_c(const qn_fast_tab *t, qn_fast_state *st, unsigned n, uint8_t *sym)
{
    return symbols(t, st, n, sym) && replace(t, st, sym, n);
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
