/* u128.h: numbers of two 64-bit limbs, for counts and indices of points that one word does not hold. */
#ifndef QN_RUNTIME_U128_H
#define QN_RUNTIME_U128_H

#include <stdbool.h>
#include <stdint.h>

typedef struct qn_u128 {
    uint64_t lo, hi;
} qn_u128;

static inline qn_u128 qn_u128_of(uint64_t v)
{
    return (qn_u128){v, 0};
}

static inline bool qn_u128_le(qn_u128 a, qn_u128 b)
{
    return a.hi < b.hi || (a.hi == b.hi && a.lo <= b.lo);
}

/* The flag is sticky: it is set when the sum needs more than 128 bits, and never cleared. */
static inline qn_u128 qn_u128_add(qn_u128 a, qn_u128 b, bool *ovf)
{
    qn_u128 r;
    const uint64_t carry = __builtin_add_overflow(a.lo, b.lo, &r.lo);
    bool over = __builtin_add_overflow(a.hi, b.hi, &r.hi);
    over |= __builtin_add_overflow(r.hi, carry, &r.hi);
    *ovf |= over;
    return r;
}

/* a ≥ b */
static inline qn_u128 qn_u128_sub(qn_u128 a, qn_u128 b)
{
    return (qn_u128){a.lo - b.lo, a.hi - b.hi - (a.lo < b.lo)};
}

static inline qn_u128 qn_u128_half(qn_u128 a)
{
    return (qn_u128){a.lo >> 1 | a.hi << 63, a.hi >> 1};
}

/* How many bits a needs: 0 for 0. */
static inline unsigned qn_u128_bits(qn_u128 a)
{
    if (a.hi)
        return 128u - (unsigned)__builtin_clzll(a.hi);
    return a.lo ? 64u - (unsigned)__builtin_clzll(a.lo) : 0;
}

#endif
