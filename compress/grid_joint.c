/* grid_joint.c: see grid_joint.h. Lanes are rows, so loops over them are what compilers turn into SIMD. */
#include "compress/grid_joint.h"

#define LANES QN_GRID_LANES
/* adding and subtracting it rounds to the nearest integer, ties to even, for |x| < 2^22 */
#define ROUNDER 12582912.0f

/* g −= d × column c of H' */
static void take(const qn_grid_joint *j, uint32_t c, const float *d, float *g)
{
    const float *h = j->h + c * j->ldh;
    for (uint32_t b = 0; b < j->n; b++)
        for (unsigned i = 0; i < LANES; i++)
            g[(size_t)b * LANES + i] -= h[b] * d[i];
}

void qn_grid_joint_try(const qn_grid_joint *j, const float *scale, float *level2, float *change, float *room)
{
    float d[LANES], inverse[LANES];
    const size_t n = (size_t)j->n * LANES;
    for (unsigned i = 0; i < LANES; i++)
        inverse[i] = scale[i] != 0 ? 1 / scale[i] : 0;
    for (size_t x = 0; x < n; x++) {
        room[x] = j->g[x];
        level2[x] = j->old[x];
    }
    for (uint32_t c = 0; c < j->n; c++) {
        for (unsigned i = 0; i < LANES; i++)
            d[i] = j->old[(size_t)c * LANES + i] * (0.5f * (scale[i] - j->scale[i]));
        take(j, c, d, room);
    }
    for (uint32_t c = 0; c < j->n; c++) {
        const float own = j->h[c * j->ldh + c], by = own > 0 ? 1 / own : 0;
        float *l = level2 + (size_t)c * LANES;
        for (unsigned i = 0; i < LANES; i++) {
            const float v = l[i] * (0.5f * scale[i]), t = v + room[(size_t)c * LANES + i] * by;
            float x = t * inverse[i] + 0.5f * j->zero2[i];
            x = x > 0 ? x : 0;
            x = x < j->top ? x : j->top;
            x = (x + ROUNDER) - ROUNDER;
            l[i] = 2 * x - j->zero2[i];
            d[i] = l[i] * (0.5f * scale[i]) - v;
        }
        take(j, c, d, room);
    }
    for (unsigned i = 0; i < LANES; i++)
        change[i] = 0;
    for (size_t x = 0; x < n; x++) {
        const unsigned i = x % LANES;
        const float moved = level2[x] * (0.5f * scale[i]) - j->old[x] * (0.5f * j->scale[i]);
        change[i] -= moved * (j->g[x] + room[x]); /* −2 G·d + d·(G − what is left of it) */
    }
}
