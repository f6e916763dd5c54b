/* kern_dense.h: kernels of the dense codec. Contract: see below. */
#ifndef QN_RUNTIME_KERN_DENSE_H
#define QN_RUNTIME_KERN_DENSE_H

#include "quern/base.h"

typedef struct qn_kern_dense {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
} qn_kern_dense;

void qn_kern_dense_init(qn_kern_dense *k, unsigned cpu);

#endif
