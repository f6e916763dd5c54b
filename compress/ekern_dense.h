/* ekern_dense.h: kernels of the dense codec. Contract: see below. */
#ifndef QN_COMPRESS_EKERN_DENSE_H
#define QN_COMPRESS_EKERN_DENSE_H

#include "quern/base.h"

typedef struct qn_ekern_dense {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
} qn_ekern_dense;

void qn_ekern_dense_init(qn_ekern_dense *k, unsigned cpu);

#endif
