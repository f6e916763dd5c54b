/* ekern_span.c: see ekern_span.h. One loop, compiled for several processors. */
#include "compress/ekern_span.h"
#include "base/cpu.h"
#include "compress/blocks/coder_k.h"

static inline __attribute__((always_inline)) void add(float *restrict to, const float *restrict row, float by, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] += by * row[i];
}

void qn_span_add_c(float *to, const float *row, float by, uint32_t n)
{
    add(to, row, by, n);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void add_avx2(float *to, const float *row, float by, uint32_t n)
{
    add(to, row, by, n);
}

__attribute__((target("avx512f,avx512vl,avx512dq,prefer-vector-width=512"))) static void add_avx512(float *to, const float *row, float by, uint32_t n)
{
    add(to, row, by, n);
}
#endif

void qn_ekern_span_init(qn_span_kern *k, unsigned cpu)
{
    *k = (qn_span_kern){.add = qn_span_add_c, .cpu = cpu, .k = qn_k_kern_for(cpu)};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        k->add = add_avx2;
    if (cpu & QN_CPU_AVX512)
        k->add = add_avx512;
#endif
}
