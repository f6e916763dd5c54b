/* ekern_fast_avx512.c: fast encoder, AVX-512 with VBMI and VBMI2: the decoder's layout of states,
 * run backwards.
 *
 * The division by the frequency is a multiplication by ⌊65536 / freq⌋: for x < 2^16 the product's
 * high half is the quotient or one less, because x (1 / freq − rcp / 65536) < x / 65536 < 1, so one
 * comparison corrects it. */
#include "compress/ekern_fast.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET                                                                                     \
    __attribute__((target(                                                                         \
        "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2,lzcnt,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef struct tables {
    __m512i sym, freq, start, rcp_lo, rcp_hi, esc;
} tables;

INLINE tables tables_load(const qn_fast_etab *t)
{
    uint8_t sym[64];
    tables r;
    /* the coded symbol of a residue; where there is none, a byte of another residue, which no
     * symbol equals */
    for (unsigned k = 0; k < 64; k++)
        sym[k] = (uint8_t)(k ^ 1);
    for (unsigned v = 0; v < 256; v++)
        if (t->map[v] == v && v != t->esc && t->freq[v & 63])
            sym[v & 63] = (uint8_t)v;
    r.sym = _mm512_loadu_si512(sym);
    r.freq = _mm512_loadu_si512(t->freq);
    r.start = _mm512_loadu_si512(t->start);
    r.rcp_lo = _mm512_loadu_si512(t->rcp_lo);
    r.rcp_hi = _mm512_loadu_si512(t->rcp_hi);
    r.esc = _mm512_set1_epi8((char)t->esc);
    return r;
}

/* x / f and x mod f in 16-bit lanes; returns the remainder, quotient in *q. */
INLINE __m512i divide(__m512i x, __m512i f, __m512i rcp, __m512i *q)
{
    const __m512i est = _mm512_mulhi_epu16(x, rcp),
                  r = _mm512_sub_epi16(x, _mm512_mullo_epi16(est, f));
    *q = _mm512_mask_sub_epi16(est, _mm512_cmpge_epu16_mask(r, f), est, _mm512_set1_epi16(-1));
    return _mm512_min_epu16(
        r, _mm512_sub_epi16(r, f)); /* the wrong one of the two has wrapped or is larger */
}

/* Codes one symbol in each of 64 streams; the bytes they shed go below p. */
INLINE uint8_t *step(const tables *t, __m512i *lo, __m512i *hi, __m512i s, uint8_t *p)
{
    const __m512i low_bytes = _mm512_set1_epi16(0xff);
    const __m512i f = _mm512_permutexvar_epi8(s, t->freq),
                  rl = _mm512_permutexvar_epi8(s, t->rcp_lo),
                  rh = _mm512_permutexvar_epi8(s, t->rcp_hi);
    const __mmask64 due = _mm512_cmpge_epu8_mask(*hi, f);
    const unsigned n = (unsigned)_mm_popcnt_u64(due);
    const __m512i shed = _mm512_maskz_compress_epi8(due, *lo);
    p -= n;
    _mm512_mask_storeu_epi8(p, _bzhi_u64(~UINT64_C(0), n), shed);
    const __m512i x_lo = _mm512_mask_mov_epi8(*lo, due, *hi),
                  x_hi = _mm512_maskz_mov_epi8(~due, *hi);
    __m512i q0, q1;
    /* bit select: where low_bytes is 1 the first, else the second (0xca) */
    const __m512i r0 = divide(
                      _mm512_ternarylogic_epi64(low_bytes, x_lo, _mm512_slli_epi16(x_hi, 8), 0xca),
                      _mm512_and_si512(f, low_bytes),
                      _mm512_ternarylogic_epi64(low_bytes, rl, _mm512_slli_epi16(rh, 8), 0xca),
                      &q0),
                  r1 = divide(
                      _mm512_ternarylogic_epi64(low_bytes, _mm512_srli_epi16(x_lo, 8), x_hi, 0xca),
                      _mm512_srli_epi16(f, 8),
                      _mm512_ternarylogic_epi64(low_bytes, _mm512_srli_epi16(rl, 8), rh, 0xca),
                      &q1);
    *lo = _mm512_add_epi8(_mm512_or_si512(r0, _mm512_slli_epi16(r1, 8)),
                          _mm512_permutexvar_epi8(s, t->start));
    *hi = _mm512_or_si512(q0, _mm512_slli_epi16(q1, 8));
    return p;
}

INLINE void run(const tables *t, bool escapes, unsigned G, qn_fast_estate *st, const uint8_t *sym,
                size_t n_rounds)
{
    __m512i lo[4], hi[4];
    uint8_t *p = st->p, *esc = st->esc;
    for (unsigned g = 0; g < G; g++) {
        lo[g] = _mm512_loadu_si512(st->lo + 64 * g);
        hi[g] = _mm512_loadu_si512(st->hi + 64 * g);
    }
    sym += 64 * G * n_rounds;
    for (size_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 4
        for (unsigned g = G; g-- > 0;) {
            sym -= 64;
            __m512i s = _mm512_loadu_si512(sym);
            if (escapes) {
                __mmask64 m = _mm512_cmpneq_epi8_mask(s, _mm512_permutexvar_epi8(s, t->sym));
                s = _mm512_mask_mov_epi8(s, m, t->esc);
                for (; __builtin_expect(m != 0, 0); m &= ~(UINT64_C(1) << (63 - _lzcnt_u64(m))))
                    *--esc = sym[63 - _lzcnt_u64(m)];
            }
            p = step(t, &lo[g], &hi[g], s, p);
        }
    }
    for (unsigned g = 0; g < G; g++) {
        _mm512_storeu_si512(st->lo + 64 * g, lo[g]);
        _mm512_storeu_si512(st->hi + 64 * g, hi[g]);
    }
    st->p = p;
    st->esc = esc;
}

static TARGET void code(const qn_fast_etab *t, qn_fast_estate *st, const uint8_t *sym, size_t n)
{
    const size_t S = st->n_streams, full = S < 64 ? 0 : n / S * S;
    if (S < 64) {
        qn_fast_code_c(t, st, sym, n);
        return;
    }
    qn_fast_code_c(t, st, sym + full, n - full);
    const tables r = tables_load(t);
    const bool esc = t->esc != QN_FAST_NO_ESC;
    if (S == 256 && esc)
        run(&r, true, 4, st, sym, n / S);
    else if (S == 256)
        run(&r, false, 4, st, sym, n / S);
    else
        run(&r, esc, (unsigned)(S / 64), st, sym, n / S);
}

static TARGET void count(const uint8_t *sym, size_t n, uint32_t counts[256])
{
    uint8_t common[QN_FAST_COMMON], table[64];
    size_t i = 0;
    if (!qn_fast_common(sym, n, common)) {
        qn_fast_count_c(sym, n, counts);
        return;
    }
    for (unsigned k = 0; k < 64; k++)
        table[k] = (uint8_t)(k ^ 1);
    for (unsigned c = 0; c < QN_FAST_COMMON; c++)
        table[common[c] & 63] = common[c];
    const __m512i one = _mm512_set1_epi8(1), residues = _mm512_loadu_si512(table);
    __m512i want[QN_FAST_COMMON], sum[QN_FAST_COMMON];
#pragma GCC unroll 12
    for (unsigned c = 0; c < QN_FAST_COMMON; c++) {
        want[c] = _mm512_set1_epi8((char)common[c]);
        sum[c] = _mm512_setzero_si512();
    }
    while (i + 64 <= n) {
        const size_t end = n - i < 255 * 64 ? n / 64 * 64 : i + 255 * 64;
        __m512i acc[QN_FAST_COMMON];
#pragma GCC unroll 12
        for (unsigned c = 0; c < QN_FAST_COMMON; c++)
            acc[c] = _mm512_setzero_si512();
        for (; i < end; i += 64) {
            const __m512i s = _mm512_loadu_si512(sym + i);
            __mmask64 rest = _mm512_cmpneq_epi8_mask(s, _mm512_permutexvar_epi8(s, residues));
#pragma GCC unroll 12
            for (unsigned c = 0; c < QN_FAST_COMMON; c++)
                acc[c] =
                    _mm512_mask_add_epi8(acc[c], _mm512_cmpeq_epi8_mask(s, want[c]), acc[c], one);
            for (; __builtin_expect(rest != 0, 0); rest &= rest - 1)
                counts[sym[i + _tzcnt_u64(rest)]]++;
        }
#pragma GCC unroll 12
        for (unsigned c = 0; c < QN_FAST_COMMON; c++)
            sum[c] = _mm512_add_epi64(sum[c], _mm512_sad_epu8(acc[c], _mm512_setzero_si512()));
    }
    for (unsigned c = 0; c < QN_FAST_COMMON; c++)
        counts[common[c]] += (uint32_t)_mm512_reduce_add_epi64(sum[c]);
    qn_fast_count_c(sym + i, n - i, counts);
}

static const uint8_t even_bytes[64] __attribute__((aligned(64))) = {
    0,  2,  4,   6,   8,   10,  12,  14,  16,  18,  20,  22,  24,  26,  28,  30,
    32, 34, 36,  38,  40,  42,  44,  46,  48,  50,  52,  54,  56,  58,  60,  62,
    64, 66, 68,  70,  72,  74,  76,  78,  80,  82,  84,  86,  88,  90,  92,  94,
    96, 98, 100, 102, 104, 106, 108, 110, 112, 114, 116, 118, 120, 122, 124, 126};
static const uint8_t three_of_four[64] __attribute__((aligned(64))) = {
    0,  1,  2,  4,  5,  6,  8,  9,  10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26, 28,
    29, 30, 32, 33, 34, 36, 37, 38, 40, 41, 42, 44, 45, 46, 48, 49, 50, 52, 53, 54, 56, 57,
    58, 60, 61, 62, 0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0};

static TARGET void symbols(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *sym)
{
    const __m512i even = _mm512_load_si512(even_bytes);
    size_t i = 0;
    if (kind == QN_FAST_F32)
        for (; i + 16 <= n; i += 16)
            _mm_storeu_si128((void *)(sym + i), _mm512_cvtepi32_epi8(_mm512_srli_epi32(
                                                    _mm512_loadu_si512(src + 4 * i), 23)));
    else if (kind != QN_FAST_SYM)
        for (; i + 64 <= n; i += 64) {
            const __m512i a = _mm512_loadu_si512(src + 2 * i),
                          b = _mm512_loadu_si512(src + 2 * i + 64);
            const __m512i s =
                kind == QN_FAST_BF16
                    ? _mm512_permutex2var_epi8(_mm512_srli_epi16(a, 7), even,
                                               _mm512_srli_epi16(b, 7))
                    : _mm512_and_si512(_mm512_permutex2var_epi8(_mm512_srli_epi16(a, 9), even,
                                                                _mm512_srli_epi16(b, 9)),
                                       _mm512_set1_epi8(63));
            _mm512_storeu_si512(sym + i, s);
        }
    qn_fast_symbols_c(kind,
                      src + i * (kind == QN_FAST_F32   ? 4
                                 : kind == QN_FAST_SYM ? 1
                                                       : 2),
                      n - i, sym + i);
}

static TARGET void raws(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *raw2,
                        uint8_t *raw, size_t n_raw)
{
    const __m512i even = _mm512_load_si512(even_bytes), three = _mm512_load_si512(three_of_four);
    size_t i = 0;
    if (kind == QN_FAST_F32) {
        for (; 3 * i + 64 <= n_raw; i += 16) /* sixteen bytes too many, overwritten by the next */
            _mm512_storeu_si512(raw + 3 * i,
                                _mm512_permutexvar_epi8(
                                    three, _mm512_rol_epi32(_mm512_loadu_si512(src + 4 * i), 1)));
        qn_fast_raws_c(kind, src + 4 * i, n - i, NULL, raw + 3 * i, n_raw - 3 * i);
        return;
    }
    for (; i + 64 <= n_raw; i += 64) {
        const __m512i a = _mm512_loadu_si512(src + 2 * i), b = _mm512_loadu_si512(src + 2 * i + 64);
        _mm512_storeu_si512(raw + i, _mm512_permutex2var_epi8(_mm512_shldi_epi16(a, a, 1), even,
                                                              _mm512_shldi_epi16(b, b, 1)));
        if (kind == QN_FAST_F16) {
            const __m512i two = _mm512_and_si512(
                _mm512_permutex2var_epi8(_mm512_srli_epi16(a, 7), even, _mm512_srli_epi16(b, 7)),
                _mm512_set1_epi8(3));
            const __m512i four = _mm512_maddubs_epi16(two, _mm512_set1_epi16(0x0401)),
                          eight = _mm512_madd_epi16(four, _mm512_set1_epi32(0x00100001));
            _mm_storeu_si128((void *)(raw2 + i / 4), _mm512_cvtepi32_epi8(eight));
        }
    }
    qn_fast_raws_c(kind, src + 2 * i, n - i, kind == QN_FAST_F16 ? raw2 + i / 4 : NULL, raw + i,
                   n_raw - i);
}

void qn_ekern_fast_avx512(qn_ekern_fast *k)
{
    k->symbols = symbols;
    k->raws = raws;
    k->count = count;
    k->code = code;
}
#endif
