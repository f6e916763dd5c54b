/* pvq_points.c: distortion of groups of n normal numbers as points of P(n, K) and a level for the length, one scale for all groups:
 * what compress/pvq_rate_tab.c was fitted to. Tab-separated: n, K, bits of gain, bits, mean squared error. */
#include "bench/pvq_points.h"
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

double quant_pvq_distortion(uint32_t n, uint32_t groups, const float *x, const float *length, unsigned bits)
{
    const uint16_t *const level = qn_pvq_gain_levels(n, bits);
    double scale = 1, error = 0;
    for (unsigned round = 0; round < 12; round++) {
        double al = 0, ll = 0;
        error = 0;
        for (uint32_t g = 0; g < groups; g++) {
            const float *of = x + (size_t)g * n;
            double rr = 0, best = HUGE_VAL;
            for (unsigned i = 0; i < 1u << bits; i++) {
                const double l = level[i] / 4096.0, d = fabs(l * scale - (double)length[g]);
                best = d < fabs(best) ? l * scale - (double)length[g] : best;
            }
            for (uint32_t i = 0; i < n; i++)
                rr += (double)of[i] * (double)of[i];
            const double l = (best + (double)length[g]) / scale;
            error += rr - (double)length[g] * (double)length[g] + best * best;
            al += l * (double)length[g];
            ll += l * l;
        }
        scale = al / ll;
    }
    return error / ((double)groups * n);
}

void quant_pvq_points(uint32_t groups, uint32_t n)
{
    struct made m = {.n = n, .groups = groups};
    m.x = malloc((size_t)groups * n * sizeof *m.x);
    m.length = malloc(groups * sizeof *m.length);
    m.y = malloc(n * sizeof *m.y);
    quant_fill(m.x, (size_t)groups * n, quant_normal);
    for (m.k = 1; m.k <= QN_PVQ_PULSES && qn_pvq_bits(n, m.k) <= 128; m.k++) {
        find(&m);
        for (unsigned g = 0; g <= QN_PVQ_GAIN_BITS; g++)
            (void)printf("%u\t%u\t%u\t%u\t%.6f\n", n, m.k, g, qn_pvq_bits(n, m.k) + g, quant_pvq_distortion(n, groups, m.x, m.length, g));
    }
    free(m.x);
    free(m.length);
    free(m.y);
}
