/* kern_ect.h: kernels of the entropy-coded trellis codec. Format: docs/codecs/ect.md.
 *
 * A row of units is decoded in two steps: rANS states and trellis states → an index for each unit (table, half and
 * symbol), and index → value. Unit j belongs to lane j mod N; a row starts at lane 0. Each column has a trellis state of its own, which
 * goes down the rows. */
#ifndef QN_RUNTIME_KERN_ECT_H
#define QN_RUNTIME_KERN_ECT_H

#include "runtime/ect.h"

#define QN_ECT_TABS (2 * QN_ECT_CLASSES) /* tab = 2 · table + z */

typedef struct qn_ect_dec {
    uint64_t bucket[QN_ECT_TABS * QN_ECT_SYMS]; /* alias entry by (tab, slot / 256)               */
    float point[QN_ECT_TABS * QN_ECT_SYMS];     /* reconstruction in steps by (tab, symbol), exact */
    uint32_t x[QN_ECT_LANES_MAX];               /* states of the lanes, ≥ 2^16                    */
    const uint8_t *p, *end;                     /* words not yet read                             */
    unsigned n_lanes;                           /* a power of two                                 */
    qn_ect_code code;
    bool escaped;                               /* set when an index with symbol 0 or 1 came      */
} qn_ect_dec;

/* idx[j] = tab << 6 | symbol of the next row; tab2[j] = 2 · table of unit j; trellis[j] is advanced. False when the words
 * run out. Reads and writes nothing past n units; words are read one by one or within [p, end). */
typedef bool (*qn_ect_row_fn)(qn_ect_dec *d, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx, size_t n);

/* v[j] = point[idx[j]] · step[j] */
typedef void (*qn_ect_value_fn)(const float *point, const uint16_t *idx, const float *step, float *v, size_t n);

typedef struct qn_kern_ect {
    unsigned cpu;
    qn_ect_row_fn row;
    qn_ect_value_fn value;
} qn_kern_ect;

void qn_kern_ect_init(qn_kern_ect *k, unsigned cpu);

bool qn_ect_row_c(qn_ect_dec *d, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx, size_t n);
void qn_ect_value_c(const float *point, const uint16_t *idx, const float *step, float *v, size_t n);
#if defined(__x86_64__) && defined(__GNUC__)
bool qn_ect_row_avx2(qn_ect_dec *d, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx, size_t n);
void qn_ect_value_avx2(const float *point, const uint16_t *idx, const float *step, float *v, size_t n);
bool qn_ect_row_avx512(qn_ect_dec *d, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx, size_t n);
void qn_ect_value_avx512(const float *point, const uint16_t *idx, const float *step, float *v, size_t n);
#endif

#endif
