/* kern_fast.c: C reference kernels of the fast codec, and the table. */
#include "runtime/kern_fast.h"

void qn_kern_fast_init(qn_kern_fast *k, unsigned cpu)
{
    k->cpu = cpu;
}
