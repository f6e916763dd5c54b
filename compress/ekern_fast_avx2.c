/* ekern_fast_avx2.c: fast encoder, AVX2: what ekern_fast_avx512.c does, on 32 streams at a time.
 *
 * Tables are indexed by the symbol mod 16 when the coded symbols differ there (a run of up to 15
 * exponents does), else by the symbol mod 64 in four parts. States stay in memory. */
#include "compress/ekern_fast.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef struct tables {
    __m256i sym[4], freq[4], start[4], rcp_lo[4], rcp_hi[4];
    __m256i esc; /* index of the escape */
} tables;

INLINE __m256i twice(const uint8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)p));
}

/* False when the symbols are not distinct mod `size` or leave no place for the escape. */
static TARGET bool tables_load(const qn_fast_etab *t, unsigned size, tables *r)
{
    uint8_t b[5][64] = {{0}};
    uint64_t seen = 0;
    unsigned esc = 0;
    const uint8_t *from[5] = {NULL, t->freq, t->start, t->rcp_lo, t->rcp_hi};
    __m256i *to[5] = {r->sym, r->freq, r->start, r->rcp_lo, r->rcp_hi};
    for (unsigned k = 0; k < size; k++)
        b[0][k] = (uint8_t)(k ^ 1); /* matches no symbol that is looked up here */
    for (unsigned v = 0; v < 256; v++) {
        const unsigned k = v % size;
        if (t->map[v] != v || v == t->esc || !t->freq[v & 63])
            continue;
        if (seen >> k & 1)
            return false;
        seen |= UINT64_C(1) << k;
        b[0][k] = (uint8_t)v;
        for (unsigned i = 1; i < 5; i++)
            b[i][k] = from[i][v & 63];
    }
    if (t->esc != QN_FAST_NO_ESC) {
        while (esc < size && seen >> esc & 1)
            esc++;
        if (esc == size)
            return false;
        for (unsigned i = 1; i < 5; i++)
            b[i][esc] = from[i][t->esc & 63];
    }
    for (unsigned i = 0; i < 5; i++)
        for (unsigned k = 0; k < 4; k++)
            to[i][k] = twice(b[i] + 16 * k);
    r->esc = _mm256_set1_epi8((char)esc);
    return true;
}

/* 16 n-entry table; index < 16 n. A blend looks at the top bit of each byte only. */
INLINE __m256i lookup(const __m256i *t, __m256i index, unsigned n)
{
    const __m256i a = _mm256_shuffle_epi8(t[0], index);
    if (n == 1)
        return a;
    const __m256i bit4 = _mm256_slli_epi16(index, 3),
                  ab = _mm256_blendv_epi8(a, _mm256_shuffle_epi8(t[1], index), bit4),
                  cd = _mm256_blendv_epi8(_mm256_shuffle_epi8(t[2], index),
                                          _mm256_shuffle_epi8(t[3], index), bit4);
    return _mm256_blendv_epi8(ab, cd, _mm256_slli_epi16(index, 2));
}

/* See ekern_fast_avx512.c. The estimate is one too small exactly where subtracting f once more does
 * not wrap. */
INLINE __m256i divide(__m256i x, __m256i f, __m256i rcp, __m256i *q)
{
    const __m256i est = _mm256_mulhi_epu16(x, rcp),
                  r = _mm256_sub_epi16(x, _mm256_mullo_epi16(est, f)),
                  less = _mm256_sub_epi16(r, f), min = _mm256_min_epu16(r, less);
    *q = _mm256_sub_epi16(est, _mm256_cmpeq_epi16(min, less));
    return min;
}

INLINE void put8(uint8_t *end, __m128i two, bool upper)
{
    if (upper)
        _mm_storeh_pd((void *)(end - 8), _mm_castsi128_pd(two));
    else
        _mm_storel_epi64((void *)(end - 8), two);
}

/* The bytes of v where `due` has a bit, in order, below p; up to 32 bytes below them are
 * overwritten. */
INLINE uint8_t *shed(__m256i v, uint32_t due, uint8_t *p)
{
    const uint64_t *t = qn_fast_compress_tab;
    const __m256i control =
                      _mm256_set_epi64x((long long)t[due >> 24], (long long)t[due >> 16 & 0xff],
                                        (long long)t[due >> 8 & 0xff], (long long)t[due & 0xff]),
                  upper = _mm256_set_epi64x(0x0808080808080808, 0, 0x0808080808080808, 0),
                  packed = _mm256_shuffle_epi8(v, _mm256_or_si256(control, upper));
    const __m128i a = _mm256_castsi256_si128(packed), b = _mm256_extracti128_si256(packed, 1);
    /* from the top down, as each store spoils what lies below its own bytes */
    put8(p, b, true);
    put8(p - _mm_popcnt_u32(due >> 24), b, false);
    put8(p - _mm_popcnt_u32(due >> 16), a, true);
    put8(p - _mm_popcnt_u32(due >> 8), a, false);
    return p - _mm_popcnt_u32(due);
}

INLINE void run(const tables *t, unsigned n_tabs, bool escapes, qn_fast_estate *st,
                const uint8_t *sym, size_t n)
{
    const __m256i low_bytes = _mm256_set1_epi16(0xff),
                  mask = _mm256_set1_epi8(n_tabs == 1 ? 15 : 63);
    uint8_t *p = st->p, *esc = st->esc;
    for (size_t at = n; at > 0;) {
        at -= 32;
        const size_t g = at & (st->n_streams - 1);
        const __m256i s = _mm256_loadu_si256((const void *)(sym + at)),
                      lo = _mm256_loadu_si256((const void *)(st->lo + g)),
                      hi = _mm256_loadu_si256((const void *)(st->hi + g));
        __m256i index = _mm256_and_si256(s, mask);
        if (escapes) {
            const __m256i hit = _mm256_cmpeq_epi8(s, lookup(t->sym, index, n_tabs));
            index = _mm256_blendv_epi8(t->esc, index, hit);
            for (uint32_t m = ~(uint32_t)_mm256_movemask_epi8(hit); __builtin_expect(m != 0, 0);) {
                const unsigned top = 31 - (unsigned)__builtin_clz(m);
                *--esc = sym[at + top];
                m &= ~(1u << top);
            }
        }
        const __m256i f = lookup(t->freq, index, n_tabs), rl = lookup(t->rcp_lo, index, n_tabs),
                      rh = lookup(t->rcp_hi, index, n_tabs),
                      start = lookup(t->start, index, n_tabs);
        const __m256i due = _mm256_cmpeq_epi8(_mm256_max_epu8(hi, f), hi);
        p = shed(lo, (uint32_t)_mm256_movemask_epi8(due), p);
        const __m256i x_lo = _mm256_blendv_epi8(lo, hi, due), x_hi = _mm256_andnot_si256(due, hi);
        __m256i q0, q1;
        const __m256i
            r0 = divide(
                _mm256_or_si256(_mm256_and_si256(x_lo, low_bytes), _mm256_slli_epi16(x_hi, 8)),
                _mm256_and_si256(f, low_bytes),
                _mm256_or_si256(_mm256_and_si256(rl, low_bytes), _mm256_slli_epi16(rh, 8)), &q0),
            r1 = divide(
                _mm256_or_si256(_mm256_srli_epi16(x_lo, 8), _mm256_andnot_si256(low_bytes, x_hi)),
                _mm256_srli_epi16(f, 8),
                _mm256_or_si256(_mm256_srli_epi16(rl, 8), _mm256_andnot_si256(low_bytes, rh)), &q1);
        _mm256_storeu_si256((void *)(st->lo + g),
                            _mm256_add_epi8(_mm256_or_si256(r0, _mm256_slli_epi16(r1, 8)), start));
        _mm256_storeu_si256((void *)(st->hi + g), _mm256_or_si256(q0, _mm256_slli_epi16(q1, 8)));
    }
    st->p = p;
    st->esc = esc;
}

static TARGET void code(const qn_fast_etab *t, qn_fast_estate *st, const uint8_t *sym, size_t n)
{
    const size_t S = st->n_streams, full = S < 32 ? 0 : n / S * S;
    const bool esc = t->esc != QN_FAST_NO_ESC;
    tables r;
    qn_fast_code_c(t, st, sym + full, n - full);
    if (full == 0)
        return;
    if (tables_load(t, 16, &r) && esc)
        run(&r, 1, true, st, sym, full);
    else if (tables_load(t, 16, &r))
        run(&r, 1, false, st, sym, full);
    else if (tables_load(t, 64, &r))
        run(&r, 4, esc, st, sym, full);
    else
        qn_fast_code_c(t, st, sym, full);
}

static TARGET void symbols(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *sym)
{
    const __m256i ones = _mm256_set1_epi16(kind == QN_FAST_F16 ? 63 : 255);
    size_t i = 0;
    if (kind == QN_FAST_BF16 || kind == QN_FAST_F16)
        for (; i + 32 <= n; i += 32) {
            __m256i a = _mm256_loadu_si256((const void *)(src + 2 * i)),
                    b = _mm256_loadu_si256((const void *)(src + 2 * i + 32));
            a = _mm256_and_si256(
                kind == QN_FAST_BF16 ? _mm256_srli_epi16(a, 7) : _mm256_srli_epi16(a, 9), ones);
            b = _mm256_and_si256(
                kind == QN_FAST_BF16 ? _mm256_srli_epi16(b, 7) : _mm256_srli_epi16(b, 9), ones);
            _mm256_storeu_si256((void *)(sym + i),
                                _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8));
        }
    qn_fast_symbols_c(kind, src + i * 2, n - i, sym + i); /* the other kinds start from i = 0 */
}

static TARGET void raws(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *raw2,
                        uint8_t *raw, size_t n_raw)
{
    const __m256i low_bytes = _mm256_set1_epi16(0xff);
    size_t i = 0;
    if (kind == QN_FAST_BF16)
        for (; i + 32 <= n_raw; i += 32) {
            __m256i a = _mm256_loadu_si256((const void *)(src + 2 * i)),
                    b = _mm256_loadu_si256((const void *)(src + 2 * i + 32));
            a = _mm256_and_si256(_mm256_or_si256(_mm256_slli_epi16(a, 1), _mm256_srli_epi16(a, 15)),
                                 low_bytes);
            b = _mm256_and_si256(_mm256_or_si256(_mm256_slli_epi16(b, 1), _mm256_srli_epi16(b, 15)),
                                 low_bytes);
            _mm256_storeu_si256((void *)(raw + i),
                                _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8));
        }
    qn_fast_raws_c(kind, src + 2 * i, n - i, raw2, raw + i, n_raw - i);
}

/* One byte counter a lane and symbol; lanes that match none are counted one by one. */
static TARGET void count(const uint8_t *sym, size_t n, uint32_t counts[256])
{
    uint8_t common[QN_FAST_COMMON];
    uint64_t sums[QN_FAST_COMMON] = {0};
    size_t i = 0;
    if (!qn_fast_common(sym, n, common)) {
        qn_fast_count_c(sym, n, counts);
        return;
    }
    while (i + 32 <= n) {
        const size_t end = n - i < 255 * 32 ? n / 32 * 32 : i + 255 * 32;
        __m256i acc[QN_FAST_COMMON];
#pragma GCC unroll 12
        for (unsigned c = 0; c < QN_FAST_COMMON; c++)
            acc[c] = _mm256_setzero_si256();
        for (; i < end; i += 32) {
            const __m256i s = _mm256_loadu_si256((const void *)(sym + i));
            __m256i any = _mm256_setzero_si256();
#pragma GCC unroll 12
            for (unsigned c = 0; c < QN_FAST_COMMON; c++) {
                const __m256i hit = _mm256_cmpeq_epi8(s, _mm256_set1_epi8((char)common[c]));
                acc[c] = _mm256_sub_epi8(acc[c], hit);
                any = _mm256_or_si256(any, hit);
            }
            for (uint32_t rest = ~(uint32_t)_mm256_movemask_epi8(any);
                 __builtin_expect(rest != 0, 0); rest &= rest - 1)
                counts[sym[i + (unsigned)__builtin_ctz(rest)]]++;
        }
#pragma GCC unroll 12
        for (unsigned c = 0; c < QN_FAST_COMMON; c++) {
            uint64_t part[4];
            _mm256_storeu_si256((void *)part, _mm256_sad_epu8(acc[c], _mm256_setzero_si256()));
            sums[c] += part[0] + part[1] + part[2] + part[3];
        }
    }
    for (unsigned c = 0; c < QN_FAST_COMMON; c++)
        counts[common[c]] += (uint32_t)sums[c];
    qn_fast_count_c(sym + i, n - i, counts);
}

void qn_ekern_fast_avx2(qn_ekern_fast *k)
{
    k->symbols = symbols;
    k->raws = raws;
    k->count = count;
    k->code = code;
}
#endif
