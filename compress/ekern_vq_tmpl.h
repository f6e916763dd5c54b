/* ekern_vq_tmpl.h: nearest centroids for GROUPS × LANES vectors at a time, included once per instruction set by a file that defines
 * TARGET, LANES, GROUPS, NAME(x), the vectors VEC (floats) and INTS, load, mul, sub, all, ints(x) and
 * closer(d, least, best, index): where d < least, least = d and best = index; put(to, best): LANES numbers as uint16_t. */
#include "compress/ekern_vq.h"

#define INLINE TARGET static inline __attribute__((always_inline))

/* One pass over the book for GROUPS × LANES vectors; v is a constant where it is called. */
INLINE void NAME(pass)(const qn_vq_book *b, const float *x, size_t ld, uint16_t *at, unsigned v)
{
    VEC least[GROUPS];
    INTS best[GROUPS];
    for (unsigned g = 0; g < GROUPS; g++)
        best[g] = ints(0);
    for (uint32_t k = 0; k < b->k; k++) {
        const float *c = b->c + (size_t)k * v;
        VEC d[GROUPS];
        const INTS index = ints((int)k);
        for (unsigned g = 0; g < GROUPS; g++)
            d[g] = all(b->half[k]);
        for (unsigned j = 0; j < v; j++) {
            const VEC y = all(c[j]);
            for (unsigned g = 0; g < GROUPS; g++)
                d[g] = sub(d[g], mul(load(x + j * ld + g * LANES), y));
        }
        if (k == 0)
            for (unsigned g = 0; g < GROUPS; g++)
                least[g] = d[g];
        for (unsigned g = 0; g < GROUPS; g++)
            closer(d[g], least[g], best[g], index);
    }
    for (unsigned g = 0; g < GROUPS; g++)
        put(at + g * LANES, best[g]);
}

TARGET static void NAME(nearest)(const qn_vq_book *b, const float *x, size_t ld, size_t n, uint16_t *at)
{
    size_t i = 0;
    for (; i + GROUPS * LANES <= n; i += GROUPS * LANES)
        switch (b->v) {
        case 2:
            NAME(pass)(b, x + i, ld, at + i, 2);
            break;
        case 4:
            NAME(pass)(b, x + i, ld, at + i, 4);
            break;
        case 8:
            NAME(pass)(b, x + i, ld, at + i, 8);
            break;
        default:
            NAME(pass)(b, x + i, ld, at + i, b->v);
        }
    qn_vq_nearest_c(b, x + i, ld, n - i, at + i);
}
