/* test_pvq.c: points of pyramids and their numbers against an enumeration that knows neither tables nor formulas, sizes against
 * published and hand-made ones, and what decoders compute with. */
#include "runtime/pvq_codec.h"
#include "base/half.h"
#include "compress/pvq_point.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <limits.h>
#include <string.h>

static qn_arena arena;

static void start(void)
{
    qn_arena_init(&arena, NULL);
}

static void stop(void)
{
    qn_arena_release(&arena);
}

TestSuite(pvq, .init = start, .fini = stop);

static qn_pvq_tab table(uint32_t n, uint32_t k)
{
    qn_pvq_tab t;
    qn_err err = {0};
    cr_assert_eq(qn_pvq_tab_make(&t, n, k, &arena, &err), QN_OK, "P(%u, %u): %s", n, k, err.text);
    return t;
}

static bool same(qn_u128 a, qn_u128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

Test(pvq, sizes)
{
    static const struct {
        uint32_t n, k;
        uint64_t v;
    } some[] = {{1, 0, 1},         {1, 9, 2},          {2, 2, 8},           {4, 3, 88},
                {8, 6, 27008},     {16, 12, 3575055360}, {32, 7, 887582144}, {32, 22, 9689853217125292032u},
                {16, 49, 1266617210955373088u}, {16, 58, 15384177590565313024u}, {256, 1, 512}, {3, 4095, 4u * 4095 * 4095 + 2}};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        qn_u128 v;
        cr_assert(qn_pvq_size(some[i].n, some[i].k, &v));
        cr_assert(same(v, qn_u128_of(some[i].v)), "V(%u, %u) = %llu", some[i].n, some[i].k, (unsigned long long)v.lo);
        const qn_pvq_tab t = table(some[i].n, some[i].k);
        cr_assert(same(qn_pvq_tab_size(&t, some[i].n, some[i].k), v));
    }
    /* the largest K of each word, from the table of the literature's sizes */
    static const uint32_t edge[][3] = {{8, 36, 32}, {16, 12, 32}, {32, 7, 32}, {16, 58, 64}, {32, 22, 64}, {64, 14, 64},
                                       {16, 1136, 128}, {32, 105, 128}, {64, 43, 128}};
    for (size_t i = 0; i < sizeof edge / sizeof edge[0]; i++) {
        cr_assert_leq(qn_pvq_bits(edge[i][0], edge[i][1]), edge[i][2]);
        cr_assert_gt(qn_pvq_bits(edge[i][0], edge[i][1] + 1), edge[i][2]);
        cr_assert_eq(table(edge[i][0], edge[i][1]).word, edge[i][2] / 8);
    }
}

Test(pvq, out_of_range)
{
    static const uint32_t bad[][2] = {{0, 1}, {257, 1}, {16, 4096}, {16, 1137}, {32, 106}, {256, 4095}, {0, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        qn_pvq_tab t;
        qn_u128 v;
        qn_err err = {0};
        cr_assert_not(qn_pvq_size(bad[i][0], bad[i][1], &v));
        cr_assert_eq(qn_pvq_bits(bad[i][0], bad[i][1]), UINT_MAX);
        cr_assert_eq(qn_pvq_tab_make(&t, bad[i][0], bad[i][1], &arena, &err), QN_E_INPUT);
        cr_assert(err.text[0]);
    }
}

/* The next point in the order 0, +1, −1, +2, … of each coordinate: counted like an odometer whose last wheel is given. */
static int after(int v)
{
    return v > 0 ? -v : 1 - v;
}

static unsigned mag(int v)
{
    return (unsigned)(v < 0 ? -v : v);
}

static bool next_point(int16_t *y, uint32_t n, uint32_t k)
{
    uint32_t left = 0; /* pulses behind i */
    for (uint32_t i = n; i-- > 0; left += mag(y[i])) {
        const int v = after(y[i]);
        const uint32_t have = left + mag(y[i]);
        if (mag(v) > have || (i == n - 1 && mag(v) != have))
            continue;
        y[i] = (int16_t)v;
        uint32_t rest = have - mag(v);
        for (uint32_t j = i + 1; j < n; j++)
            y[j] = 0;
        if (rest && i == n - 1)
            return false;
        if (rest)
            y[n - 1] = (int16_t)rest;
        return true;
    }
    (void)k;
    return false;
}

static void bijection(uint32_t n, uint32_t k, uint64_t v)
{
    const qn_pvq_tab t = table(n, k);
    int16_t y[QN_PVQ_N_MAX] = {0}, z[QN_PVQ_N_MAX];
    y[n - 1] = (int16_t)k;
    uint64_t i = 0;
    do {
        cr_assert(same(qn_pvq_index(&t, y, n, k), qn_u128_of(i)), "P(%u, %u): point %llu", n, k, (unsigned long long)i);
        cr_assert(qn_pvq_point(&t, n, k, qn_u128_of(i), z));
        cr_assert(memcmp(y, z, n * sizeof *y) == 0, "P(%u, %u): index %llu", n, k, (unsigned long long)i);
        i++;
    } while (next_point(y, n, k));
    cr_assert_eq(i, v, "P(%u, %u) has %llu points, %llu expected", n, k, (unsigned long long)i, (unsigned long long)v);
    cr_assert_not(qn_pvq_point(&t, n, k, qn_u128_of(v), z));
    qn_arena_reset(&arena);
}

/* Every point of every small pyramid, and of the largest below 10^6 for some n. */
Test(pvq, bijection)
{
    for (uint32_t n = 1; n <= 64; n++) {
        qn_u128 v;
        for (uint32_t k = 0; k <= 300 && qn_pvq_size(n, k, &v) && v.lo <= 20000; k++)
            bijection(n, k, v.lo);
    }
    for (uint32_t n = 2; n <= 64; n *= 2) {
        qn_u128 v, next;
        uint32_t k = 1;
        while (k < 4000 && qn_pvq_size(n, k + 1, &next) && next.hi == 0 && next.lo <= 1000000)
            k++;
        cr_assert(qn_pvq_size(n, k, &v));
        bijection(n, k, v.lo);
    }
}

/* The order of one small case, as published. */
Test(pvq, order)
{
    static const struct {
        int16_t y[4];
        uint64_t index;
    } some[] = {{{0, 0, 0, 3}, 0}, {{0, 0, 0, -3}, 1}, {{1, 0, -2, 0}, 45}, {{3, 0, 0, 0}, 86}, {{-3, 0, 0, 0}, 87}};
    const qn_pvq_tab t = table(4, 3);
    for (size_t i = 0; i < 5; i++)
        cr_assert(same(qn_pvq_index(&t, some[i].y, 4, 3), qn_u128_of(some[i].index)));
}

static qn_u128 random_below(qt_rng *r, qn_u128 v)
{
    qn_u128 x;
    const unsigned bits = qn_u128_bits(v);
    do {
        x = (qn_u128){qt_next(r), bits > 64 ? qt_next(r) >> (128 - bits) : 0};
        x.lo = bits < 64 ? x.lo >> (64 - bits) : x.lo;
    } while (qn_u128_le(v, x));
    return x;
}

/* Near the ends of each word, whole pyramids and smaller ones in the same table. */
Test(pvq, large)
{
    static const uint32_t of[][2] = {{16, 12}, {8, 36}, {16, 13}, {32, 22}, {16, 58}, {16, 59}, {32, 23}, {16, 1136}, {32, 105},
                                     {64, 43}, {128, 28}, {256, 20}, {1, 4095}, {2, 4095}};
    qt_rng r = qt_seed(7);
    for (size_t c = 0; c < sizeof of / sizeof of[0]; c++) {
        const uint32_t n = of[c][0], k = of[c][1];
        const qn_pvq_tab t = table(n, k);
        for (unsigned i = 0; i < 400; i++) {
            const uint32_t m = i % 4 ? n : 1 + (uint32_t)qt_below(&r, n), j = i % 4 ? k : 1 + (uint32_t)qt_below(&r, k);
            const qn_u128 v = qn_pvq_tab_size(&t, m, j);
            qn_u128 x = random_below(&r, v);
            if (i < 20)
                x = i % 2 ? qn_u128_of(i / 4 < v.lo || v.hi ? i / 4 : 0) : qn_u128_sub(v, qn_u128_of(1));
            int16_t y[QN_PVQ_N_MAX];
            uint32_t sum = 0;
            cr_assert(qn_pvq_point(&t, m, j, x, y));
            for (uint32_t a = 0; a < m; a++)
                sum += mag(y[a]);
            cr_assert_eq(sum, j);
            cr_assert(same(qn_pvq_index(&t, y, m, j), x));
            cr_assert_not(qn_pvq_point(&t, m, j, v, y));
            cr_assert_not(qn_pvq_point(&t, m, j, (qn_u128){UINT64_MAX, UINT64_MAX}, y));
        }
    }
}

/* f is the f32 nearest to 1/√q when (f ± half an ulp)² q lie on both sides of 1: in integers of 2^-k. */
Test(pvq, inverse_root)
{
    for (uint64_t q = 1; q <= QN_PVQ_PULSES * QN_PVQ_PULSES; q++) {
        const uint32_t u = qn_f32_bits(qn_pvq_inverse_root((uint32_t)q));
        const unsigned e = u >> 23; /* f = frac · 2^(e − 150); 2 frac ± 1 in units of 2^(e − 151) */
        const uint64_t frac = (u & 0x7fffff) | 0x800000;
        cr_assert(e <= 127 && e >= 117);
        /* (2 frac ± 1)² q against 2^(2 (151 − e)); q ≤ 2^14 and the square is below 2^50: 64 bits, and 2^68 at most */
        const long double one = (long double)(UINT64_C(1) << (151 - e)) * (long double)(UINT64_C(1) << (151 - e));
        const uint64_t low = (2 * frac - 1) * (2 * frac - 1), high = (2 * frac + 1) * (2 * frac + 1);
        cr_assert((long double)low * (long double)q < one && (long double)high * (long double)q > one, "1/sqrt(%llu)",
                  (unsigned long long)q);
    }
}

Test(pvq, scales_and_levels)
{
    cr_assert(qn_pvq_scale(255) == 1 && qn_pvq_scale(0) == 0);
    cr_assert(qn_pvq_scale(255 - 16) == 0.5f && qn_pvq_scale(255 - 240) == 0x1p-15f);
    for (unsigned c = 1; c < 255; c++) { /* a step is 2^(1/16) = 1.04427 */
        const double step = (double)qn_pvq_scale((uint8_t)(c + 1)) / (double)qn_pvq_scale((uint8_t)c);
        cr_assert(step > 1.044273 && step < 1.044275);
    }
    for (uint32_t n = 16; n <= 32; n += 16)
        for (unsigned b = 0; b <= QN_PVQ_GAIN_BITS; b++) {
            const uint16_t *l = qn_pvq_gain_levels(n, b);
            for (unsigned i = 1; i < 1u << b; i++)
                cr_assert_gt(l[i], l[i - 1]);
        }
    /* the mean of chi with 16 and 32 degrees of freedom: √2 Γ((n+1)/2) / Γ(n/2) = 3.93796, 5.61286 */
    cr_assert_eq(qn_pvq_gain_levels(16, 0)[0], 16130);
    cr_assert_eq(qn_pvq_gain_levels(32, 0)[0], 22990);
}

/* Groups that are cut short take no more bits for a weight than whole ones, and as many pulses as that allows. */
Test(pvq, short_groups)
{
    for (uint32_t k = 0; k <= 58; k += 2)
        for (unsigned gain = 0; gain <= 5; gain += k ? 1 : 6) {
            const qn_pvq_tab t = table(16, k);
            const unsigned whole = k ? qn_pvq_bits(16, k) + gain : 0;
            for (uint32_t m = 1; m <= 16; m++) {
                unsigned width;
                const uint32_t j = qn_pvq_short_k(&t, t.k, gain, m, &width);
                cr_assert(width * 16 <= whole * m && j <= k);
                cr_assert_eq(width, j ? qn_pvq_bits(m, j) + gain : 0);
                cr_assert(j == k || (qn_pvq_bits(m, j + 1) + gain) * 16 > whole * m);
                cr_assert(m < 16 || j == k);
            }
            qn_arena_reset(&arena);
        }
}

/* Fields at every place and of every width, with no byte read behind them. */
Test(pvq, fields)
{
    qt_rng r = qt_seed(3);
    for (unsigned width = 0; width <= 64; width++)
        for (unsigned at = 0; at < 40; at++) {
            const size_t n = (at + width + 7) / 8;
            qt_guarded g = qt_guard_tail(n ? n : 1);
            uint64_t want = 0;
            for (size_t i = 0; i < n; i++)
                g.p[i] = (uint8_t)qt_next(&r);
            for (unsigned i = 0; i < width; i++)
                want |= (uint64_t)(g.p[(at + i) / 8] >> (at + i) % 8 & 1) << i;
            cr_assert_eq(qn_pvq_field(g.p, n, at, width), want, "%u bits at %u", width, at);
            qt_guard_free(&g);
        }
}
