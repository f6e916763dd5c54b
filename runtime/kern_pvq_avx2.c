/* kern_pvq_avx2.c: eight groups of 32-bit or four of 64-bit indices a vector; tables are read by gathers, which stay in the first
 * cache. */
#if defined(__x86_64__) && defined(__GNUC__)
#include "runtime/kern_pvq_row.h"
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define GLUE_(a, b) a##b
#define GLUE(a, b) GLUE_(a, b)

typedef uint32_t vec32 __attribute__((vector_size(32)));
typedef uint64_t vec64 __attribute__((vector_size(32)));
typedef int8_t bytes8 __attribute__((vector_size(8)));
typedef int8_t bytes4 __attribute__((vector_size(4)));

INLINE vec32 look32(const uint32_t *row, vec32 at, uint32_t stride)
{
    (void)stride;
    return (vec32)_mm256_i32gather_epi32((const int *)(const void *)row, (__m256i)at, 4);
}

INLINE vec64 look64(const uint64_t *row, vec64 at, uint32_t stride)
{
    (void)stride;
    return (vec64)_mm256_i64gather_epi64((const long long *)(const void *)row, (__m256i)at, 8);
}

/* Vectors that are walked together: as many groups of one word as of the other. */
enum { PACKS32 = 2, PACKS64 = 2 };

#define WALK walk32
#define WORD uint32_t
#define VEC vec32
#define LANES_8 bytes8
#define LOOK look32
#define EVERY_8(row, stride) ((vec32){0})
#define LOOK_8(every, row, at, stride) ((void)(every), look32(row, at, stride))
#define PACKS PACKS32
#include "runtime/kern_pvq_simd.h"
#define WALK walk64
#define WORD uint64_t
#define VEC vec64
#define LANES_8 bytes4
#define LOOK look64
#define EVERY_8(row, stride) ((vec64){0})
#define LOOK_8(every, row, at, stride) ((void)(every), look64(row, at, stride))
#define PACKS PACKS64
#include "runtime/kern_pvq_simd.h"

#define FILL qn_kern_pvq_avx2
#include "runtime/kern_pvq_simd.h"
#else
typedef int qn_kern_pvq_avx2_is_for_x86;
#endif
