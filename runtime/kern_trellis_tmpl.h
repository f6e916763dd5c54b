/* kern_trellis_tmpl.h: the trellis kernels for vectors of LANES (8 or 16) columns, included once per instruction set by a file that
 * defines TARGET, LANES, NAME(x), to_f16(v), and on vectors of 32-bit integers
 *     NAME(take)(m, p, v)        the words at p, one after the other, into the lanes of mask m (reads LANES words)
 *     NAME(keep)(m, a, v)        v in the lanes of m, else a
 *     NAME(window)(hi, lo, s)    the low halves of hi:lo >> s, 0 ≤ s < 32
 *     NAME(byte_sum)(x)          the sum of the four bytes of each lane */
#include "base/num.h"
#include "runtime/kern_trellis.h"
#include <string.h>

#define INLINE TARGET static inline __attribute__((always_inline))

typedef struct NAME(lanes) {
    NAME(u32) last, before, k, shift, multiplier;
} NAME(lanes);

INLINE NAME(f32) NAME(values)(NAME(lanes) *s, const qn_trellis_group *g, const qn_trellis_tile *t, uint32_t r, unsigned part)
{
    const unsigned all = g->refill[r], m = LANES == 16 ? all : all >> LANES * part & 255;
    const unsigned skip = part ? (unsigned)__builtin_popcount(all & 255) : 0;
    s->before = NAME(keep)(m, s->before, s->last);
    s->last = NAME(take)(m, t->words + 4 * (size_t)(g->at[r] + skip), s->last);
    s->shift = (s->shift - s->k) & 31;
    const NAME(u32) w = NAME(window)(s->before, s->last, s->shift) & t->mask;
    return __builtin_convertvector((NAME(i32))NAME(byte_sum)(w * s->multiplier) - 510, NAME(f32));
}

INLINE NAME(lanes) NAME(open)(const qn_trellis_group *g, unsigned part)
{
    NAME(lanes) s;
    memcpy(&s.last, g->last + LANES * part, sizeof s.last);
    memcpy(&s.k, g->k + LANES * part, sizeof s.k);
    memcpy(&s.multiplier, g->multiplier + LANES * part, sizeof s.multiplier);
    s.before = s.shift = s.k ^ s.k;
    return s;
}

/* Not full, or so near the end that a load of a whole vector might leave the payload. */
static inline bool NAME(is_edge)(const qn_trellis_group *g, const qn_trellis_tile *t)
{
    return g->n < QN_TRELLIS_LANES || 4 * ((size_t)g->at[QN_TRELLIS_TILE - 1] + 2 * QN_TRELLIS_LANES) > t->n_bytes;
}

INLINE void NAME(run)(qn_trellis_out out, qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes)
{
    if (NAME(is_edge)(g, t)) {
        qn_trellis_tile_c(out, g, t, dst, row_bytes);
        return;
    }
    for (unsigned part = 0; part < QN_TRELLIS_LANES / LANES; part++) {
        NAME(lanes) s = NAME(open)(g, part);
        NAME(f32) step;
        uint8_t *to = dst + (out == QN_TRELLIS_F32 ? 4u : 2u) * LANES * part;
        memcpy(&step, g->step + LANES * part, sizeof step);
        for (uint32_t r = 0; r < t->rows; r++, to += row_bytes) {
            const NAME(f32) v = NAME(values)(&s, g, t, r, part) * step;
            if (out == QN_TRELLIS_F32) {
                memcpy(to, &v, sizeof v);
            } else if (out == QN_TRELLIS_BF16) {
                const NAME(u32) u = (NAME(u32))v;
                const NAME(u16) h = __builtin_convertvector((u + 0x7fff + (u >> 16 & 1)) >> 16, NAME(u16));
                memcpy(to, &h, sizeof h);
            } else {
                const NAME(u16) h = to_f16(v);
                memcpy(to, &h, sizeof h);
            }
        }
        memcpy(g->last + LANES * part, &s.last, sizeof s.last);
    }
}

TARGET static void NAME(dot)(qn_trellis_group *g, const qn_trellis_tile *t, const float *xs, float *sum)
{
    if (NAME(is_edge)(g, t)) {
        qn_trellis_dot_c(g, t, xs, sum);
        return;
    }
    for (unsigned part = 0; part < QN_TRELLIS_LANES / LANES; part++) {
        NAME(lanes) s = NAME(open)(g, part);
        NAME(f32) x, a;
        float *at = sum + LANES * part;
        memcpy(&x, xs + LANES * part, sizeof x);
        for (uint32_t r = 0; r < t->rows; r++, at += QN_TRELLIS_LANES) {
            memcpy(&a, at, sizeof a);
            a += NAME(values)(&s, g, t, r, part) * x;
            memcpy(at, &a, sizeof a);
        }
        memcpy(g->last + LANES * part, &s.last, sizeof s.last);
    }
}

TARGET static void NAME(f32_tile)(qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes)
{
    NAME(run)(QN_TRELLIS_F32, g, t, dst, row_bytes);
}

TARGET static void NAME(bf16_tile)(qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes)
{
    NAME(run)(QN_TRELLIS_BF16, g, t, dst, row_bytes);
}

TARGET static void NAME(f16_tile)(qn_trellis_group *g, const qn_trellis_tile *t, uint8_t *dst, size_t row_bytes)
{
    NAME(run)(QN_TRELLIS_F16, g, t, dst, row_bytes);
}

static void NAME(fill)(qn_kern_trellis *k)
{
    k->tile[QN_TRELLIS_F32] = NAME(f32_tile);
    k->tile[QN_TRELLIS_BF16] = NAME(bf16_tile);
    k->tile[QN_TRELLIS_F16] = NAME(f16_tile);
    k->dot = NAME(dot);
}
