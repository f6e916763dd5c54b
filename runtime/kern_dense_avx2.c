/* kern_dense_avx2.c: 32 lanes a turn as two vectors of 16 halves; the arithmetic is that of kern_dense.h.
 *
 * AVX2 permutes bytes within 16 only, so a table of 64 bytes is four shuffles. A shuffle gives 0 where the index has its top
 * bit set: with tables t0, t0^t1, t1^t2, t2^t3 and indices i, i−16, i−32, i−48, the xor of all four is t[i] for i < 64,
 * for every later table cancels the one before. 256 entries are the same with sixteen, in two halves by the top bit. All
 * tables are bytes: symbol, rank at which `other` begins (split in a high nibble's place when it fits), frequency.
 *
 * Taking words: for 8 lanes, a mask of those below 2^16 selects a byte shuffle that spreads the next words over them. */
#if defined(__x86_64__)
#include "runtime/kern_dense_merge.h"
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))

typedef struct vec { /* 16 lanes */
    __m256i lo, hi;
} vec;

/* Shuffles by mask of eight lanes: lane i gets word number (lanes of the mask below i), others zero. */
typedef struct spread {
    uint8_t order[256][16];
} spread;

static void spread_make(spread *s)
{
    for (unsigned m = 0; m < 256; m++)
        for (unsigned i = 0, next = 0; i < 8; i++) {
            const unsigned take = m >> i & 1;
            s->order[m][2 * i] = (uint8_t)(take ? 2 * next : 0x80);
            s->order[m][2 * i + 1] = (uint8_t)(take ? 2 * next + 1 : 0x80);
            next += take;
        }
}

INLINE __m256i pair(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)a)),
                                   _mm_loadu_si128((const __m128i *)(const void *)b), 1);
}

/* x := f·(x >> 12) + off, then a word for every lane below 2^16; returns the words' new place. */
INLINE const uint8_t *advance(vec *v, __m256i f16, __m256i off, const spread *s, const uint8_t *p)
{
    const __m256i carried = _mm256_add_epi16(
        _mm256_mulhi_epu16(f16, _mm256_and_si256(v->lo, _mm256_set1_epi16((short)0xf000))), off);
    const __m256i lo = _mm256_add_epi16(_mm256_mullo_epi16(f16, v->hi), carried);
    const __m256i no_carry = _mm256_cmpeq_epi16(_mm256_max_epu16(lo, carried), lo);
    const __m256i hi = _mm256_sub_epi16(_mm256_mulhi_epu16(f16, v->hi), _mm256_andnot_si256(no_carry, _mm256_set1_epi16(-1)));
    const __m256i below = _mm256_cmpeq_epi16(hi, _mm256_setzero_si256());
    const unsigned bits = (unsigned)_mm256_movemask_epi8(_mm256_packs_epi16(below, below));
    const unsigned first = bits & 0xff, second = bits >> 16 & 0xff;
    const uint8_t *const q = p + 2 * (size_t)__builtin_popcount(first);
    const __m256i words = _mm256_shuffle_epi8(pair(p, q), pair(s->order[first], s->order[second]));
    v->hi = _mm256_blendv_epi8(hi, lo, below);
    v->lo = _mm256_blendv_epi8(lo, words, below);
    return q + 2 * (size_t)__builtin_popcount(second);
}

/* Tables of bytes, 16 a register, in both halves of it, each but the first xored with the one before. */
typedef struct tab {
    __m256i split[16], other[16], rank_lo[16], rank_hi[16], freq_lo[16], freq_hi[16], map[16];
} tab;

TARGET static void chain(const uint8_t *t, unsigned n, __m256i *out)
{
    __m128i last = _mm_setzero_si128();
    for (unsigned i = 0; i < n / 16; i++) {
        const __m128i now = _mm_loadu_si128((const __m128i *)(const void *)(t + 16 * i));
        /* tables of 256: the chain starts anew at 128, where indices' top bits change */
        out[i] = _mm256_broadcastsi128_si256(i == 8 ? now : _mm_xor_si128(now, last));
        last = now;
    }
}

INLINE __m256i pick64(const __m256i *t, const __m256i i[4])
{
    return _mm256_xor_si256(_mm256_xor_si256(_mm256_shuffle_epi8(t[0], i[0]), _mm256_shuffle_epi8(t[1], i[1])),
                            _mm256_xor_si256(_mm256_shuffle_epi8(t[2], i[2]), _mm256_shuffle_epi8(t[3], i[3])));
}

INLINE void steps64(__m256i i, __m256i out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = _mm256_sub_epi8(i, _mm256_set1_epi8((char)(16 * k)));
}

/* i < 128 in lower, i ≥ 128 gives 0 there; the other way round for upper. */
INLINE __m256i pick256(const __m256i *t, __m256i i)
{
    __m256i a = _mm256_setzero_si256(), b = a, lower = i, upper = _mm256_xor_si256(i, _mm256_set1_epi8((char)0x80));
    for (int k = 0; k < 8; k++) {
        /* signed saturation keeps negative indices negative */
        a = _mm256_xor_si256(a, _mm256_shuffle_epi8(t[k], lower));
        b = _mm256_xor_si256(b, _mm256_shuffle_epi8(t[8 + k], upper));
        lower = _mm256_subs_epi8(lower, _mm256_set1_epi8(16));
        upper = _mm256_subs_epi8(upper, _mm256_set1_epi8(16));
    }
    return _mm256_xor_si256(a, b);
}

/* 32 lanes: v[0] lanes 0 … 15, v[1] the others. Bytes of both are packed in the order that packing gives within 128 bits;
 * interleaving with unpack restores the lanes' own order. */
INLINE const uint8_t *step(vec v[2], const tab *t, const spread *s, const uint8_t *p, uint8_t *dst, const bool wide)
{
    const __m256i in_mask = _mm256_set1_epi16(wide ? 15 : 63), slot_mask = _mm256_set1_epi16(0xfff);
    const int shift = wide ? 4 : 6;
    const __m256i bucket = _mm256_packus_epi16(_mm256_srli_epi16(_mm256_and_si256(v[0].lo, slot_mask), shift),
                                               _mm256_srli_epi16(_mm256_and_si256(v[1].lo, slot_mask), shift));
    const __m256i in = _mm256_packus_epi16(_mm256_and_si256(v[0].lo, in_mask), _mm256_and_si256(v[1].lo, in_mask));
    __m256i at[4], split, other, rank_lo, rank_hi, freq_lo, freq_hi;
    if (wide) {
        split = pick256(t->split, bucket);
        other = pick256(t->other, bucket);
        rank_lo = pick256(t->rank_lo, bucket);
        rank_hi = pick256(t->rank_hi, bucket);
    } else {
        steps64(bucket, at);
        split = pick64(t->split, at);
        other = pick64(t->other, at);
        rank_lo = pick64(t->rank_lo, at);
        rank_hi = pick64(t->rank_hi, at);
    }
    const __m256i is_other = _mm256_cmpeq_epi8(_mm256_max_epu8(in, split), in);
    const __m256i sym = _mm256_blendv_epi8(bucket, other, is_other);
    __m256i out = sym;
    if (wide) {
        freq_lo = pick256(t->freq_lo, sym);
        freq_hi = pick256(t->freq_hi, sym);
    } else {
        steps64(sym, at);
        freq_lo = pick64(t->freq_lo, at);
        freq_hi = pick64(t->freq_hi, at);
        out = pick64(t->map, at);
    }
    rank_lo = _mm256_and_si256(rank_lo, is_other);
    rank_hi = _mm256_and_si256(rank_hi, is_other);
    const __m256i none = _mm256_setzero_si256();
    /* adj may be negative modulo 2^16: the sum with the place in the bucket is below 2^12 */
    const __m256i off0 = _mm256_add_epi16(_mm256_unpacklo_epi8(rank_lo, rank_hi), _mm256_unpacklo_epi8(in, none));
    const __m256i off1 = _mm256_add_epi16(_mm256_unpackhi_epi8(rank_lo, rank_hi), _mm256_unpackhi_epi8(in, none));
    p = advance(&v[0], _mm256_unpacklo_epi8(freq_lo, freq_hi), off0, s, p);
    p = advance(&v[1], _mm256_unpackhi_epi8(freq_lo, freq_hi), off1, s, p);
    _mm256_storeu_si256((__m256i *)(void *)dst, _mm256_permute4x64_epi64(out, 0xd8));
    return p;
}

TARGET static void tab_make(tab *t, const qn_rans_tab *from, bool wide)
{
    const unsigned n = wide ? 256 : 64, each = QN_RANS_M / n;
    uint8_t b[7][256];
    for (unsigned i = 0; i < n; i++) {
        b[0][i] = (uint8_t)(from->split[i] - i * each); /* 0 … each − 1 */
        b[1][i] = (uint8_t)from->other[i];
        b[2][i] = (uint8_t)from->adj[i];
        b[3][i] = (uint8_t)(from->adj[i] >> 8);
        b[4][i] = (uint8_t)from->freq16[i];
        b[5][i] = (uint8_t)(from->freq16[i] >> 8);
        b[6][i] = wide ? 0 : from->map[i];
    }
    chain(b[0], n, t->split);
    chain(b[1], n, t->other);
    chain(b[2], n, t->rank_lo);
    chain(b[3], n, t->rank_hi);
    chain(b[4], n, t->freq_lo);
    chain(b[5], n, t->freq_hi);
    chain(b[6], n, t->map);
}

INLINE size_t run(qn_rans *s, const tab *t, const spread *sp, uint8_t *dst, size_t n, const int n_pair, const bool wide)
{
    const ptrdiff_t room = 64 * n_pair + 16;
    const size_t per = 32 * (size_t)n_pair;
    const uint8_t *p = s->p;
    size_t done = 0;
    vec v[16];
    for (int i = 0; i < 2 * n_pair; i++)
        v[i] = (vec){_mm256_loadu_si256((const __m256i *)(const void *)(s->lo + 16 * i)),
                     _mm256_loadu_si256((const __m256i *)(const void *)(s->hi + 16 * i))};
    for (; n - done >= per && s->end - p >= room; done += per)
        for (int i = 0; i < n_pair; i++)
            p = step(&v[2 * i], t, sp, p, dst + done + 32 * i, wide);
    for (int i = 0; i < 2 * n_pair; i++) {
        _mm256_storeu_si256((__m256i *)(void *)(s->lo + 16 * i), v[i].lo);
        _mm256_storeu_si256((__m256i *)(void *)(s->hi + 16 * i), v[i].hi);
    }
    s->p = p;
    return done;
}

TARGET bool qn_rans_decode_avx2(qn_rans *s, const qn_rans_tab *from, uint8_t *dst, size_t n)
{
    enum { WORTH = 4096 }; /* units below which making the tables costs more than it saves */
    const bool wide = from->log2_buckets == 8;
    size_t done = 0;
    if (s->n_lanes >= 32 && n >= WORTH) {
        spread sp;
        tab t;
        spread_make(&sp);
        tab_make(&t, from, wide);
        switch (s->n_lanes) {
        case 32:
            done = wide ? run(s, &t, &sp, dst, n, 1, true) : run(s, &t, &sp, dst, n, 1, false);
            break;
        case 64:
            done = wide ? run(s, &t, &sp, dst, n, 2, true) : run(s, &t, &sp, dst, n, 2, false);
            break;
        case 128:
            done = wide ? run(s, &t, &sp, dst, n, 4, true) : run(s, &t, &sp, dst, n, 4, false);
            break;
        default:
            done = wide ? run(s, &t, &sp, dst, n, 8, true) : run(s, &t, &sp, dst, n, 8, false);
            break;
        }
    }
    return qn_rans_decode_c(s, from, dst + done, n - done);
}

TARGET bool qn_dense_merge_avx2(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst)
{
    return qn_dense_merge_any(cut, row, dst);
}
#endif
