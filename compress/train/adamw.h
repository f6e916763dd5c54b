/* adamw.h: AdamW (Loshchilov and Hutter 2019) on one weight. */
#ifndef QN_COMPRESS_TRAIN_ADAMW_H
#define QN_COMPRESS_TRAIN_ADAMW_H

#include "analysis/exec/exec.h"

typedef struct qn_adamw {
    double rate, decay;    /* of this step */
    double beta1, beta2, eps;
    uint32_t t;            /* 1 for the first step */
} qn_adamw;

/* m, v: running means of g and g², n each, zeros before the first step. keep: NULL, or 0 where nothing is to move. Parts in parallel, element by
 * element. */
qn_code qn_adamw_step(qn_exec *x, const qn_adamw *a, const float *g, const uint8_t *keep, float *w, float *m, float *v, uint64_t n, qn_err *err) QN_MUST_CHECK;

#endif
