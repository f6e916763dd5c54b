/* ekern_fast.h: kernels of the fast encoder: splitting floats, counting, coding. The same bytes in
 * all variants. */
#ifndef QN_COMPRESS_EKERN_FAST_H
#define QN_COMPRESS_EKERN_FAST_H

#include "runtime/kern_fast.h"

/* A table as the encoder wants it; by symbol mod 64 unless said otherwise. */
typedef struct qn_fast_etab {
    uint8_t map[256]; /* symbol → itself, or esc when it is not coded */
    uint8_t freq[64], start[64];
    uint8_t rcp_lo[64], rcp_hi[64]; /* bytes of min(65535, ⌊65536 / freq⌋) */
    uint32_t rcp[64]; /* ⌈2^24 / freq⌉: (x rcp) >> 24 = ⌊x / freq⌋ for x < 2^16 */
    unsigned esc;     /* QN_FAST_NO_ESC when there is none */
} qn_fast_etab;

typedef struct qn_fast_estate {
    uint8_t lo[QN_FAST_STREAMS], hi[QN_FAST_STREAMS];
    unsigned n_streams;
    uint8_t
        *p; /* code is written downwards from here; 64 bytes below what is needed are writable */
    uint8_t *esc; /* so are the symbols that escaped */
} qn_fast_estate;

typedef struct qn_ekern_fast {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
    /* n weights → symbols (BF16 exponent, F16 exponent and top mantissa bit, F32 exponent) */
    void (*symbols)(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *sym);
    /* n weights → raw bits as in kern_fast.h; raw receives the first n_raw bytes only */
    void (*raws)(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *raw2, uint8_t *raw,
                 size_t n_raw);
    /* Adds n symbols to counts */
    void (*count)(const uint8_t *sym, size_t n, uint32_t counts[256]);
    /* Codes n symbols, the last first */
    void (*code)(const qn_fast_etab *t, qn_fast_estate *st, const uint8_t *sym, size_t n);
} qn_ekern_fast;

void qn_ekern_fast_init(qn_ekern_fast *k, unsigned cpu);

void qn_fast_symbols_c(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *sym);
void qn_fast_raws_c(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *raw2, uint8_t *raw,
                    size_t n_raw);
void qn_fast_code_c(const qn_fast_etab *t, qn_fast_estate *st, const uint8_t *sym, size_t n);
void qn_fast_count_c(const uint8_t *sym, size_t n, uint32_t counts[256]);

/* A dozen symbols make up nearly all of a block of weights. Finds them in a sample, so that vector
 * variants can count them by comparing and what is left one by one. Distinct mod 64. False when n
 * is small or when they are not nearly all. */
#define QN_FAST_COMMON 12
bool qn_fast_common(const uint8_t *sym, size_t n, uint8_t common[QN_FAST_COMMON]);

#if defined(__x86_64__) && defined(__GNUC__)
extern const uint64_t qn_fast_compress_tab[256]; /* compress/ekern_fast_tab.c */
void qn_ekern_fast_avx2(qn_ekern_fast *k);
void qn_ekern_fast_avx512(qn_ekern_fast *k);
#endif

#endif
