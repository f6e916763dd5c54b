/* pvq_points.c: distortion of groups of n normal numbers as points of P(n, K) and a level for the length, one scale for all groups:
 * what compress/pvq_rate_tab.c was fitted to. Tab-separated: n, K, bits of gain, bits, mean squared error. */
#include "bench/quant.h"
#include "compress/pvq_point.h"
#include "runtime/pvq_codec.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOVES = 4 };

struct made {
    uint32_t n, k, groups;
    float *x;      /* (groups, n) */
    float *length; /* (groups)    */
    int16_t *y;    /* (n)         */
};

static void find(struct made *m)
{
    for (uint32_t g = 0; g < m->groups; g++)
        m->length[g] = qn_pvq_nearest(m->x + (size_t)g * m->n, m->n, m->k, MOVES, m->y);
}

/* Mean squared error with levels of this many bits and the scale that suits them best. */
static double distortion(const struct made *m, unsigned bits)
{
    const uint16_t *const level = qn_pvq_gain_levels(m->n, bits);
    double scale = 1, error = 0;
    for (unsigned round = 0; round < 12; round++) {
        double al = 0, ll = 0;
        error = 0;
        for (uint32_t g = 0; g < m->groups; g++) {
            const float *x = m->x + (size_t)g * m->n;
            double rr = 0, best = HUGE_VAL;
            for (unsigned i = 0; i < 1u << bits; i++) {
                const double l = level[i] / 4096.0, d = fabs(l * scale - (double)m->length[g]);
                best = d < fabs(best) ? l * scale - (double)m->length[g] : best;
            }
            for (uint32_t i = 0; i < m->n; i++)
                rr += (double)x[i] * (double)x[i];
            const double l = (best + (double)m->length[g]) / scale;
            error += rr - (double)m->length[g] * (double)m->length[g] + best * best;
            al += l * (double)m->length[g];
            ll += l * l;
        }
        scale = al / ll;
    }
    return error / ((double)m->groups * m->n);
}

void quant_pvq_points(uint32_t groups, uint32_t n)
{
    struct made m = {.n = n, .groups = groups};
    m.x = malloc((size_t)groups * n * sizeof *m.x);
    m.length = malloc(groups * sizeof *m.length);
    m.y = malloc(n * sizeof *m.y);
    quant_fill(m.x, (size_t)groups * n, quant_normal);
    for (m.k = 1; qn_pvq_bits(n, m.k) <= 64; m.k++) {
        find(&m);
        for (unsigned g = 0; g <= QN_PVQ_GAIN_BITS; g++)
            (void)printf("%u\t%u\t%u\t%u\t%.6f\n", n, m.k, g, qn_pvq_bits(n, m.k) + g, distortion(&m, g));
    }
    free(m.x);
    free(m.length);
    free(m.y);
}
