/* random.h: repeatable draws: SplitMix64 (Steele, Lea and Flood 2014), the same numbers everywhere. */
#ifndef QN_BASE_RANDOM_H
#define QN_BASE_RANDOM_H

#include <stdint.h>

#define QN_RANDOM_STEP UINT64_C(0x9e3779b97f4a7c15)

/* The number that belongs to a state: a function of it alone, for draws by place. */
static inline uint64_t qn_random_at(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 64 random bits; the state moves on. */
static inline uint64_t qn_random(uint64_t *state)
{
    return qn_random_at(*state += QN_RANDOM_STEP);
}

#endif
