/* kern_dense_avx512.c: 32 lanes a vector, all tables in registers; the arithmetic is that of kern_dense.h.
 *
 * A decoded vector is a chain of about ten dependent permutes, multiplies and compares (some 40 cycles) but only about 30
 * instructions: several vectors must be in flight, so up to 256 lanes are decoded per turn. The vector loop runs while
 * even the worst case (every lane takes a word) stays inside the words; the C kernel does the rest. */
#if defined(__x86_64__)
#include "runtime/kern_dense.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))

typedef struct vec { /* 32 lanes */
    __m512i lo, hi;
} vec;

/* x := f·(x >> 12) + off, then a word for every lane below 2^16; returns the words' new place. */
INLINE const uint8_t *advance(vec *v, __m512i f16, __m512i off, const uint8_t *p, __mmask32 live)
{
    const __m512i carried = _mm512_add_epi16(_mm512_mulhi_epu16(f16, _mm512_and_si512(v->lo, _mm512_set1_epi16((short)0xf000))), off);
    const __m512i lo = _mm512_add_epi16(_mm512_mullo_epi16(f16, v->hi), carried);
    __m512i hi = _mm512_mulhi_epu16(f16, v->hi);
    hi = _mm512_mask_sub_epi16(hi, _mm512_cmplt_epu16_mask(lo, carried), hi, _mm512_set1_epi16(-1));
    const __mmask32 below = _mm512_mask_testn_epi16_mask(live, hi, hi);
    v->hi = _mm512_mask_mov_epi16(hi, below, lo);
    v->lo = _mm512_mask_expand_epi16(lo, below, _mm512_loadu_si512(p));
    return p + 2 * (size_t)_mm_popcnt_u32(below);
}

/* 64 buckets: tables of 64 words, two registers each. */
typedef struct tab64 {
    __m512i split[2], other[2], adj[2], freq[2];
    __m256i map[2];
} tab64;

INLINE __m512i pick(const __m512i t[2], __m512i i) /* the low six bits of i count */
{
    return _mm512_permutex2var_epi16(t[0], i, t[1]);
}

INLINE const uint8_t *step64(vec *v, const tab64 *t, const uint8_t *p, uint8_t *dst, __mmask32 live)
{
    const __m512i slot = _mm512_and_si512(v->lo, _mm512_set1_epi16(0xfff)), bucket = _mm512_srli_epi16(v->lo, 6);
    const __mmask32 other = _mm512_cmpge_epu16_mask(slot, pick(t->split, bucket));
    const __m512i sym = _mm512_mask2_permutex2var_epi16(t->other[0], bucket, other, t->other[1]);
    const __m512i in = _mm512_and_si512(v->lo, _mm512_set1_epi16(63));
    const __m512i off = _mm512_mask_add_epi16(in, other, in, pick(t->adj, bucket));
    p = advance(v, pick(t->freq, sym), off, p, live);
    const __m256i out = _mm256_permutex2var_epi8(t->map[0], _mm512_cvtepi16_epi8(sym), t->map[1]);
    if (live == UINT32_MAX)
        _mm256_storeu_si256((__m256i *)(void *)dst, out);
    else
        _mm256_mask_storeu_epi8(dst, live, out);
    return p;
}

/* 256 buckets of 16 slots: tables of 256 bytes, four registers each, looked up for 64 lanes at once. A bucket's split
 * (0 … 15) sits above the four high bits of the rank at which `other` begins there. */
typedef struct tab256 {
    __m512i other[4], rank_lo[4], rank_hi[4], freq_lo[4], freq_hi[4];
} tab256;

INLINE __m512i pick4(const __m512i t[4], __m512i i, __mmask64 upper)
{
    const __m512i a = _mm512_permutex2var_epi8(t[0], i, t[1]), b = _mm512_permutex2var_epi8(t[2], i, t[3]);
    return _mm512_mask_mov_epi8(a, upper, b);
}

typedef struct zip { /* orders of bytes: even ones of two vectors; pairs of the first and the second half */
    __m512i even, first, second;
} zip;

INLINE const uint8_t *step256(vec v[2], const tab256 *t, const zip *z, const uint8_t *p, uint8_t *dst)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i bucket = _mm512_permutex2var_epi8(_mm512_srli_epi16(v[0].lo, 4), z->even, _mm512_srli_epi16(v[1].lo, 4));
    const __m512i in = _mm512_and_si512(_mm512_permutex2var_epi8(v[0].lo, z->even, v[1].lo), nibble);
    const __mmask64 upper = _mm512_movepi8_mask(bucket);
    const __m512i hi_split = pick4(t->rank_hi, bucket, upper);
    const __m512i split = _mm512_and_si512(_mm512_srli_epi16(hi_split, 4), nibble);
    const __mmask64 other = _mm512_cmpge_epu8_mask(in, split);
    const __m512i sym = _mm512_mask_mov_epi8(bucket, other, pick4(t->other, bucket, upper));
    const __m512i in_off = _mm512_mask_sub_epi8(in, other, in, split);
    const __m512i rank_lo = _mm512_maskz_mov_epi8(other, pick4(t->rank_lo, bucket, upper));
    const __m512i rank_hi = _mm512_maskz_mov_epi8(other, _mm512_and_si512(hi_split, nibble));
    const __mmask64 sym_upper = _mm512_movepi8_mask(sym);
    const __m512i freq_lo = pick4(t->freq_lo, sym, sym_upper), freq_hi = pick4(t->freq_hi, sym, sym_upper);
    const __m512i none = _mm512_setzero_si512();
    for (int h = 0; h < 2; h++) {
        const __m512i order = h ? z->second : z->first;
        const __m512i off = _mm512_add_epi16(_mm512_permutex2var_epi8(rank_lo, order, rank_hi),
                                             _mm512_permutex2var_epi8(in_off, order, none));
        p = advance(&v[h], _mm512_permutex2var_epi8(freq_lo, order, freq_hi), off, p, UINT32_MAX);
    }
    _mm512_storeu_si512(dst, sym);
    return p;
}

/* n_vec whole vectors, or one of which only the `live` lanes exist. */
INLINE size_t run64(qn_rans *s, const qn_rans_tab *tab, uint8_t *dst, size_t n, const int n_vec, const __mmask32 live)
{
    const ptrdiff_t room = 64 * n_vec;
    const size_t per = live == UINT32_MAX ? 32 * (size_t)n_vec : s->n_lanes;
    const uint8_t *p = s->p;
    size_t done = 0;
    tab64 t;
    vec v[8];
    for (int i = 0; i < 2; i++) {
        t.split[i] = _mm512_loadu_si512(tab->split + 32 * i);
        t.other[i] = _mm512_loadu_si512(tab->other + 32 * i);
        t.adj[i] = _mm512_loadu_si512(tab->adj + 32 * i);
        t.freq[i] = _mm512_loadu_si512(tab->freq16 + 32 * i);
        t.map[i] = _mm256_loadu_si256((const __m256i *)(const void *)(tab->map + 32 * i));
    }
    for (int i = 0; i < n_vec; i++)
        v[i] = (vec){_mm512_maskz_loadu_epi16(live, s->lo + 32 * i), _mm512_maskz_loadu_epi16(live, s->hi + 32 * i)};
    for (; n - done >= per && s->end - p >= room; done += per)
#pragma GCC unroll 8
        for (int i = 0; i < n_vec; i++)
            p = step64(&v[i], &t, p, dst + done + 32 * i, live);
    for (int i = 0; i < n_vec; i++) {
        _mm512_mask_storeu_epi16(s->lo + 32 * i, live, v[i].lo);
        _mm512_mask_storeu_epi16(s->hi + 32 * i, live, v[i].hi);
    }
    s->p = p;
    return done;
}

TARGET static void bytes_of(const uint16_t *w, unsigned mask, unsigned shift, __m512i out[4])
{
    for (int i = 0; i < 4; i++) {
        uint8_t b[64];
        for (int j = 0; j < 64; j++)
            b[j] = (uint8_t)((w[64 * i + j] & mask) >> shift);
        out[i] = _mm512_loadu_si512(b);
    }
}

INLINE size_t run256(qn_rans *s, const qn_rans_tab *tab, uint8_t *dst, size_t n, const int n_pair)
{
    const ptrdiff_t room = 128 * n_pair;
    const size_t per = 64 * (size_t)n_pair;
    const uint8_t *p = s->p;
    size_t done = 0;
    uint16_t rank[256];
    uint8_t order[3][64];
    tab256 t;
    vec v[8];
    zip z;
    for (unsigned i = 0; i < 256; i++) {
        const unsigned split = tab->split[i] & 15; /* 0 in a full bucket too: the slot number is then the first */
        rank[i] = (uint16_t)(((tab->adj[i] + split) & 0xfff) | split << 12);
    }
    for (unsigned i = 0; i < 64; i++) {
        order[0][i] = (uint8_t)(2 * i);
        order[1][i] = (uint8_t)((i & 1 ? 64 : 0) + i / 2);
        order[2][i] = (uint8_t)((i & 1 ? 96 : 32) + i / 2);
    }
    z.even = _mm512_loadu_si512(order[0]);
    z.first = _mm512_loadu_si512(order[1]);
    z.second = _mm512_loadu_si512(order[2]);
    bytes_of(tab->other, 0xff, 0, t.other);
    bytes_of(rank, 0xff, 0, t.rank_lo);
    bytes_of(rank, 0xff00, 8, t.rank_hi);
    bytes_of(tab->freq16, 0xff, 0, t.freq_lo);
    bytes_of(tab->freq16, 0xff00, 8, t.freq_hi);
    for (int i = 0; i < 2 * n_pair; i++)
        v[i] = (vec){_mm512_loadu_si512(s->lo + 32 * i), _mm512_loadu_si512(s->hi + 32 * i)};
    for (; n - done >= per && s->end - p >= room; done += per)
#pragma GCC unroll 4
        for (int i = 0; i < n_pair; i++)
            p = step256(&v[2 * i], &t, &z, p, dst + done + 64 * i);
    for (int i = 0; i < 2 * n_pair; i++) {
        _mm512_storeu_si512(s->lo + 32 * i, v[i].lo);
        _mm512_storeu_si512(s->hi + 32 * i, v[i].hi);
    }
    s->p = p;
    return done;
}

TARGET bool qn_rans_decode_avx512(qn_rans *s, const qn_rans_tab *t, uint8_t *dst, size_t n)
{
    const bool wide = t->log2_buckets == 8;
    size_t done = 0;
    switch (s->n_lanes) {
    case 4:
    case 8:
    case 16: /* a vector that is mostly empty is still faster than a lane at a time */
        done = wide ? 0 : run64(s, t, dst, n, 1, (1u << s->n_lanes) - 1);
        break;
    case 32:
        done = wide ? 0 : run64(s, t, dst, n, 1, UINT32_MAX);
        break;
    case 64:
        done = wide ? run256(s, t, dst, n, 1) : run64(s, t, dst, n, 2, UINT32_MAX);
        break;
    case 128:
        done = wide ? run256(s, t, dst, n, 2) : run64(s, t, dst, n, 4, UINT32_MAX);
        break;
    case 256:
        done = wide ? run256(s, t, dst, n, 4) : run64(s, t, dst, n, 8, UINT32_MAX);
        break;
    default:
        break;
    }
    return qn_rans_decode_c(s, t, dst + done, n - done);
}

/* The packed plane for 64 units from unit `at` on, a byte each. Eight units fill n_pack bytes, so a permute brings each
 * eight's bytes (and the one they may spill into) together, and a multishift cuts them up. */
INLINE __m512i packed64(const qn_dense_row *row, size_t bit, __m512i order, __m512i cut, __m512i mask)
{
    const size_t at = bit / 8, left = row->n_pack_bytes - at; /* at ≤ n_pack_bytes */
    const __m512i raw = left >= 64 ? _mm512_loadu_si512(row->pack + at)
                                   : _mm512_maskz_loadu_epi8((UINT64_C(1) << left) - 1, row->pack + at);
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(cut, _mm512_permutexvar_epi8(order, raw)), mask);
}

typedef struct merger {
    __m512i base, code_mask, frac_mask, sign_mask;
    __m128i code_down, frac_up, sign_up;
    bool sign_coded;
} merger;

/* 32 units: their top part, in words. */
INLINE __m512i tops(const merger *g, __m256i sym, __m256i raw8, __m512i add)
{
    const __m512i code = _mm512_and_si512(_mm512_add_epi16(_mm512_cvtepu8_epi16(sym), add), g->code_mask);
    const __m512i raw = _mm512_cvtepu8_epi16(raw8);
    const __m512i sign = _mm512_and_si512(_mm512_sll_epi16(g->sign_coded ? code : raw, g->sign_up), g->sign_mask);
    const __m512i frac = _mm512_and_si512(raw, g->frac_mask);
    return _mm512_ternarylogic_epi32(_mm512_sll_epi16(_mm512_srl_epi16(code, g->code_down), g->frac_up), sign, frac, 0xfe);
}

INLINE void put32(__m512i top, unsigned n_low, const uint8_t *low, uint8_t *dst, __mmask32 live, __m512i first, __m512i second)
{
    if (n_low == 0) {
        _mm512_mask_storeu_epi16(dst, live, top);
    } else if (n_low == 1) {
        const __m512i l = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(live, low));
        _mm512_mask_storeu_epi16(dst, live, _mm512_or_si512(_mm512_slli_epi16(top, 8), l));
    } else {
        const __m512i l = _mm512_maskz_loadu_epi16(live, low);
        _mm512_mask_storeu_epi32(dst, (__mmask16)live, _mm512_permutex2var_epi16(l, first, top));
        _mm512_mask_storeu_epi32(dst + 64, (__mmask16)(live >> 16), _mm512_permutex2var_epi16(l, second, top));
    }
}

INLINE bool merge_n(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst, const unsigned n_low)
{
    const unsigned r = cut->n_pack, unit = n_low == 2 ? 4 : 2, sign_at = cut->top_bits - 1u;
    const merger g = {
        .base = _mm512_set1_epi16((short)row->base),
        .code_mask = _mm512_set1_epi16((short)cut->code_mask),
        .frac_mask = _mm512_set1_epi16((short)((1 << cut->frac_bits) - 1)),
        .sign_mask = _mm512_set1_epi16((short)(1u << sign_at)),
        .code_down = _mm_cvtsi32_si128(cut->sign_coded),
        .frac_up = _mm_cvtsi32_si128(cut->frac_bits),
        .sign_up = _mm_cvtsi32_si128((int)(cut->sign_coded ? sign_at : sign_at - cut->frac_bits)),
        .sign_coded = cut->sign_coded,
    };
    /* byte 8j+b comes from byte rj+b; unit b of an eight starts at bit rb beyond the first one's odd bits */
    const __m512i ramp = _mm512_set1_epi64(0x0706050403020100), eights = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i order = _mm512_add_epi8(
        _mm512_mullo_epi64(_mm512_mullo_epi64(eights, _mm512_set1_epi64(r)), _mm512_set1_epi64(0x0101010101010101)), ramp);
    const __m512i cuts = _mm512_add_epi8(_mm512_mullo_epi64(ramp, _mm512_set1_epi64(r)),
                                         _mm512_set1_epi8((char)(row->at * r % 8)));
    const __m512i raw_mask = _mm512_set1_epi8((char)((1u << r) - 1));
    __m512i first = _mm512_setzero_si512(), second = first;
    if (n_low == 2) { /* words 0, 32, 1, 33, … and 16, 48, 17, 49, … */
        const __m512i up = _mm512_set_epi32(0x2f000f, 0x2e000e, 0x2d000d, 0x2c000c, 0x2b000b, 0x2a000a, 0x290009,
                                            0x280008, 0x270007, 0x260006, 0x250005, 0x240004, 0x230003, 0x220002,
                                            0x210001, 0x200000);
        first = up;
        second = _mm512_add_epi16(up, _mm512_set1_epi16(16));
    }
    for (size_t i = 0; i < row->n; i += 64) {
        const size_t left = row->n - i;
        const __mmask64 live = left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;
        const __m512i sym = _mm512_maskz_loadu_epi8(live, row->sym + i);
        const __m512i raw = packed64(row, (row->at + i) * r, order, cuts, raw_mask);
        uint64_t special = _mm512_mask_cmplt_epu8_mask(live, sym, _mm512_set1_epi8(QN_DENSE_FIRST));
        for (int h = 0; h < 2; h++) {
            const __mmask32 half = (__mmask32)(live >> (32 * h));
            __m512i add = g.base;
            if (row->col)
                add = _mm512_add_epi16(add, _mm512_maskz_loadu_epi16(half, row->col + i + 32 * h));
            const __m512i top = tops(&g, h ? _mm512_extracti64x4_epi64(sym, 1) : _mm512_castsi512_si256(sym),
                                     h ? _mm512_extracti64x4_epi64(raw, 1) : _mm512_castsi512_si256(raw), add);
            put32(top, n_low, row->low + (row->at + i + 32 * (size_t)h) * n_low, dst + (i + 32 * (size_t)h) * unit, half, first, second);
        }
        while (__builtin_expect(special != 0, 0)) { /* written anew, one by one */
            const size_t j = i + (size_t)__builtin_ctzll(special);
            qn_dense_row one = *row;
            special &= special - 1;
            one.sym += j;
            one.at += j;
            one.col = row->col ? row->col + j : NULL;
            one.n = 1;
            if (!qn_dense_merge_one(cut, &one, dst + j * unit))
                return false;
            row->esc = one.esc;
        }
    }
    return true;
}

TARGET bool qn_dense_merge_avx512(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst)
{
    switch (cut->n_low) {
    case 0:
        return merge_n(cut, row, dst, 0);
    case 1:
        return merge_n(cut, row, dst, 1);
    case 2:
        return merge_n(cut, row, dst, 2);
    default:
        return qn_dense_merge_c(cut, row, dst);
    }
}
#endif
