/* ekern_dense.h: kernels of the dense and order0 encoders: an interleaved rANS encoder. The mirror of
 * runtime/kern_dense.h. */
#ifndef QN_COMPRESS_EKERN_DENSE_H
#define QN_COMPRESS_EKERN_DENSE_H

#include "runtime/kern_dense.h"

/* What the encoder knows of a symbol. Division by freq: q = (x·rcp) >> 43 is x / freq or one less for every
 * x < freq·2^20 (renormalised states are), rcp = ⌊2^43 / freq⌋, and x·rcp < 2^63. */
typedef struct qn_rans_esym {
    uint64_t rcp;
    uint32_t limit; /* freq·2^20: a state from here on gives a word first; 0 for absent symbols */
    uint16_t freq, cum;
} qn_rans_esym;

typedef struct qn_rans_etab {
    qn_rans_esym sym[256];    /* by the byte that is coded            */
    uint32_t pair[256];       /* freq << 16 | cum                     */
    uint16_t slot[QN_RANS_M + 1]; /* at cum + rank: the slot of that rank; one more may be read */
} qn_rans_etab;

/* Encodes units n−1 … 0 (lane = unit mod n_lanes) from states x, writing words downwards from `end`; returns where the
 * words begin. At most n words; the room for them is the caller's. All symbols must be in the table. */
typedef uint8_t *(*qn_rans_encode_fn)(const qn_rans_etab *t, const uint8_t *sym, size_t n, uint32_t *x, unsigned n_lanes,
                                      uint8_t *end);

typedef struct qn_ekern_dense {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
    qn_rans_encode_fn encode;
} qn_ekern_dense;

void qn_ekern_dense_init(qn_ekern_dense *k, unsigned cpu);

uint8_t *qn_rans_encode_c(const qn_rans_etab *t, const uint8_t *sym, size_t n, uint32_t *x, unsigned n_lanes, uint8_t *end);
#if defined(__x86_64__)
uint8_t *qn_rans_encode_avx512(const qn_rans_etab *t, const uint8_t *sym, size_t n, uint32_t *x, unsigned n_lanes,
                               uint8_t *end);
#endif

#endif
