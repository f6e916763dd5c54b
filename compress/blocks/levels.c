/* levels.c: see levels.h. Here are the search in plain C and the choice. */
#define TARGET
#define ENCODE qn_levels_encode_c
#include "compress/blocks/levels_tmpl.h"
#include "base/cpu.h"

float qn_levels_half(float d)
{
    if (!(fabsf(d) < 65504))
        d = d < 0 ? -65504.0f : d > 0 ? 65504.0f : 0;
    return qn_f16_to_f32(qn_f32_to_f16(d));
}

void qn_levels_encode(const qn_levels *l, const qn_span_metric *m, const float *t, qn_levels_answer *a, float *r, void *scratch)
{
#if defined(__x86_64__) && defined(__GNUC__)
    const unsigned cpu = m->kern ? m->kern->cpu : 0;
    if (cpu & QN_CPU_AVX512) {
        qn_levels_encode_avx512(l, m, t, a, r, scratch);
        return;
    }
    if (cpu & QN_CPU_AVX2) {
        qn_levels_encode_avx2(l, m, t, a, r, scratch);
        return;
    }
#endif
    qn_levels_encode_c(l, m, t, a, r, scratch);
}
