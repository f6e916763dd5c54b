/* kern_fast_avx512.c: fast codec, AVX-512 with VBMI and VBMI2: no memory access but code in, raw
 * bits in, weights out.
 *
 * 64 streams fill two registers, one with the low bytes of the states and one with the high ones.
 * Then the slot is the low register as it is, "needs a byte" is "the high byte is zero", and taking
 * a byte is a move and an expanding load. All tables live in registers: slot → symbol is two
 * two-register permutes, frequency and start are 64-entry permutes indexed by the low six bits of
 * the symbol, which is why symbols must be distinct mod 64. The only dependency from one group of
 * 64 to the next is the code pointer; 256 streams keep four groups in flight and hide the latency
 * of the rest. */
#include "runtime/kern_fast.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET                                                                                     \
    __attribute__((                                                                                \
        target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef struct tables {
    __m512i sym[4], freq, start, esc;
} tables;

INLINE tables tables_load(const qn_fast_tab *t)
{
    tables r;
    for (int i = 0; i < 4; i++)
        r.sym[i] = _mm512_loadu_si512(t->sym + 64 * i);
    r.freq = _mm512_loadu_si512(t->freq);
    r.start = _mm512_loadu_si512(t->start);
    r.esc = _mm512_set1_epi8((char)t->esc);
    return r;
}

/* Where the streams read: pointers of qn_fast_state, kept in registers. */
typedef struct feed {
    const uint8_t *p, *esc, *esc_end;
    bool failed;
} feed;

/* One symbol of each of 64 streams. 64 bytes at f->p may be read. */
INLINE __m512i step(const tables *t, __m512i *lo, __m512i *hi, feed *f, bool escapes)
{
    const __m512i low_bytes = _mm512_set1_epi16(0xff);
    const __m512i a = _mm512_permutex2var_epi8(t->sym[0], *lo, t->sym[1]),
                  b = _mm512_permutex2var_epi8(t->sym[2], *lo, t->sym[3]);
    __m512i s = _mm512_mask_blend_epi8(_mm512_movepi8_mask(*lo), a, b);
    const __m512i freq = _mm512_permutexvar_epi8(s, t->freq),
                  rest = _mm512_sub_epi8(*lo, _mm512_permutexvar_epi8(s, t->start));
    /* 8 × 8 → 16 bits: even bytes and odd bytes in turn; freq × hi + rest stays below 2^16 */
    const __m512i even = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_and_si512(freq, low_bytes),
                                                             _mm512_and_si512(*hi, low_bytes)),
                                          _mm512_and_si512(rest, low_bytes)),
                  odd = _mm512_add_epi16(_mm512_mulhi_epu16(_mm512_andnot_si512(low_bytes, freq),
                                                            _mm512_andnot_si512(low_bytes, *hi)),
                                         _mm512_srli_epi16(rest, 8));
    /* bit select: where low_bytes is 1 the first, else the second (0xca) */
    __m512i x_lo = _mm512_ternarylogic_epi64(low_bytes, even, _mm512_slli_epi16(odd, 8), 0xca);
    __m512i x_hi = _mm512_ternarylogic_epi64(low_bytes, _mm512_srli_epi16(even, 8), odd, 0xca);
    const __mmask64 need = _mm512_testn_epi8_mask(x_hi, x_hi);
    *hi = _mm512_mask_mov_epi8(x_hi, need, x_lo);
    __m512i next = _mm512_loadu_si512(f->p);
    __asm__(
        ""
        : "+v"(
            next)); /* kept apart from the expansion: with a memory operand some processors crawl */
    *lo = _mm512_mask_expand_epi8(x_lo, need, next);
    f->p += _mm_popcnt_u64(need);
    if (escapes) {
        const __mmask64 m = _mm512_cmpeq_epi8_mask(s, t->esc);
        if (__builtin_expect(m != 0, 0)) {
            const size_t n = (size_t)_mm_popcnt_u64(m), left = (size_t)(f->esc_end - f->esc);
            if (n > left) {
                f->failed = true;
            } else {
                s = _mm512_mask_expand_epi8(
                    s, m, _mm512_maskz_loadu_epi8(_bzhi_u64(~UINT64_C(0), (unsigned)n), f->esc));
                f->esc += n;
            }
        }
    }
    return s;
}

/* Adjacent halves of 16-bit words from two registers of bytes: index 64 + i is byte i of the
 * second. */
static const uint8_t pair_lo[64] __attribute__((aligned(64))) = {
    0,  64, 1,  65, 2,  66, 3,  67, 4,  68, 5,  69, 6,  70, 7,  71, 8,  72, 9,  73, 10, 74,
    11, 75, 12, 76, 13, 77, 14, 78, 15, 79, 16, 80, 17, 81, 18, 82, 19, 83, 20, 84, 21, 85,
    22, 86, 23, 87, 24, 88, 25, 89, 26, 90, 27, 91, 28, 92, 29, 93, 30, 94, 31, 95};
/* Three bytes of the first register and one of the second: sixteen weights of 32 bits. */
static const uint8_t quad[64] __attribute__((aligned(64))) = {
    0,  1,  2,  64, 3,  4,  5,  65, 6,  7,  8,  66, 9,  10, 11, 67, 12, 13, 14, 68, 15, 16,
    17, 69, 18, 19, 20, 70, 21, 22, 23, 71, 24, 25, 26, 72, 27, 28, 29, 73, 30, 31, 32, 74,
    33, 34, 35, 75, 36, 37, 38, 76, 39, 40, 41, 77, 42, 43, 44, 78, 45, 46, 47, 79};

INLINE __m512i ror1_16(__m512i w)
{
    return _mm512_shrdi_epi16(w, w, 1);
}

INLINE void put16(__m512i high, __m512i low, uint8_t *dst)
{
    const __m512i first = _mm512_load_si512(pair_lo),
                  second = _mm512_add_epi8(first, _mm512_set1_epi8(32));
    _mm512_storeu_si512(dst, ror1_16(_mm512_permutex2var_epi8(low, first, high)));
    _mm512_storeu_si512(dst + 64, ror1_16(_mm512_permutex2var_epi8(low, second, high)));
}

/* Two bits a weight, four weights a byte → one byte a weight. */
INLINE __m512i spread2(const uint8_t *raw2)
{
    const __m512i words = _mm512_cvtepu16_epi64(_mm_loadu_si128((const void *)raw2)),
                  shifts = _mm512_set1_epi64(0x0e0c0a0806040200);
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, words), _mm512_set1_epi8(3));
}

INLINE void emit(qn_fast_kind kind, __m512i s, const uint8_t *raw, const uint8_t *raw2,
                 uint8_t *dst)
{
    switch (kind) {
    case QN_FAST_BF16:
        put16(s, _mm512_loadu_si512(raw), dst);
        break;
    case QN_FAST_F16: /* symbols are below 64: no bits cross bytes */
        put16(_mm512_or_si512(_mm512_slli_epi16(s, 2), spread2(raw2)), _mm512_loadu_si512(raw),
              dst);
        break;
    case QN_FAST_F32:
        for (int i = 0; i < 4; i++) {
            const __m512i at =
                _mm512_add_epi8(_mm512_load_si512(quad),
                                _mm512_maskz_set1_epi8(0x8888888888888888, (char)(16 * i)));
            const __m512i r = i < 3 ? _mm512_loadu_si512(raw + 48 * i)
                                    : _mm512_maskz_loadu_epi8(0xffffffffffff, raw + 144);
            _mm512_storeu_si512(dst + 64 * i,
                                _mm512_ror_epi32(_mm512_permutex2var_epi8(r, at, s), 1));
        }
        break;
    default:
        _mm512_storeu_si512(dst, s);
    }
}

/* A store that misses waits for its line to be read first, and a full store queue stops everything.
 * So lines are asked for this many bytes ahead. Measured from DRAM to DRAM: 3 to 12 % faster for 16
 * bits, 12 % slower for 32, and slower for what is read. May point past the end, where it does
 * nothing. */
INLINE void claim(const uint8_t *dst, size_t n_bytes)
{
    enum { AHEAD = 2048 };
    for (size_t i = 0; i < n_bytes; i += 64)
        _mm_prefetch((const char *)((uintptr_t)dst + AHEAD + i), _MM_HINT_T0);
}

/* G groups of 64 streams; kind, G and escapes are constants after inlining. */
INLINE size_t run(qn_fast_kind kind, unsigned G, bool escapes, const qn_fast_tab *tab,
                  qn_fast_state *st, size_t n_rounds, const uint8_t *raw, const uint8_t *raw2,
                  uint8_t *dst)
{
    const tables t = tables_load(tab);
    const size_t raw_step = kind == QN_FAST_F32 ? 192 : 64, dst_step = kind == QN_FAST_F32   ? 256
                                                                       : kind == QN_FAST_SYM ? 64
                                                                                             : 128;
    __m512i lo[4], hi[4];
    feed f = {st->p, st->esc, st->esc_end, false};
    size_t r = 0;
    for (unsigned g = 0; g < G; g++) {
        lo[g] = _mm512_loadu_si512(st->lo + 64 * g);
        hi[g] = _mm512_loadu_si512(st->hi + 64 * g);
    }
    /* 64 G bytes can be consumed, the last load of 64 starts 64 (G − 1) on at the most */
    for (; r < n_rounds && (size_t)(st->end - f.p) >= 64 * (size_t)G; r++) {
#pragma GCC unroll 4
        for (unsigned g = 0; g < G; g++) {
            const __m512i s = step(&t, &lo[g], &hi[g], &f, escapes);
            if (kind == QN_FAST_BF16 || kind == QN_FAST_F16)
                claim(dst, dst_step);
            emit(kind, s, raw, raw2, dst);
            if (kind != QN_FAST_SYM) /* these are NULL where there are none */
                raw += raw_step;
            if (kind == QN_FAST_F16)
                raw2 += 16;
            dst += dst_step;
        }
        if (escapes && f.failed)
            break;
    }
    for (unsigned g = 0; g < G; g++) {
        _mm512_storeu_si512(st->lo + 64 * g, lo[g]);
        _mm512_storeu_si512(st->hi + 64 * g, hi[g]);
    }
    st->p = f.p;
    st->esc = f.esc;
    st->failed |= f.failed;
    return r;
}

INLINE size_t dispatch(qn_fast_kind kind, const qn_fast_tab *t, qn_fast_state *st, size_t n,
                       const uint8_t *raw, const uint8_t *raw2, uint8_t *dst)
{
    const bool esc = t->esc != QN_FAST_NO_ESC;
    switch (st->n_streams) {
    case 256:
        return esc ? run(kind, 4, true, t, st, n, raw, raw2, dst)
                   : run(kind, 4, false, t, st, n, raw, raw2, dst);
    case 128:
        return run(kind, 2, esc, t, st, n, raw, raw2, dst);
    case 64:
        return run(kind, 1, esc, t, st, n, raw, raw2, dst);
    default:
        return 0;
    }
}

#define KERNEL(name, kind)                                                                         \
    static TARGET size_t name(const qn_fast_tab *t, qn_fast_state *st, size_t n,                   \
                              const uint8_t *raw, const uint8_t *raw2, uint8_t *dst)               \
    {                                                                                              \
        return dispatch(kind, t, st, n, raw, raw2, dst);                                           \
    }
KERNEL(run_sym, QN_FAST_SYM)
KERNEL(run_bf16, QN_FAST_BF16)
KERNEL(run_f16, QN_FAST_F16)
KERNEL(run_f32, QN_FAST_F32)

void qn_kern_fast_avx512(qn_kern_fast *k)
{
    k->run[QN_FAST_SYM] = run_sym;
    k->run[QN_FAST_BF16] = run_bf16;
    k->run[QN_FAST_F16] = run_f16;
    k->run[QN_FAST_F32] = run_f32;
}
#endif
