/* kern_pvq.h: kernels of the pvq codec: what they are given, what they promise. */
#ifndef QN_RUNTIME_KERN_PVQ_H
#define QN_RUNTIME_KERN_PVQ_H

#include "quern/base.h"
#include "runtime/pvq.h"

#define QN_PVQ_KERN_N 32

/* Indices are turned into points many at a time, one in each lane, so that coordinate i of neighbouring groups comes out as a row.
 * y: (m, ld), y[i·ld + c] = coordinate i of the point of P(m, k[c]) whose index is V(m, k[c]) − 1 − from_end[c], c < count. All
 * from_end[c] < V(m, k[c]); m ≤ t->n ≤ QN_PVQ_KERN_N; k[c] ≤ t->k ≤ 127; t->word ≤ 8. Any alignment; nothing else is written. */
typedef void (*qn_pvq_points_fn)(const qn_pvq_tab *t, uint32_t m, const uint64_t *from_end, const uint8_t *k, size_t count, int8_t *y,
                                 size_t ld);

/* norm2[c] = Σ_i y[i·ld + c]², i < m, c < count; |y| ≤ 127. */
typedef void (*qn_pvq_norms_fn)(const int8_t *y, size_t ld, uint32_t m, size_t count, uint32_t *norm2);

/* A row of n weights: v × scale in f32, rounded to nearest even to t (F32, F16, BF16), where v is y moved away from zero: 0 for
 * 0, y ± shift[0] for ±1, y ± shift[1] beyond; no zero shift is negative. pos: where in y a weight has its number, or NULL: in its
 * own place. No product is infinite or subnormal. */
typedef void (*qn_pvq_row_fn)(qn_dtype t, const int8_t *y, const float shift[2], const float *scale, const uint32_t *pos, size_t n,
                              uint8_t *dst);

typedef struct qn_kern_pvq {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
    qn_pvq_points_fn points;
    qn_pvq_norms_fn norms;
    qn_pvq_row_fn row;
} qn_kern_pvq;

void qn_kern_pvq_init(qn_kern_pvq *k, unsigned cpu);

void qn_pvq_points_c(const qn_pvq_tab *t, uint32_t m, const uint64_t *from_end, const uint8_t *k, size_t count, int8_t *y, size_t ld);
#if defined(__x86_64__) && defined(__GNUC__)
void qn_kern_pvq_avx2(qn_kern_pvq *k);
void qn_kern_pvq_avx512(qn_kern_pvq *k);
#endif

#endif
