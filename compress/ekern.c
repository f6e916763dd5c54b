/* ekern.c: one line per kernel family. */
#include "compress/ekern.h"

void qn_ekern_init(qn_ekern *k, unsigned cpu)
{
    qn_ekern_fast_init(&k->fast, cpu);
    qn_ekern_dense_init(&k->dense, cpu);
    qn_ekern_vq_init(&k->vq, cpu);
    qn_ekern_span_init(&k->span, cpu);
}
