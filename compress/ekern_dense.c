/* ekern_dense.c: C reference kernel of the rANS encoder, and the table. */
#include "compress/ekern_dense.h"
#include "base/cpu.h"
#include "base/num.h"

uint8_t *qn_rans_encode_c(const qn_rans_etab *t, const uint8_t *sym, size_t n, uint32_t *x, unsigned n_lanes, uint8_t *end)
{
    uint8_t *p = end;
    for (size_t i = n; i-- > 0;) {
        const qn_rans_esym *s = &t->sym[sym[i]];
        uint32_t v = x[i & (n_lanes - 1)];
        const unsigned full = v >= s->limit;
        /* always stored, kept only when due: the words' order is random, a branch would miss. Below the first word there
         * is room because each unit has two bytes of its own. */
        qn_store16(p - 2, (uint16_t)v);
        p -= 2 * full;
        v >>= 16 * full;
        uint32_t q = (uint32_t)((v * s->rcp) >> 43), r = v - q * s->freq;
        const unsigned low = r >= s->freq;
        q += low;
        r -= low ? s->freq : 0u;
        x[i & (n_lanes - 1)] = (q << QN_RANS_BITS) | t->slot[s->cum + r];
    }
    return p;
}

void qn_ekern_dense_init(qn_ekern_dense *k, unsigned cpu)
{
    *k = (qn_ekern_dense){.cpu = cpu, .encode = qn_rans_encode_c};
#if defined(__x86_64__)
    if (cpu & QN_CPU_AVX512)
        k->encode = qn_rans_encode_avx512;
#endif
}
