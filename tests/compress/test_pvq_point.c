/* test_pvq_point.c: nearest points against all points, against the exact method, and against published distortions. */
#include "compress/pvq_point.h"
#include "compress/pvq_rate.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static double ratio(const float *x, const int16_t *y, uint32_t n)
{
    double xy = 0, yy = 0;
    for (uint32_t i = 0; i < n; i++) {
        xy += (double)x[i] * y[i];
        yy += (double)y[i] * y[i];
    }
    return xy / sqrt(yy);
}

/* min |x − g y|² under Σ|y| = k for one g is separable and convex: pulses go one by one to where the next one costs least. */
static double exact_at(const float *x, uint32_t n, uint32_t k, double g, int16_t *y)
{
    memset(y, 0, n * sizeof *y);
    for (uint32_t p = 0; p < k; p++) {
        uint32_t best = 0;
        double least = HUGE_VAL;
        for (uint32_t i = 0; i < n; i++) {
            const double cost = g * g * (2 * y[i] + 1) - 2 * g * fabs((double)x[i]);
            if (cost < least) {
                least = cost;
                best = i;
            }
        }
        y[best]++;
    }
    for (uint32_t i = 0; i < n; i++)
        y[i] = (int16_t)(x[i] < 0 ? -y[i] : y[i]);
    return ratio(x, y, n);
}

/* The best point is the best one for its own g = ⟨x, y⟩ / |y|²: so over a fine range of g it is met; what a g leads to is tried
 * for its own g too. */
static double exact(const float *x, uint32_t n, uint32_t k)
{
    int16_t y[64];
    double sum = 0, best = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += fabs((double)x[i]);
    for (double g = 0.15 * sum / k; g < 1.7 * sum / k; g *= 1.006) {
        double yy = 0;
        const double a = exact_at(x, n, k, g, y);
        for (uint32_t i = 0; i < n; i++)
            yy += (double)y[i] * y[i];
        best = fmax(best, fmax(a, exact_at(x, n, k, a / sqrt(yy), y)));
    }
    return best;
}

static void normal(qt_rng *r, float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = (float)qt_normal(r);
}

Test(pvq_point, all_points)
{
    static const uint32_t of[][2] = {{1, 3}, {2, 5}, {3, 4}, {4, 5}, {5, 4}, {8, 2}, {8, 3}};
    qt_rng r = qt_seed(1);
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    for (size_t c = 0; c < sizeof of / sizeof of[0]; c++) {
        const uint32_t n = of[c][0], k = of[c][1];
        qn_pvq_tab t;
        unsigned missed = 0;
        cr_assert_eq(qn_pvq_tab_make(&t, n, k, &arena, NULL), QN_OK);
        const uint64_t v = qn_pvq_tab_size(&t, n, k).lo;
        for (unsigned trial = 0; trial < 60; trial++) {
            float x[64];
            int16_t y[64];
            double best = 0;
            normal(&r, x, n);
            for (uint64_t i = 0; i < v; i++) {
                cr_assert(qn_pvq_point(&t, n, k, qn_u128_of(i), y));
                best = fmax(best, ratio(x, y, n));
            }
            const double a = (double)qn_pvq_nearest(x, n, k, 8, y), found = ratio(x, y, n);
            cr_assert_float_eq(a, found, 1e-5 * best);
            cr_assert(fabs(exact(x, n, k) - best) < 1e-9 * best, "the exact method misses the best point");
            cr_assert(found <= best * (1 + 1e-9));
            missed += found < best * (1 - 1e-6);
            cr_assert(found > 0.97 * best);
        }
        cr_assert_leq(missed, 3, "P(%u, %u): %u of 60 are not the best", n, k, missed);
    }
    qn_arena_release(&arena);
}

/* What the quick method loses on the sizes that are used: in mean squared error, next to nothing. */
Test(pvq_point, exact)
{
    static const uint32_t of[][2] = {{16, 4}, {16, 12}, {16, 24}, {16, 49}, {32, 22}, {64, 43}};
    qt_rng r = qt_seed(2);
    for (size_t c = 0; c < sizeof of / sizeof of[0]; c++) {
        const uint32_t n = of[c][0], k = of[c][1];
        double lost = 0, lost_exact = 0;
        for (unsigned trial = 0; trial < 60; trial++) {
            float x[64];
            int16_t y[64];
            double rr = 0;
            normal(&r, x, n);
            for (uint32_t i = 0; i < n; i++)
                rr += (double)x[i] * (double)x[i];
            const double best = exact(x, n, k), a = (double)qn_pvq_nearest(x, n, k, 4, y);
            lost += rr - a * a;
            lost_exact += rr - best * best;
            cr_assert(a <= best * (1 + 1e-5));
        }
        cr_assert(lost < 1.006 * lost_exact, "P(%u, %u): %g against %g", n, k, lost, lost_exact);
    }
}

Test(pvq_point, edges)
{
    float x[64] = {0};
    int16_t y[64];
    cr_assert_eq(qn_pvq_nearest(x, 16, 5, 4, y), 0);
    cr_assert_eq(y[0], 5);
    for (unsigned i = 1; i < 16; i++)
        cr_assert_eq(y[i], 0);
    x[3] = -1e-30f; /* squares vanish, squares overflow */
    cr_assert_float_eq(qn_pvq_nearest(x, 16, 5, 4, y) / 1e-30f, 1, 1e-5);
    cr_assert_eq(y[3], -5);
    x[3] = 3e38f;
    x[9] = 3e38f;
    (void)qn_pvq_nearest(x, 16, 4, 4, y);
    cr_assert(y[3] == 2 && y[9] == 2);
    for (unsigned i = 0; i < 16; i++) /* ties: the lowest coordinates */
        x[i] = 1;
    (void)qn_pvq_nearest(x, 16, 3, 4, y);
    for (unsigned i = 0; i < 16; i++)
        cr_assert_eq(y[i], i < 3);
    cr_assert_eq(qn_pvq_nearest(x, 16, 0, 4, y), 0);
    for (unsigned i = 0; i < 16; i++)
        cr_assert_eq(y[i], 0);
    x[5] = NAN; /* never given; must end all the same */
    x[6] = -INFINITY;
    (void)qn_pvq_nearest(x, 15, 3, 4, y);
    cr_assert(y[5] == 0 && y[6] == -3);
}

/* Normal numbers, the best single scale: the errors in the table of the rate chooser, and those measured elsewhere. */
static double distortion(uint32_t n, uint32_t k, unsigned gain_bits, unsigned groups)
{
    static float a[20000], x[64];
    static double rr[20000];
    const uint16_t *level = qn_pvq_gain_levels(n, gain_bits);
    qt_rng r = qt_seed(11);
    double scale = 1.0 / 4096, error = 0;
    for (unsigned g = 0; g < groups; g++) {
        int16_t y[64];
        normal(&r, x, n);
        rr[g] = 0;
        for (uint32_t i = 0; i < n; i++)
            rr[g] += (double)x[i] * (double)x[i];
        a[g] = qn_pvq_nearest(x, n, k, 4, y);
    }
    for (unsigned round = 0; round < 10; round++) {
        double al = 0, ll = 0;
        error = 0;
        for (unsigned g = 0; g < groups; g++) {
            double best = level[0];
            for (unsigned i = 1; i < 1u << gain_bits; i++)
                best = fabs(scale * level[i] - (double)a[g]) < fabs(scale * best - (double)a[g]) ? level[i] : best;
            al += best * (double)a[g];
            ll += best * best;
            error += rr[g] - (double)a[g] * (double)a[g] + (scale * best - (double)a[g]) * (scale * best - (double)a[g]);
        }
        scale = al / ll;
    }
    return error / groups / n;
}

Test(pvq_point, distortion)
{
    static const struct {
        uint32_t n, k;
        unsigned gain_bits;
        double d;
    } known[] = {{16, 4, 0, .3604}, {16, 7, 1, .1914}, {16, 12, 1, .0918}, {16, 24, 3, .0248}, {16, 49, 4, .0062},
                 {32, 8, 0, .3406}, {32, 14, 0, .1912}, {32, 22, 1, .0972}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const double d = distortion(known[i].n, known[i].k, known[i].gain_bits, 8000);
        cr_assert(fabs(d / known[i].d - 1) < 0.02, "N %u, K %u: %.4f against %.4f", known[i].n, known[i].k, d, known[i].d);
    }
    for (unsigned i = 1; i < qn_pvq_n_offers; i++) {
        const qn_pvq_offer *o = qn_pvq_offers + i;
        cr_assert_eq(o->bits, qn_pvq_bits(16, o->pulses) + o->gain_bits);
        cr_assert_gt(o->bits, o[-1].bits);
        cr_assert(i < 2 || (o[-1].error - o->error) / (o->bits - o[-1].bits) < (o[-2].error - o[-1].error) / (o[-1].bits - o[-2].bits));
        if (i % 4)
            continue;
        const double d = distortion(16, o->pulses, o->gain_bits, 4000);
        cr_assert(fabs(d / o->error - 1) < 0.03, "K %u, %u bits of gain: %.5f against %.5f", o->pulses, o->gain_bits, d, o->error);
    }
}

/* Equal columns share what is left over; unequal ones get steps that follow their value; a budget is never exceeded. */
Test(pvq_point, rate)
{
    enum { COLS = 300 };
    double value[COLS];
    uint8_t choice[COLS];
    qt_rng r = qt_seed(5);
    for (unsigned kind = 0; kind < 3; kind++)
        for (double bits = 0; bits < 75; bits += 3.7) {
            double sum = 0;
            for (unsigned j = 0; j < COLS; j++)
                value[j] = kind == 0 ? 1 : kind == 1 ? exp(2 * qt_normal(&r)) : j % 3 ? 0 : 1e-9;
            qn_pvq_rate_choose(value, COLS, bits, choice);
            for (unsigned j = 0; j < COLS; j++) {
                cr_assert_lt(choice[j], qn_pvq_n_offers);
                sum += qn_pvq_offers[choice[j]].bits;
                for (unsigned i = 0; kind == 1 && i < j; i++)
                    cr_assert(value[i] >= value[j] || choice[i] <= choice[j]);
            }
            cr_assert_leq(sum, bits * COLS);
            const double most = qn_pvq_offers[qn_pvq_n_offers - 1].bits * (kind == 2 ? COLS / 3 : COLS);
            cr_assert_geq(sum, fmin(bits * COLS, most) - 5, "%g bits of %g", sum, bits * COLS);
        }
}
