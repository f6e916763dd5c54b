/* kern_dense.h: kernels of the dense and the order0 codec: an interleaved rANS decoder and the merge of symbols with
 * raw bits. Formats: docs/codecs/order0.md, docs/codecs/dense.md.
 *
 * rANS (Duda, arXiv 1311.2540): 32-bit states x ≥ 2^16, words of 16 bits, frequencies that sum to M = 4096. Lane i of
 * N holds units i, i + N, …; every step reads the words of its lanes in lane order.
 *
 * The slot x mod M finds its symbol by the alias method (Walker; Vose 1991): B buckets of M/B slots hold at most two
 * symbols each, so tables have B entries, not M: small enough for vector registers, and no gather is needed anywhere.
 *
 * States are kept as two planes of 16-bit halves. With frequency f < M, slot s = lo mod M and offset o < f
 *     f·(x >> 12) + o  =  16f·hi + (f·(lo >> 12) + o),
 * where 16f < 2^16 and the bracket is at most 4095·15 + 4094 < 2^16: everything is a 16-bit multiply. */
#ifndef QN_RUNTIME_KERN_DENSE_H
#define QN_RUNTIME_KERN_DENSE_H

#include "quern/base.h"

#define QN_RANS_BITS      12
#define QN_RANS_M         (1u << QN_RANS_BITS)
#define QN_RANS_LANES_MAX 256
#define QN_RANS_START     65536u /* the state every lane of the encoder starts from, and the decoder must end in */

/* Alias tables over 64 (log2_buckets 6) or 256 (8) buckets. Entries past the buckets are unused. */
typedef struct qn_rans_tab {
    uint16_t split[256]; /* slots of the bucket from this one on belong to `other`; a slot number, not a remainder */
    uint16_t other[256];
    uint16_t adj[256];   /* offset of a slot of `other` = its place in the bucket + adj, modulo 2^16 */
    uint16_t freq16[256]; /* 16 × frequency, by symbol */
    uint8_t map[64];     /* byte to write for a symbol when there are 64 buckets */
    unsigned log2_buckets;
} qn_rans_tab;

typedef struct qn_rans {
    uint16_t lo[QN_RANS_LANES_MAX], hi[QN_RANS_LANES_MAX];
    const uint8_t *p, *end; /* words not yet read */
    unsigned n_lanes;       /* a power of two */
} qn_rans;

/* Decodes n bytes into dst, from lane 0 on. False when the words run out; dst is then unspecified. Reads nothing past
 * s->end, writes nothing past dst + n. */
typedef bool (*qn_rans_decode_fn)(qn_rans *s, const qn_rans_tab *t, uint8_t *dst, size_t n);

/* How a float divides (docs/codecs/dense.md): the *top* is its highest 16 bits (8 for f16), the rest `n_low` bytes.
 * top = sign · exponent · fraction; code = exponent and m fraction bits (and the sign when it is coded);
 * the `n_pack` bits of top that are not in the code are packed. */
typedef struct qn_dense_cut {
    uint8_t n_low;      /* bytes of the low plane: 0 (bf16), 1 (f16), 2 (f32), 6 (f64)   */
    uint8_t top_bits;   /* 16 or 8                                                       */
    uint8_t frac_bits;  /* raw fraction bits in top: under the code                      */
    uint8_t sign_coded; /* the code's lowest bit is the sign, else the sign is packed    */
    uint8_t n_pack;     /* frac_bits + !sign_coded, 0 … 8                                */
    uint16_t code_mask; /* codes are modulo a power of two                               */
} qn_dense_cut;

/* Symbols with a meaning of their own; the others are code − base. */
enum { QN_DENSE_ESCAPE = 0, QN_DENSE_ZERO = 1, QN_DENSE_FIRST = 2 };

typedef struct qn_dense_row {
    const uint8_t *sym;      /* n symbols                                                       */
    const uint8_t *pack;     /* the packed plane, n_pack_bytes in all                           */
    size_t n_pack_bytes, at; /* at: index of the row's first unit in the planes                 */
    const uint8_t *low;      /* the low plane                                                   */
    const uint16_t *col;     /* added to the code by column, or NULL                            */
    const uint8_t *esc, *esc_end; /* codes of escaped units, two bytes each: advanced           */
    uint16_t base;           /* code of symbol 0                                                */
    size_t n;
} qn_dense_row;

/* Writes n units to dst. False when the escapes run out. */
typedef bool (*qn_dense_merge_fn)(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst);

typedef struct qn_kern_dense {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
    qn_rans_decode_fn decode;
    qn_dense_merge_fn merge;
} qn_kern_dense;

void qn_kern_dense_init(qn_kern_dense *k, unsigned cpu);

bool qn_rans_decode_c(qn_rans *s, const qn_rans_tab *t, uint8_t *dst, size_t n);
bool qn_dense_merge_c(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst);
bool qn_dense_merge_one(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst); /* the reference of the references */
#if defined(__x86_64__)
bool qn_rans_decode_avx2(qn_rans *s, const qn_rans_tab *t, uint8_t *dst, size_t n);
bool qn_dense_merge_avx2(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst);
bool qn_rans_decode_avx512(qn_rans *s, const qn_rans_tab *t, uint8_t *dst, size_t n);
bool qn_dense_merge_avx512(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst);
#endif

#endif
