/* kern_ect.c: the entropy-coded trellis codec, C reference. */
#include "runtime/kern_ect.h"
#include "base/cpu.h"
#include "base/num.h"

bool qn_ect_row_c(qn_ect_dec *d, const uint8_t *tab2, uint8_t *trellis, uint16_t *idx, size_t n)
{
    const qn_ect_code code = d->code;
    const unsigned mask = d->n_lanes - 1;
    const uint8_t *p = d->p, *end = d->end;
    unsigned escapes = 0;
    for (size_t j = 0; j < n; j++) {
        uint32_t x = d->x[j & mask];
        const unsigned state = trellis[j], tab = tab2[j] | (state & 1), slot = x & (QN_ECT_M - 1);
        const uint64_t e = d->bucket[tab << 6 | slot >> 8];
        const uint32_t low = (uint32_t)e, high = (uint32_t)(e >> 32), in = slot & 255, other = 0u - (in >= (low & 511));
        const uint32_t symbol = (slot >> 8 & ~other) | (low >> 9 & 63 & other);
        const uint32_t f = high >> (QN_ECT_BITS & other) & (QN_ECT_M - 1);
        x = f * (x >> QN_ECT_BITS) + ((in + (low >> 15 & other)) & (QN_ECT_M - 1));
        if (x < QN_ECT_START) {
            if (end - p < 2)
                return false;
            x = x << 16 | qn_load16(p);
            p += 2;
        }
        d->x[j & mask] = x;
        trellis[j] = (uint8_t)qn_ect_next(&code, state, symbol);
        escapes |= symbol < 2;
        idx[j] = (uint16_t)(tab << 6 | symbol);
    }
    d->p = p;
    d->escaped |= escapes;
    return true;
}

void qn_ect_value_c(const float *point, const uint16_t *idx, const float *step, float *v, size_t n)
{
    for (size_t j = 0; j < n; j++)
        v[j] = point[idx[j]] * step[j];
}

void qn_kern_ect_init(qn_kern_ect *k, unsigned cpu)
{
    *k = (qn_kern_ect){cpu, qn_ect_row_c, qn_ect_value_c};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        *k = (qn_kern_ect){cpu, qn_ect_row_avx2, qn_ect_value_avx2};
    if (cpu & QN_CPU_AVX512)
        *k = (qn_kern_ect){cpu, qn_ect_row_avx512, qn_ect_value_avx512};
#endif
}
