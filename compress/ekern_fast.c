/* ekern_fast.c: C reference kernels of the fast codec, and the table. */
#include "compress/ekern_fast.h"

void qn_ekern_fast_init(qn_ekern_fast *k, unsigned cpu)
{
    k->cpu = cpu;
}
