/* kern_fast.h: kernels of the fast codec. Contract: see below. */
#ifndef QN_RUNTIME_KERN_FAST_H
#define QN_RUNTIME_KERN_FAST_H

#include "quern/base.h"

typedef struct qn_kern_fast {
    unsigned cpu; /* QN_CPU_* bits the table was made for */
} qn_kern_fast;

void qn_kern_fast_init(qn_kern_fast *k, unsigned cpu);

#endif
