/* ilog.h: logarithms for decisions that end in bytes: integers only, the same on every machine. */
#ifndef QN_COMPRESS_ILOG_H
#define QN_COMPRESS_ILOG_H

#include <stdint.h>

extern const uint32_t qn_ilog_tab[257];

/* log2(x) × 2^16 of x ≥ 1, error below 2^-17: table over eight bits, linear between. */
static inline uint32_t qn_ilog2(uint32_t x)
{
    const unsigned top = 31u - (unsigned)__builtin_clz(x);
    const uint32_t frac = (uint32_t)(((uint64_t)x << (31 - top)) & 0x7fffffff), i = frac >> 23, rest = frac & 0x7fffff;
    const uint32_t a = qn_ilog_tab[i], b = qn_ilog_tab[i + 1];
    return (top << 16) + a + (uint32_t)(((uint64_t)(b - a) * rest) >> 23);
}

#endif
