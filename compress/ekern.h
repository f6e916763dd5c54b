/* ekern.h: the encoder kernels in use; the twin of runtime/kern.h. */
#ifndef QN_COMPRESS_EKERN_H
#define QN_COMPRESS_EKERN_H

#include "compress/ekern_dense.h"
#include "compress/ekern_fast.h"
#include "compress/ekern_span.h"
#include "compress/ekern_vq.h"

typedef struct qn_ekern {
    qn_ekern_fast fast;
    qn_ekern_dense dense;
    qn_ekern_vq vq;
    qn_span_kern span;
} qn_ekern;

void qn_ekern_init(qn_ekern *k, unsigned cpu);

#endif
