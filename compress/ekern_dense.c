/* ekern_dense.c: C reference kernels of the dense codec, and the table. */
#include "compress/ekern_dense.h"

void qn_ekern_dense_init(qn_ekern_dense *k, unsigned cpu)
{
    k->cpu = cpu;
}
