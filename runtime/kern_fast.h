/* kern_fast.h: kernels of the fast codec: what they are given, what they promise.
 *
 * Coding of one block of n weights with S streams (docs/codecs/fast.md): weight i belongs to stream
 * i mod S, streams are rANS states x in [2^8, 2^16), and everything happens in the order of i:
 *
 *     s = slot[x mod 256];  x = freq[s] * (x / 256) + x mod 256 - start[s];  if (x < 256) x = 256 x
 * + next code byte
 *
 * x / 256 ≥ 1 and freq ≥ 1 give x ≥ 1 after the second step, so one byte is always enough: SIMD
 * code never loops. A *round* is S consecutive weights. Kernels do whole rounds; runtime/dec_fast.c
 * does the rest with the C reference. */
#ifndef QN_RUNTIME_KERN_FAST_H
#define QN_RUNTIME_KERN_FAST_H

#include "quern/base.h"

#define QN_FAST_STREAMS 256 /* most streams */
#define QN_FAST_SYMS                                                                               \
    64 /* most coded symbols, the escape included: tables are indexed by symbol mod 64 */
#define QN_FAST_NO_ESC 256
#define QN_FAST_CUTS                                                                               \
    8 /* most boundaries inside one sixteenth of the slots that the nibble tables can express */

/* What a weight is made of: a coded symbol and raw bits. */
typedef enum qn_fast_kind {
    QN_FAST_SYM,  /* the symbol byte alone                                                    */
    QN_FAST_BF16, /* exponent | 1 raw byte = mantissa << 1 | sign                             */
    QN_FAST_F16,  /* exponent and top mantissa bit | 2 raw bits in a plane of their own, 1 raw byte
                   */
    QN_FAST_F32,  /* exponent | 3 raw bytes, little-endian mantissa << 1 | sign               */
    QN_FAST_KINDS
} qn_fast_kind;

/* One table in the shapes that the variants want. Made by qn_fast_tab_build; every symbol it names
 * is < 256, distinct mod 64 from all others, freq 1 … 255, and the freqs sum to 256. */
typedef struct qn_fast_tab {
    uint8_t sym[256];            /* slot → symbol; `esc` for the slots of the escape            */
    uint16_t step[256];          /* slot → slot − start | freq << 8                             */
    uint8_t freq[64], start[64]; /* by symbol mod 64                                            */
    unsigned esc;                /* a byte that is no coded symbol, or QN_FAST_NO_ESC           */
    unsigned n;                  /* symbols, escape included                                    */
    uint8_t r_sym[64], r_freq[64], r_start[64]; /* the same by rank = position in slot order */
    /* rank of a slot = cell[slot / 16] + number of k with slot mod 16 ≥ cut[k][slot / 16]; n_cuts >
     * QN_FAST_CUTS when some sixteenth has more boundaries than that, and then cut is not to be
     * used */
    uint8_t cell[16], cut[QN_FAST_CUTS][16];
    unsigned n_cuts;
} qn_fast_tab;

/* Where decoding stands. lo[j], hi[j]: the bytes of state j. */
typedef struct qn_fast_state {
    uint8_t lo[QN_FAST_STREAMS], hi[QN_FAST_STREAMS];
    unsigned n_streams; /* a power of two, 1 … 256 */
    const uint8_t *p,
        *end; /* next code byte; end of what may be read (the payload's, not the code's) */
    const uint8_t *esc, *esc_end; /* symbols that take the place of escapes */
    bool failed;                  /* ran out of code or escapes: the payload is bad */
} qn_fast_state;

/* Decodes at most n_rounds rounds to dst (1, 2, 2, 4 bytes a weight). raw: 1, 1, 3 bytes a weight;
 * raw2: F16 only, four weights a byte from the low bits up. Any alignment; exactly these bytes are
 * read and written. Returns the rounds done: n_rounds, unless st->failed, or, SIMD variants only,
 * unless too little is left before st->end for wide loads or the table or n_streams is not one they
 * handle: then the C reference goes on from there. */
typedef size_t (*qn_fast_run_fn)(const qn_fast_tab *t, qn_fast_state *st, size_t n_rounds,
                                 const uint8_t *raw, const uint8_t *raw2, uint8_t *dst);

typedef struct qn_kern_fast {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
    qn_fast_run_fn run[QN_FAST_KINDS];
} qn_kern_fast;

void qn_kern_fast_init(qn_kern_fast *k, unsigned cpu);

/* Fills everything of *t from n symbols in slot order. False when they are not a table (see above).
 */
bool qn_fast_tab_build(qn_fast_tab *t, const uint8_t *sym, const uint8_t *freq, unsigned n,
                       unsigned esc);

/* dst[0 … n) from symbols and raw bits; `at`: index of the first weight, only its value mod 4
 * matters (raw2). */
void qn_fast_merge(qn_fast_kind kind, const uint8_t *sym, size_t n, const uint8_t *raw,
                   const uint8_t *raw2, size_t at, uint8_t *dst);

/* The C reference: needs no slack, handles everything. */
size_t qn_fast_run_c(qn_fast_kind kind, const qn_fast_tab *t, qn_fast_state *st, size_t n_rounds,
                     const uint8_t *raw, const uint8_t *raw2, uint8_t *dst);
/* The first n < n_streams weights of a round: symbols only. False when st->failed. */
bool qn_fast_part_c(const qn_fast_tab *t, qn_fast_state *st, unsigned n, uint8_t *sym);

extern const uint8_t qn_fast_index_tab[256][8]; /* runtime/kern_fast_tab.c */
#if defined(__x86_64__) && defined(__GNUC__)
extern const uint64_t qn_fast_expand_tab[256]; /* runtime/kern_fast_tab.c */
void qn_kern_fast_avx2(qn_kern_fast *k);
void qn_kern_fast_avx512(qn_kern_fast *k);
#endif

#endif
