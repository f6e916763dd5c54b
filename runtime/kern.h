/* kern.h: the decoder kernels in use: a table filled from C upwards by CPU bits. Const after qn_kern_init. */
#ifndef QN_RUNTIME_KERN_H
#define QN_RUNTIME_KERN_H

#include "runtime/kern_dense.h"
#include "runtime/kern_ect.h"
#include "runtime/kern_fast.h"
#include "runtime/kern_grid.h"
#include "runtime/kern_grid_mul.h"
#include "runtime/kern_pvq.h"
#include "runtime/kern_vq.h"
#include "runtime/kern_trellis.h"
#include "runtime/kern_vq_mul.h"

typedef struct qn_kern {
    qn_kern_fast fast;
    qn_kern_dense dense;
    qn_kern_grid grid;
    qn_kern_grid_mul grid_mul;
    qn_kern_ect ect;
    qn_kern_pvq pvq;
    qn_kern_vq vq;
    qn_kern_trellis trellis;
    qn_kern_vq_mul vq_mul;
} qn_kern;

/* cpu: QN_CPU_* bits (base/cpu.h); 0 gives the C reference everywhere. */
void qn_kern_init(qn_kern *k, unsigned cpu);

#endif
