/* kern_dense.c: C reference kernels of the dense codec, and the table. */
#include "runtime/kern_dense.h"

void qn_kern_dense_init(qn_kern_dense *k, unsigned cpu)
{
    k->cpu = cpu;
}
