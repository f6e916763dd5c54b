/* kern_pvq_avx512.c: sixteen groups of 32-bit or eight of 64-bit indices a vector. A row of up to 16 words, or 64 of
 * the longer ones, is looked up by permutes of registers; the longest are gathered. */
#if defined(__x86_64__) && defined(__GNUC__)
#include "runtime/kern_pvq_row.h"
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt,avx512f,avx512bw,avx512vl,avx512dq")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define GLUE_(a, b) a##b
#define GLUE(a, b) GLUE_(a, b)

typedef uint32_t vec32 __attribute__((vector_size(64)));
typedef uint64_t vec64 __attribute__((vector_size(64)));
typedef int8_t bytes16 __attribute__((vector_size(16)));
typedef int8_t bytes8 __attribute__((vector_size(8)));

INLINE vec32 look32(const uint32_t *row, vec32 at, uint32_t stride)
{
    if (stride == 16)
        return (vec32)_mm512_permutexvar_epi32((__m512i)at, _mm512_loadu_si512(row));
    if (stride == 32)
        return (vec32)_mm512_permutex2var_epi32(_mm512_loadu_si512(row), (__m512i)at, _mm512_loadu_si512(row + 16));
    if (stride == 64) {
        const __mmask16 high = _mm512_test_epi32_mask((__m512i)at, _mm512_set1_epi32(32));
        const __m512i low = _mm512_permutex2var_epi32(_mm512_loadu_si512(row), (__m512i)at, _mm512_loadu_si512(row + 16));
        const __m512i top = _mm512_permutex2var_epi32(_mm512_loadu_si512(row + 32), (__m512i)at, _mm512_loadu_si512(row + 48));
        return (vec32)_mm512_mask_mov_epi32(low, high, top);
    }
    return (vec32)_mm512_i32gather_epi32((__m512i)at, row, 4);
}

/* row[at mod 32], from four registers. */
INLINE vec64 among_4(const uint64_t *row, __m512i at)
{
    const __m512i low = _mm512_permutex2var_epi64(_mm512_loadu_si512(row), at, _mm512_loadu_si512(row + 8));
    const __m512i high = _mm512_permutex2var_epi64(_mm512_loadu_si512(row + 16), at, _mm512_loadu_si512(row + 24));
    return (vec64)_mm512_mask_mov_epi64(low, _mm512_test_epi64_mask(at, _mm512_set1_epi64(16)), high);
}

INLINE vec64 look64(const uint64_t *row, vec64 at, uint32_t stride)
{
    if (stride == 16)
        return (vec64)_mm512_permutex2var_epi64(_mm512_loadu_si512(row), (__m512i)at, _mm512_loadu_si512(row + 8));
    if (stride == 32)
        return among_4(row, (__m512i)at);
    if (stride == 64) {
        const __mmask8 high = _mm512_test_epi64_mask((__m512i)at, _mm512_set1_epi64(32));
        return (vec64)_mm512_mask_mov_epi64((__m512i)among_4(row, (__m512i)at), high, (__m512i)among_4(row + 32, (__m512i)at));
    }
    return (vec64)_mm512_i64gather_epi64((__m512i)at, row, 8);
}

/* Up to eight of them: one register. */
INLINE vec64 every_8_64(const uint64_t *row, uint32_t stride)
{
    vec64 every = {0};
    for (uint32_t i = 0; stride > 16 && stride <= 64 && i < 8; i++)
        every[i] = row[8 * i & (stride - 8)]; /* of 32 words, twice four */
    return every;
}

INLINE vec64 look_8_64(vec64 every, const uint64_t *row, vec64 at, uint32_t stride)
{
    if (stride > 16 && stride <= 64)
        return (vec64)_mm512_permutexvar_epi64((__m512i)(at >> 3), (__m512i)every);
    return look64(row, at, stride);
}

/* Vectors that are walked together: as many groups of one word as of the other. */
enum { PACKS32 = 4, PACKS64 = 4 };

#define WALK walk32
#define WORD uint32_t
#define VEC vec32
#define LANES_8 bytes16
#define LOOK look32
#define EVERY_8(row, stride) ((vec32){0})
#define LOOK_8(every, row, at, stride) ((void)(every), look32(row, at, stride))
#define PACKS PACKS32
#include "runtime/kern_pvq_simd.h"
#define WALK walk64
#define WORD uint64_t
#define VEC vec64
#define LANES_8 bytes8
#define LOOK look64
#define EVERY_8 every_8_64
#define LOOK_8 look_8_64
#define PACKS PACKS64
#include "runtime/kern_pvq_simd.h"

#define FILL qn_kern_pvq_avx512
#include "runtime/kern_pvq_simd.h"
#else
typedef int qn_kern_pvq_avx512_is_for_x86;
#endif
