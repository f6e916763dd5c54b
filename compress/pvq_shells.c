/* pvq_shells.c: see pvq_shells.h. For given norms the distance is a sum of convex functions of the coordinates, so pulses that
 * are taken one at a time where the next one costs least give the best point of every shell on the way. */
#include "compress/pvq_shells.h"

enum { N_MAX = 32 };

static float value(const qn_pvq_price *p, float v) /* v ≥ 0 */
{
    return v > 1 ? v + p->shift[1] : v > 0 ? v + p->shift[0] : 0;
}

uint32_t qn_pvq_shell_point(const qn_pvq_price *p, const float *x, int16_t *y)
{
    float a[N_MAX], v[N_MAX], loss[N_MAX]; /* |x|; numbers; what is lost by one less */
    uint32_t k = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const float abs = x[i] < 0 ? -x[i] : x[i];
        a[i] = abs < 1000 ? abs : 1000;
        const float low = (float)(int)a[i], there = a[i] - value(p, low), next = value(p, low + 1) - a[i];
        v[i] = next < there ? low + 1 : low;
        if (v[i] > 127)
            v[i] = 127;
        k += (uint32_t)v[i];
        const float near = a[i] - value(p, v[i]), far = a[i] - value(p, v[i] - 1);
        loss[i] = v[i] > 0 ? far * far - near * near : 1e30f;
    }
    while (k > 0) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < p->n; i++)
            best = loss[i] < loss[best] ? i : best;
        if (k <= p->most && loss[best] >= p->cost[k] - p->cost[k - 1])
            break;
        v[best] -= 1;
        k--;
        const float near = a[best] - value(p, v[best]), far = a[best] - value(p, v[best] - 1);
        loss[best] = v[best] > 0 ? far * far - near * near : 1e30f;
    }
    for (uint32_t i = 0; i < p->n; i++)
        y[i] = (int16_t)(x[i] < 0 ? -(int)v[i] : (int)v[i]);
    return k;
}
