/* iq.c: see iq.h. */
#define TARGET
#define ENCODE qn_iq_encode_c
#include "compress/blocks/iq_tmpl.h"
#include "base/cpu.h"

_Static_assert(sizeof(work) <= QN_IQ_SCRATCH, "room");

void qn_iq_encode(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch)
{
#if defined(__x86_64__) && defined(__GNUC__)
    const unsigned cpu = m->kern ? m->kern->cpu : 0;
    if (cpu & QN_CPU_AVX512) {
        qn_iq_encode_avx512(k, m, t, block, r, scratch);
        return;
    }
    if (cpu & QN_CPU_AVX2) {
        qn_iq_encode_avx2(k, m, t, block, r, scratch);
        return;
    }
#endif
    qn_iq_encode_c(k, m, t, block, r, scratch);
}
