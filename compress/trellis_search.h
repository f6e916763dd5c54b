/* trellis_search.h: the path through the trellis that is nearest to a column (runtime/trellis.h has the trellis).
 *
 * Viterbi's algorithm on the 2^(L−K) nodes; from each one 2^K windows lead on. Costs are f32 sums of squares in a fixed order, so that the
 * path is the same on every machine. A column is walked in pieces: each begins at the node where the one before it was left, and looks
 * some rows ahead before it decides. */
#ifndef QN_COMPRESS_TRELLIS_SEARCH_H
#define QN_COMPRESS_TRELLIS_SEARCH_H

#include "quern/base.h"

typedef struct qn_trellis_walk {
    const float *value; /* (2^L): of each window */
    unsigned log2_windows, k;
} qn_trellis_walk;

#define QN_TRELLIS_NODES_PAD 16 /* floats behind each array of node costs that may be read */

/* One piece: from `cost` (by node) through the rows of x. decision: (rows, nodes): the high K bits of the window that led to the node.
 * Afterwards the costs are in cost (rows even) or other (rows odd). */
typedef void (*qn_trellis_rows_fn)(const qn_trellis_walk *w, const float *x, uint32_t rows, float *cost, float *other, uint8_t *decision);

typedef struct qn_ekern_trellis {
    qn_trellis_rows_fn rows;
} qn_ekern_trellis;

void qn_ekern_trellis_init(qn_ekern_trellis *k, unsigned cpu);

/* Bytes of scratch for a column of any length. */
uint64_t qn_trellis_search_bytes(unsigned log2_windows);

/* x: targets in units of the values, finite; 1 ≤ K ≤ 8. bits: (rows), the K bits of each row. Returns the bits before the first row: the
 * last L − K ones of the string that was found, or zeros when it is shorter. room: 64-byte aligned. */
uint32_t qn_trellis_search(const qn_ekern_trellis *k, const qn_trellis_walk *w, const float *x, uint32_t rows, uint8_t *bits, void *room);

void qn_trellis_rows_c(const qn_trellis_walk *w, const float *x, uint32_t rows, float *cost, float *other, uint8_t *decision);
#if defined(__x86_64__) && defined(__GNUC__)
void qn_trellis_rows_avx2(const qn_trellis_walk *w, const float *x, uint32_t rows, float *cost, float *other, uint8_t *decision);
void qn_trellis_rows_avx512(const qn_trellis_walk *w, const float *x, uint32_t rows, float *cost, float *other, uint8_t *decision);
#endif

#endif
