/* ekern_span.h: what coders of blocks do most: a multiple of one row of numbers is added to another (compress/blocks/span.h).
 *
 * Every element for itself, product and sum rounded to binary32 one after the other: all variants give the same bits. */
#ifndef QN_COMPRESS_EKERN_SPAN_H
#define QN_COMPRESS_EKERN_SPAN_H

#include "quern/base.h"

typedef struct qn_span_kern {
    void (*add)(float *to, const float *row, float by, uint32_t n); /* to[i] += by · row[i]; they do not overlap */
    unsigned cpu; /* QN_CPU_…: for coders that have variants of their own               */
    const struct qn_k_kern *k;                                      /* compress/blocks/coder_k.h                 */
} qn_span_kern;

void qn_ekern_span_init(qn_span_kern *k, unsigned cpu);

void qn_span_add_c(float *to, const float *row, float by, uint32_t n);

#endif
