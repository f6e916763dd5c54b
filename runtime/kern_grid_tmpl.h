/* kern_grid_tmpl.h: the grid kernel for vectors of LANES (8 or 16) units, included once per instruction set by a file that
 * defines TARGET, LANES, NAME(x), and to_f16(v): LANES floats → LANES halves.
 *
 * Eight codes are `bits` whole bytes. The lower four and the upper four fit 32 bits each: one shift per lane takes them apart. */
#include "base/num.h"
#include "runtime/kern_grid.h"
#include <string.h>

#define INLINE TARGET static inline __attribute__((always_inline))

typedef uint32_t NAME(u32) __attribute__((vector_size(4 * LANES)));
typedef int32_t NAME(i32) __attribute__((vector_size(4 * LANES)));
typedef float NAME(f32) __attribute__((vector_size(4 * LANES)));
typedef uint16_t NAME(u16) __attribute__((vector_size(2 * LANES)));

INLINE NAME(u32) NAME(codes)(const uint8_t *p, unsigned bits)
{
    NAME(u32) v, shift;
    for (unsigned k = 0; k < LANES / 8; k++) {
        const uint64_t w = qn_load64(p + k * bits);
        const uint32_t lo = (uint32_t)w, hi = (uint32_t)(w >> 4 * bits);
        for (unsigned i = 0; i < 4; i++) {
            v[8 * k + i] = lo;
            v[8 * k + 4 + i] = hi;
        }
    }
    for (unsigned i = 0; i < LANES; i++)
        shift[i] = i % 4 * bits;
    return (v >> shift) & ((1u << bits) - 1);
}

INLINE void NAME(store)(qn_grid_out out, NAME(f32) v, uint8_t *dst)
{
    if (out == QN_GRID_F32) {
        memcpy(dst, &v, sizeof v);
        return;
    }
    NAME(u16) h;
    if (out == QN_GRID_BF16) {
        const NAME(u32) u = (NAME(u32))v;
        h = __builtin_convertvector((u + 0x7fff + (u >> 16 & 1)) >> 16, NAME(u16));
    } else {
        h = to_f16(v);
    }
    memcpy(dst, &h, sizeof h);
}

INLINE void NAME(run)(qn_grid_out out, const qn_grid_row *r, uint8_t *dst)
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
            for (; i + LANES <= end && (size_t)(p - r->codes) + (LANES / 8 - 1) * r->bits + 8 <= n_bytes; i += LANES) {
                const NAME(i32) c = 2 * (NAME(i32))NAME(codes)(p, r->bits) - z2;
                NAME(store)(out, __builtin_convertvector(c, NAME(f32)) * half, dst + unit * i);
                p += LANES / 8 * r->bits;
            }
            if (i < end)
                break;
        }
    qn_grid_run_c(out, r, i, dst);
}

TARGET static void NAME(f32_row)(const qn_grid_row *r, uint8_t *dst)
{
    NAME(run)(QN_GRID_F32, r, dst);
}

TARGET static void NAME(bf16_row)(const qn_grid_row *r, uint8_t *dst)
{
    NAME(run)(QN_GRID_BF16, r, dst);
}

TARGET static void NAME(f16_row)(const qn_grid_row *r, uint8_t *dst)
{
    NAME(run)(QN_GRID_F16, r, dst);
}
