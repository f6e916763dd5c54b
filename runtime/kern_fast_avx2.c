/* kern_fast_avx2.c: fast codec, AVX2: the same steps as with AVX-512 on 32 streams at a time.
 *
 * There is no 256-entry table in registers here. Instead the sixteenth that a slot lies in gives
 * the rank of the symbol at its start, and comparisons with the few boundaries inside it give the
 * rest; frequency, start and symbol then follow from the rank by 16-entry shuffles, one, two or
 * four of them. Tables with many boundaries in one sixteenth compare with all starts. States stay
 * in memory: 16 registers are needed for the tables. */
#include "runtime/kern_fast.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef struct tables {
    __m256i cell, cut[QN_FAST_CUTS]; /* cut − 1, to be compared by > */
    __m256i freq[4], start[4], sym[4];
    __m256i esc;
    const uint8_t *starts;
    unsigned n;
} tables;

INLINE __m256i twice(const uint8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)p));
}

INLINE tables tables_load(const qn_fast_tab *t)
{
    tables r;
    r.cell = twice(t->cell);
    for (int k = 0; k < QN_FAST_CUTS; k++)
        r.cut[k] = _mm256_sub_epi8(twice(t->cut[k]), _mm256_set1_epi8(1));
    for (int k = 0; k < 4; k++) {
        r.freq[k] = twice(t->r_freq + 16 * k);
        r.start[k] = twice(t->r_start + 16 * k);
        r.sym[k] = twice(t->r_sym + 16 * k);
    }
    r.esc = _mm256_set1_epi8((char)t->esc);
    r.starts = t->r_start;
    r.n = t->n;
    return r;
}

/* 16 n-entry table by rank; a blend looks at the top bit of each byte only. */
INLINE __m256i lookup(const __m256i *t, __m256i rank, unsigned n)
{
    const __m256i a = _mm256_shuffle_epi8(t[0], rank);
    if (n == 1)
        return a;
    const __m256i bit4 = _mm256_slli_epi16(rank, 3),
                  ab = _mm256_blendv_epi8(a, _mm256_shuffle_epi8(t[1], rank), bit4);
    if (n == 2)
        return ab;
    const __m256i cd =
        _mm256_blendv_epi8(_mm256_shuffle_epi8(t[2], rank), _mm256_shuffle_epi8(t[3], rank), bit4);
    return _mm256_blendv_epi8(ab, cd, _mm256_slli_epi16(rank, 2));
}

/* n_cuts 0: compare with all starts. */
INLINE __m256i rank_of(const tables *t, __m256i slot, unsigned n_cuts)
{
    const __m256i low4 = _mm256_set1_epi8(15);
    if (n_cuts == 0) {
        __m256i rank = _mm256_setzero_si256();
        for (unsigned k = 1; k < t->n; k++) {
            const __m256i start = _mm256_set1_epi8((char)t->starts[k]);
            rank = _mm256_sub_epi8(rank, _mm256_cmpeq_epi8(_mm256_max_epu8(slot, start), slot));
        }
        return rank;
    }
    const __m256i c = _mm256_and_si256(_mm256_srli_epi16(slot, 4), low4),
                  in = _mm256_and_si256(slot, low4);
    __m256i rank = _mm256_shuffle_epi8(t->cell, c);
    for (unsigned k = 0; k < n_cuts; k++)
        rank = _mm256_sub_epi8(rank, _mm256_cmpgt_epi8(in, _mm256_shuffle_epi8(t->cut[k], c)));
    return rank;
}

/* The next bytes of code, spread to where `need` has its ones; zero elsewhere. Reads 8 bytes from
 * each of four places, the last at most 24 bytes on. */
INLINE __m256i expand(const uint8_t **p, uint32_t need)
{
    const uint8_t *q = *p;
    const uint8_t *q1 = q + _mm_popcnt_u32(need & 0xff), *q2 = q + _mm_popcnt_u32(need & 0xffff),
                  *q3 = q + _mm_popcnt_u32(need & 0xffffff);
    const __m128i d0 = _mm_castpd_si128(
                      _mm_loadh_pd(_mm_load_sd((const void *)q), (const void *)q1)),
                  d1 = _mm_castpd_si128(
                      _mm_loadh_pd(_mm_load_sd((const void *)q2), (const void *)q3));
    const __m128i s0 = _mm_castpd_si128(
                      _mm_loadh_pd(_mm_load_sd((const void *)&qn_fast_expand_tab[need & 0xff]),
                                   (const void *)&qn_fast_expand_tab[need >> 8 & 0xff])),
                  s1 = _mm_castpd_si128(_mm_loadh_pd(
                      _mm_load_sd((const void *)&qn_fast_expand_tab[need >> 16 & 0xff]),
                      (const void *)&qn_fast_expand_tab[need >> 24]));
    const __m256i d = _mm256_inserti128_si256(_mm256_castsi128_si256(d0), d1, 1),
                  s = _mm256_inserti128_si256(_mm256_castsi128_si256(s0), s1, 1),
                  upper = _mm256_set_epi64x(0x0808080808080808, 0, 0x0808080808080808, 0);
    *p = q + _mm_popcnt_u32(need);
    return _mm256_shuffle_epi8(d, _mm256_or_si256(s, upper));
}

INLINE __m256i ror1_16(__m256i w)
{
    return _mm256_or_si256(_mm256_srli_epi16(w, 1), _mm256_slli_epi16(w, 15));
}

INLINE void put16(__m256i high, __m256i low, uint8_t *dst)
{
    const __m256i a = ror1_16(_mm256_unpacklo_epi8(low, high)),
                  b = ror1_16(_mm256_unpackhi_epi8(low, high));
    _mm256_storeu_si256((void *)dst, _mm256_permute2x128_si256(a, b, 0x20));
    _mm256_storeu_si256((void *)(dst + 32), _mm256_permute2x128_si256(a, b, 0x31));
}

/* Two bits a weight, four weights a byte → one byte a weight. */
INLINE __m256i spread2(const uint8_t *raw2)
{
    const __m256i at = _mm256_set_epi8(7, 7, 7, 7, 6, 6, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 3,
                                       2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    const __m256i bit0 = _mm256_set1_epi32(0x40100401), bit1 = _mm256_set1_epi32((int)0x80200802);
    const __m256i w =
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadl_epi64((const void *)raw2)), at);
    const __m256i is0 = _mm256_cmpeq_epi8(_mm256_and_si256(w, bit0), bit0),
                  is1 = _mm256_cmpeq_epi8(_mm256_and_si256(w, bit1), bit1);
    return _mm256_or_si256(_mm256_and_si256(is0, _mm256_set1_epi8(1)),
                           _mm256_and_si256(is1, _mm256_set1_epi8(2)));
}

INLINE void emit(qn_fast_kind kind, __m256i s, const uint8_t *raw, const uint8_t *raw2,
                 uint8_t *dst)
{
    switch (kind) {
    case QN_FAST_BF16:
        put16(s, _mm256_loadu_si256((const void *)raw), dst);
        break;
    case QN_FAST_F16: /* symbols are below 64: no bits cross bytes */
        put16(_mm256_or_si256(_mm256_slli_epi16(s, 2), spread2(raw2)),
              _mm256_loadu_si256((const void *)raw), dst);
        break;
    case QN_FAST_F32: {
        /* bytes 0–11 of the first half, 4–15 of the second, which is loaded four bytes early: no
         * byte too many */
        const __m256i at = _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, 4,
                                            5, 6, -1, 7, 8, 9, -1, 10, 11, 12, -1, 13, 14, 15, -1);
        const __m128i half[2] = {_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)};
        for (int i = 0; i < 4; i++) {
            const __m256i r = _mm256_inserti128_si256(
                _mm256_castsi128_si256(_mm_loadu_si128((const void *)(raw + 24 * i))),
                _mm_loadu_si128((const void *)(raw + 24 * i + 8)), 1);
            const __m128i e = i & 1 ? _mm_unpackhi_epi64(half[i / 2], half[i / 2]) : half[i / 2];
            const __m256i w = _mm256_or_si256(_mm256_shuffle_epi8(r, at),
                                              _mm256_slli_epi32(_mm256_cvtepu8_epi32(e), 24));
            _mm256_storeu_si256((void *)(dst + 32 * i),
                                _mm256_or_si256(_mm256_srli_epi32(w, 1), _mm256_slli_epi32(w, 31)));
        }
        break;
    }
    default:
        _mm256_storeu_si256((void *)dst, s);
    }
}

/* Puts the escaped symbols in; false when there are too few. */
static TARGET bool replace(__m256i *s, uint32_t m, qn_fast_state *st)
{
    uint8_t b[32];
    if ((size_t)_mm_popcnt_u32(m) > (size_t)(st->esc_end - st->esc))
        return false;
    _mm256_storeu_si256((void *)b, *s);
    for (; m; m &= m - 1)
        b[_tzcnt_u32(m)] = *st->esc++;
    *s = _mm256_loadu_si256((const void *)b);
    return true;
}

INLINE size_t run(qn_fast_kind kind, unsigned n_tabs, unsigned n_cuts, const qn_fast_tab *tab,
                  qn_fast_state *st, size_t n_rounds, const uint8_t *raw, const uint8_t *raw2,
                  uint8_t *dst)
{
    const tables t = tables_load(tab);
    const size_t raw_step = kind == QN_FAST_F32 ? 96 : 32, dst_step = kind == QN_FAST_F32   ? 128
                                                                      : kind == QN_FAST_SYM ? 32
                                                                                            : 64;
    const __m256i low_bytes = _mm256_set1_epi16(0xff);
    const unsigned S = st->n_streams;
    const bool escapes = tab->esc != QN_FAST_NO_ESC;
    const uint8_t *p = st->p;
    size_t r = 0;
    /* S bytes can be consumed; the last load reads no further than that */
    for (; r < n_rounds && (size_t)(st->end - p) >= S; r++) {
        for (unsigned g = 0; g < S; g += 32) {
            const __m256i lo = _mm256_loadu_si256((const void *)(st->lo + g)),
                          hi = _mm256_loadu_si256((const void *)(st->hi + g));
            const __m256i rank = rank_of(&t, lo, n_cuts), freq = lookup(t.freq, rank, n_tabs),
                          rest = _mm256_sub_epi8(lo, lookup(t.start, rank, n_tabs));
            __m256i s = lookup(t.sym, rank, n_tabs);
            const __m256i even =
                              _mm256_add_epi16(_mm256_mullo_epi16(_mm256_and_si256(freq, low_bytes),
                                                                  _mm256_and_si256(hi, low_bytes)),
                                               _mm256_and_si256(rest, low_bytes)),
                          odd = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_srli_epi16(freq, 8),
                                                                    _mm256_srli_epi16(hi, 8)),
                                                 _mm256_srli_epi16(rest, 8));
            const __m256i x_lo = _mm256_or_si256(_mm256_and_si256(even, low_bytes),
                                                 _mm256_slli_epi16(odd, 8)),
                          x_hi = _mm256_or_si256(_mm256_srli_epi16(even, 8),
                                                 _mm256_andnot_si256(low_bytes, odd));
            const __m256i need = _mm256_cmpeq_epi8(x_hi, _mm256_setzero_si256());
            const __m256i next = expand(&p, (uint32_t)_mm256_movemask_epi8(need));
            _mm256_storeu_si256((void *)(st->hi + g),
                                _mm256_or_si256(x_hi, _mm256_and_si256(need, x_lo)));
            _mm256_storeu_si256((void *)(st->lo + g),
                                _mm256_or_si256(_mm256_andnot_si256(need, x_lo), next));
            if (escapes) {
                const uint32_t m = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(s, t.esc));
                if (__builtin_expect(m != 0, 0) && !replace(&s, m, st)) {
                    st->failed = true;
                    st->p = p;
                    return r;
                }
            }
            emit(kind, s, raw, raw2, dst);
            if (kind != QN_FAST_SYM) /* these are NULL where there are none */
                raw += raw_step;
            if (kind == QN_FAST_F16)
                raw2 += 8;
            dst += dst_step;
        }
    }
    st->p = p;
    return r;
}

INLINE size_t dispatch(qn_fast_kind kind, const qn_fast_tab *t, qn_fast_state *st, size_t n,
                       const uint8_t *raw, const uint8_t *raw2, uint8_t *dst)
{
    if (st->n_streams < 32)
        return 0;
    if (t->n_cuts > QN_FAST_CUTS || t->n > 32)
        return run(kind, 4, 0, t, st, n, raw, raw2, dst);
    if (t->n > 16)
        return t->n_cuts <= 4 ? run(kind, 2, 4, t, st, n, raw, raw2, dst)
                              : run(kind, 2, 8, t, st, n, raw, raw2, dst);
    return t->n_cuts <= 2   ? run(kind, 1, 2, t, st, n, raw, raw2, dst)
           : t->n_cuts <= 3 ? run(kind, 1, 3, t, st, n, raw, raw2, dst)
           : t->n_cuts <= 4 ? run(kind, 1, 4, t, st, n, raw, raw2, dst)
                            : run(kind, 1, 8, t, st, n, raw, raw2, dst);
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

void qn_kern_fast_avx2(qn_kern_fast *k)
{
    k->run[QN_FAST_SYM] = run_sym;
    k->run[QN_FAST_BF16] = run_bf16;
    k->run[QN_FAST_F16] = run_f16;
    k->run[QN_FAST_F32] = run_f32;
}
#endif
