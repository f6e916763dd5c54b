/* ekern_fast.h: kernels of the fast codec. Contract: see below. */
#ifndef QN_COMPRESS_EKERN_FAST_H
#define QN_COMPRESS_EKERN_FAST_H

#include "quern/base.h"

typedef struct qn_ekern_fast {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
} qn_ekern_fast;

void qn_ekern_fast_init(qn_ekern_fast *k, unsigned cpu);

#endif
