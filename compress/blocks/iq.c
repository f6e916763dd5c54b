/* iq.c: see iq.h. */
#define TARGET
#define ENCODE qn_iq_encode_c
#include "compress/blocks/iq_tmpl.h"

float qn_iq_tune[16];

_Static_assert(sizeof(work) <= QN_IQ_SCRATCH, "room");

void qn_iq_encode(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch)
{
    qn_iq_encode_c(k, m, t, block, r, scratch);
}
