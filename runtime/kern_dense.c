/* kern_dense.c: C reference kernels of the dense codec, and the table. */
#include "runtime/kern_dense.h"
#include "base/cpu.h"
#include "base/num.h"
#include "runtime/kern_dense_merge.h"

/* One unit of one lane. `safe`: two bytes can be read at p whether a word is due or not; then nothing branches, for
 * whether one is due is as good as random. */
static inline __attribute__((always_inline)) bool decode_one(qn_rans *s, size_t lane, const qn_rans_tab *t, unsigned shift,
                                                             const uint8_t **p, uint8_t *dst, bool safe)
{
    const uint32_t lo = s->lo[lane], slot = lo & (QN_RANS_M - 1), bucket = slot >> shift;
    const uint32_t other = 0u - (slot >= t->split[bucket]); /* a mask */
    const uint32_t sym = (t->other[bucket] & other) | (bucket & ~other);
    const uint32_t off = ((slot & ((1u << shift) - 1)) + (t->adj[bucket] & other)) & 0xffff;
    const uint32_t f16 = t->freq16[sym], x = f16 * s->hi[lane] + (f16 >> 4) * (lo >> 12) + off;
    *dst = t->log2_buckets == 6 ? t->map[sym & 63] : (uint8_t)sym;
    const uint32_t due = 0u - (x < QN_RANS_START);
    if (!safe && due && s->end - *p < 2)
        return false;
    const uint32_t word = safe || due ? qn_load16(*p) : 0;
    s->hi[lane] = (uint16_t)((x & due) | (x >> 16)); /* x >> 16 is 0 when a word is due */
    s->lo[lane] = (uint16_t)((word & due) | (x & ~due));
    *p += 2 & due;
    return true;
}

/* Eight lanes side by side, with a bucket and a symbol each in one load. */
static inline __attribute__((always_inline)) const uint8_t *decode_eight(uint16_t *lo, uint16_t *hi, const uint64_t *buckets,
                                                                         const uint32_t *symbols, unsigned shift,
                                                                         const uint8_t *p, uint8_t *dst)
{
    const uint32_t in_mask = (1u << shift) - 1;
    uint32_t x[8];
    for (size_t k = 0; k < 8; k++) {
        const uint32_t low = lo[k], slot = low & (QN_RANS_M - 1), bucket = slot >> shift;
        const uint64_t b = buckets[bucket];
        const uint32_t other = 0u - (slot >= (b & 0xffff)); /* a mask */
        const uint32_t sym = (bucket & ~other) | ((uint32_t)(b >> 16) & 0xffff & other);
        const uint32_t off = ((slot & in_mask) + ((uint32_t)(b >> 32) & other)) & 0xffff;
        const uint32_t s = symbols[sym], f16 = s & 0xffff;
        dst[k] = (uint8_t)(s >> 16);
        x[k] = f16 * hi[k] + (f16 >> 4) * (low >> 12) + off;
    }
    for (size_t k = 0; k < 8; k++) {
        const uint32_t due = 0u - (x[k] < QN_RANS_START), word = qn_load16(p);
        hi[k] = (uint16_t)((x[k] & due) | (x[k] >> 16));
        lo[k] = (uint16_t)((word & due) | (x[k] & ~due));
        p += 2 & due;
    }
    return p;
}

bool qn_rans_decode_c(qn_rans *s, const qn_rans_tab *t, uint8_t *dst, size_t n)
{
    enum { WORTH = 1024 };
    const unsigned shift = QN_RANS_BITS - t->log2_buckets;
    const size_t lanes = s->n_lanes, burst = lanes < 8 ? lanes : 8; /* lanes is a power of two */
    const uint8_t *p = s->p;
    size_t i = 0;
    if (lanes >= 8 && n >= WORTH) {
        uint64_t bucket[256];
        uint32_t symbol[256];
        for (unsigned b = 0; b < 1u << t->log2_buckets; b++) {
            bucket[b] = t->split[b] | (uint64_t)t->other[b] << 16 | (uint64_t)t->adj[b] << 32;
            symbol[b] = t->freq16[b] | (uint32_t)(t->log2_buckets == 6 ? t->map[b & 63] : b) << 16;
        }
        for (; n - i >= 8 && s->end - p >= 16; i += 8)
            p = decode_eight(s->lo + (i & (lanes - 1)), s->hi + (i & (lanes - 1)), bucket, symbol, shift, p, dst + i);
    }
    for (; n - i >= burst && s->end - p >= 16; i += burst)
        for (size_t k = 0; k < burst; k++)
            (void)decode_one(s, (i + k) & (lanes - 1), t, shift, &p, dst + i + k, true);
    for (; i < n; i++)
        if (!decode_one(s, i & (lanes - 1), t, shift, &p, dst + i, false))
            return false;
    s->p = p;
    return true;
}

/* The n_bits (≤ 8) at bit position `bit` of the packed plane; the plane ends where its last bit does. */
static inline unsigned packed_at(const qn_dense_row *row, size_t bit, unsigned n_bits)
{
    const size_t at = bit / 8;
    unsigned two = at < row->n_pack_bytes ? row->pack[at] : 0;
    if (at + 1 < row->n_pack_bytes)
        two |= (unsigned)row->pack[at + 1] << 8;
    return (two >> (bit % 8)) & ((1u << n_bits) - 1);
}

/* One by one. */
bool qn_dense_merge_one(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst)
{
    const unsigned n_top = cut->top_bits / 8u, unit = n_top + cut->n_low, sign_at = cut->top_bits - 1u;
    const unsigned frac_mask = (1u << cut->frac_bits) - 1;
    for (size_t i = 0; i < row->n; i++) {
        const unsigned sym = row->sym[i];
        const unsigned raw = packed_at(row, (row->at + i) * cut->n_pack, cut->n_pack);
        unsigned code = sym + row->base + (row->col ? row->col[i] : 0u);
        if (sym == QN_DENSE_ZERO) {
            code = 0;
        } else if (sym == QN_DENSE_ESCAPE) {
            if (row->esc_end - row->esc < 2)
                return false;
            code = qn_load16(row->esc);
            row->esc += 2;
        }
        code &= cut->code_mask;
        const unsigned sign = cut->sign_coded ? code & 1 : (raw >> cut->frac_bits) & 1;
        const unsigned top =
            sign << sign_at | (code >> cut->sign_coded) << cut->frac_bits | (raw & frac_mask);
        uint8_t *out = dst + i * unit;
        if (cut->n_low)
            memcpy(out, row->low + (row->at + i) * cut->n_low, cut->n_low);
        out[cut->n_low] = (uint8_t)top;
        if (n_top == 2)
            out[cut->n_low + 1] = (uint8_t)(top >> 8);
    }
    return true;
}

bool qn_dense_merge_c(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst)
{
    return qn_dense_merge_any(cut, row, dst);
}

void qn_kern_dense_init(qn_kern_dense *k, unsigned cpu)
{
    *k = (qn_kern_dense){.cpu = cpu, .decode = qn_rans_decode_c, .merge = qn_dense_merge_c};
#if defined(__x86_64__)
    if (cpu & QN_CPU_AVX2) {
        k->decode = qn_rans_decode_avx2;
        k->merge = qn_dense_merge_avx2;
    }
    if (cpu & QN_CPU_AVX512) {
        k->decode = qn_rans_decode_avx512;
        k->merge = qn_dense_merge_avx512;
    }
#endif
}
