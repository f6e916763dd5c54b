/* kern_grid_avx2.c: eight units a vector, whose codes are `bits` whole bytes. The lower four and the upper four fit 32 bits each: one
 * shift per lane takes them apart. */
#if defined(__x86_64__)
#include "base/num.h"
#include "runtime/kern_grid.h"
#include <immintrin.h>
#include <string.h>

#define LANES 8
#define TARGET __attribute__((target("avx2,bmi,bmi2,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))

typedef uint32_t vu32 __attribute__((vector_size(4 * LANES)));
typedef int32_t vi32 __attribute__((vector_size(4 * LANES)));
typedef float vf32 __attribute__((vector_size(4 * LANES)));
typedef uint16_t vu16 __attribute__((vector_size(2 * LANES)));

INLINE vu32 codes(const uint8_t *p, unsigned bits)
{
    vu32 v, shift;
    const uint64_t w = qn_load64(p);
    for (unsigned i = 0; i < 4; i++) {
        v[i] = (uint32_t)w;
        v[4 + i] = (uint32_t)(w >> 4 * bits);
    }
    for (unsigned i = 0; i < LANES; i++)
        shift[i] = i % 4 * bits;
    return (v >> shift) & ((1u << bits) - 1);
}

INLINE void store(qn_grid_out out, vf32 v, uint8_t *dst)
{
    if (out == QN_GRID_F32) {
        memcpy(dst, &v, sizeof v);
        return;
    }
    vu16 h;
    if (out == QN_GRID_BF16) {
        const vu32 u = (vu32)v;
        h = __builtin_convertvector((u + 0x7fff + (u >> 16 & 1)) >> 16, vu16);
    } else {
        h = (vu16)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
    }
    memcpy(dst, &h, sizeof h);
}

INLINE void run(qn_grid_out out, const qn_grid_row *r, uint8_t *dst)
{
    const size_t unit = out == QN_GRID_F32 ? 4 : 2, n_bytes = ((size_t)r->n * r->bits + 7) / 8;
    uint32_t i = 0;
    if (r->group % LANES == 0 || r->group >= r->n)
        for (uint32_t g = 0; i < r->n; g++) {
            const uint32_t end = r->n - i < r->group ? r->n : i + r->group;
            const float half = r->half[g];
            const int32_t z2 = r->z2[g];
            const uint8_t *p = r->codes + (size_t)i / 8 * r->bits;
            /* loads of 8 bytes must stay within the row */
            for (; i + LANES <= end && (size_t)(p - r->codes) + 8 <= n_bytes; i += LANES) {
                const vi32 c = 2 * (vi32)codes(p, r->bits) - z2;
                store(out, __builtin_convertvector(c, vf32) * half, dst + unit * i);
                p += r->bits;
            }
            if (i < end)
                break;
        }
    qn_grid_run_c(out, r, i, dst);
}

TARGET static void f32_row(const qn_grid_row *r, uint8_t *dst)
{
    run(QN_GRID_F32, r, dst);
}

TARGET static void bf16_row(const qn_grid_row *r, uint8_t *dst)
{
    run(QN_GRID_BF16, r, dst);
}

TARGET static void f16_row(const qn_grid_row *r, uint8_t *dst)
{
    run(QN_GRID_F16, r, dst);
}

void qn_kern_grid_avx2(qn_kern_grid *k)
{
    k->run[QN_GRID_F32] = f32_row;
    k->run[QN_GRID_BF16] = bf16_row;
    k->run[QN_GRID_F16] = f16_row;
}
#endif
