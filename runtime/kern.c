/* kern.c: one line per kernel family. */
#include "runtime/kern.h"

void qn_kern_init(qn_kern *k, unsigned cpu)
{
    qn_kern_fast_init(&k->fast, cpu);
    qn_kern_dense_init(&k->dense, cpu);
    qn_kern_grid_init(&k->grid, cpu);
    qn_kern_grid_mul_init(&k->grid_mul, cpu);
    qn_kern_ect_init(&k->ect, cpu);
    qn_kern_pvq_init(&k->pvq, cpu);
    qn_kern_vq_init(&k->vq, cpu);
    qn_kern_trellis_init(&k->trellis, cpu);
    qn_kern_vq_mul_init(&k->vq_mul, cpu);
}
