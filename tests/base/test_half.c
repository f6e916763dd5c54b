/* test_half.c: narrow floats. Widening is checked on every code against the definition as sums of powers of two in f64;
 * narrowing against "the nearest value, ties to the even code", found by bisection over all codes and comparison. */
#include "base/err.h"
#include "base/half.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kind {
    const char *name;
    unsigned bits, e, m;
    int bias;
    enum { IEEE, ALL_NAN, ONE_NAN, NO_NAN } special; /* top exponent Inf/NaN │ all ones NaN │ 0x80 NaN │ numbers only */
    float (*widen8)(uint8_t);
    float (*widen16)(uint16_t);
    uint32_t (*narrow)(float);
};

static uint32_t to_f16(float f)
{
    return qn_f32_to_f16(f);
}

static uint32_t to_bf16(float f)
{
    return qn_f32_to_bf16(f);
}

static uint32_t to_e4m3(float f)
{
    return qn_f32_to_e4m3(f);
}

static uint32_t to_e5m2(float f)
{
    return qn_f32_to_e5m2(f);
}

static const struct kind kinds[] = {
    {"f16", 16, 5, 10, 15, IEEE, NULL, qn_f16_to_f32, to_f16},
    {"bf16", 16, 8, 7, 127, IEEE, NULL, qn_bf16_to_f32, to_bf16},
    {"e4m3", 8, 4, 3, 7, ALL_NAN, qn_e4m3_to_f32, NULL, to_e4m3},
    {"e5m2", 8, 5, 2, 15, IEEE, qn_e5m2_to_f32, NULL, to_e5m2},
    {"e4m3fnuz", 8, 4, 3, 8, ONE_NAN, qn_e4m3fnuz_to_f32, NULL, NULL},
    {"e5m2fnuz", 8, 5, 2, 16, ONE_NAN, qn_e5m2fnuz_to_f32, NULL, NULL},
    {"e2m1", 4, 2, 1, 1, NO_NAN, qn_e2m1_to_f32, NULL, NULL},
    {"e2m3", 6, 2, 3, 1, NO_NAN, qn_e2m3_to_f32, NULL, NULL},
    {"e3m2", 6, 3, 2, 3, NO_NAN, qn_e3m2_to_f32, NULL, NULL},
};

static float widen(const struct kind *k, uint32_t code)
{
    return k->widen8 ? k->widen8((uint8_t)code) : k->widen16((uint16_t)code);
}

/* The definition. NaN for NaN codes. */
static double meaning(const struct kind *k, uint32_t code)
{
    const uint32_t e = code >> k->m & ((1u << k->e) - 1), m = code & ((1u << k->m) - 1), s = code >> (k->e + k->m) & 1;
    double v;
    if (k->special == ONE_NAN && code == 1u << (k->e + k->m))
        return (double)NAN;
    if (k->special == IEEE && e == (1u << k->e) - 1)
        v = (double)(m ? NAN : INFINITY);
    else if (k->special == ALL_NAN && e == (1u << k->e) - 1 && m == (1u << k->m) - 1)
        v = (double)NAN;
    else if (e == 0)
        v = ldexp((double)m, 1 - k->bias - (int)k->m);
    else
        v = ldexp((double)(m + (1u << k->m)), (int)e - k->bias - (int)k->m);
    return s ? -v : v;
}

Test(half, every_code_widens_exactly)
{
    uint64_t n = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (uint32_t c = 0; c < 1u << kinds[i].bits; c++, n++) {
            const double want = meaning(&kinds[i], c);
            const float got = widen(&kinds[i], c);
            if (isnan(want))
                cr_assert(isnan(got), "%s 0x%x", kinds[i].name, c);
            else
                cr_assert((double)got == want && !signbit(got) == !signbit(want), "%s 0x%x: %a, %a", kinds[i].name, c,
                          (double)got, want);
        }
    for (uint32_t c = 0; c < 256; c++, n++) {
        const double got = (double)qn_e8m0_to_f32((uint8_t)c);
        cr_assert(c == 255 ? isnan(got) : got == ldexp(1, (int)c - 127), "e8m0 0x%x", c);
    }
    fprintf(stderr, "# %llu codes widened\n", (unsigned long long)n);
}

Test(half, every_code_narrows_back)
{
    for (size_t i = 0; i < 4; i++)
        for (uint32_t c = 0; c < 1u << kinds[i].bits; c++) {
            const float f = widen(&kinds[i], c);
            const uint32_t back = kinds[i].narrow(f);
            if (isnan(f)) { /* quiet bit is set, sign and payload stay */
                cr_assert(isnan(widen(&kinds[i], back)) && (back & c) == c, "%s 0x%x → 0x%x", kinds[i].name, c, back);
                continue;
            }
            cr_assert_eq(back, c, "%s 0x%x → 0x%x", kinds[i].name, c, back);
        }
}

/* Positive finite codes are ascending in value: find the neighbours by bisection, then compare distances in f64 (exact:
 * the values have few bits; for f32 arguments differences of neighbours within 2^±150 are exact or decided by the larger). */
static uint32_t nearest(const struct kind *k, float f)
{
    const uint32_t sign_bit = 1u << (k->e + k->m), sign = signbit(f) ? sign_bit : 0;
    const uint32_t inf = k->special == IEEE ? ((1u << k->e) - 1) << k->m : (1u << (k->e + k->m)) - 1; /* first beyond finite */
    const double a = fabs((double)f);
    uint32_t lo = 0, hi = inf; /* value(lo) ≤ a; the code `inf` stands for the next value that there would be */
    if (isinf(f))
        return sign | inf; /* e4m3: NaN */
    while (hi - lo > 1) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (meaning(k, mid) <= a)
            lo = mid;
        else
            hi = mid;
    }
    double above = meaning(k, hi);
    if (hi == inf) /* what the next step would be */
        above = meaning(k, lo) + (meaning(k, lo) - meaning(k, lo - 1));
    const double down = a - meaning(k, lo), up = above - a;
    if (hi == inf && a >= above)
        return sign | inf;
    return sign | (down < up ? lo : up < down ? hi : lo % 2 == 0 ? lo : hi);
}

static void check(const struct kind *k, uint32_t u)
{
    const float f = qn_bits_f32(u);
    const uint32_t got = k->narrow(f);
    if (isnan(f)) {
        cr_assert(isnan(widen(k, got)), "%s of NaN %08x: 0x%x", k->name, u, got);
        cr_assert_eq(got >> (k->bits - 1), u >> 31, "%s of NaN %08x: sign", k->name, u);
        return;
    }
    const uint32_t want = nearest(k, f);
    cr_assert_eq(got, want, "%s of %08x (%a): 0x%x, nearest is 0x%x", k->name, u, (double)f, got, want);
}

/* Around every representable value and every middle between two: the f32 below, at, and above. */
Test(half, rounding_around_every_value)
{
    uint64_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        const struct kind *k = &kinds[i];
        for (uint32_t c = 0; c < 1u << (k->bits - 1); c++) {
            const uint32_t here = qn_f32_bits(widen(k, c)), next = qn_f32_bits(widen(k, c + 1));
            const uint32_t mid = here + (next - here) / 2; /* bits of f32 are linear between neighbours of one binade */
            const float true_mid = (float)((meaning(k, c) + meaning(k, c + 1)) / 2);
            const uint32_t around[] = {here, mid, qn_f32_bits(true_mid)};
            for (size_t j = 0; j < 3; j++)
                for (int d = -2; d <= 2; d++)
                    for (uint32_t s = 0; s < 2; s++, n++)
                        check(k, ((around[j] + (uint32_t)d) & 0x7fffffff) | s << 31);
        }
    }
    fprintf(stderr, "# %llu roundings beside values and middles\n", (unsigned long long)n);
}

Test(half, rounding_at_random, .timeout = 120)
{
    const uint64_t n = getenv("QUERN_TEST_FULL") ? 10000000 : 1250000;
    qt_rng r = qt_seed(7);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t x = qt_next(&r);
        for (size_t k = 0; k < 4; k++) {
            check(&kinds[k], (uint32_t)x);
            /* and near the range of the narrow formats, where random exponents seldom fall */
            check(&kinds[k], (uint32_t)(x >> 32 & 0x807fffff) | (uint32_t)(127 - 30 + x % 48) << 23);
        }
    }
    fprintf(stderr, "# %llu random roundings\n", (unsigned long long)n * 8);
}

/* qn_widen against the single conversions, and integers against their definition. */
Test(half, arrays)
{
    uint8_t src[256];
    double dst[256];
    qn_err err;
    qn_err_clear(&err);
    for (unsigned i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)(i * 37 + 11);
    for (unsigned t = 0; t <= QN_DTYPE_COUNT; t++) {
        const unsigned bits = qn_dtype_bits((qn_dtype)t);
        const qn_code rc = qn_widen((qn_dtype)t, src, bits ? 64 * 8 / bits / 2 : qn_dtype_block_elems((qn_dtype)t), dst, NULL);
        const bool numeric = t != QN_BYTES && t != QN_F6_E2M3 && t != QN_F6_E3M2 && qn_dtype_name((qn_dtype)t);
        cr_expect_eq(rc, numeric ? QN_OK : QN_E_UNSUPPORTED, "%u", t);
    }
    const uint8_t ints[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const struct {
        qn_dtype t;
        double v;
    } want[] = {{QN_I8, -1}, {QN_U8, 255}, {QN_I16, -1}, {QN_U16, 65535}, {QN_I32, -1}, {QN_U32, 4294967295.0},
                {QN_I64, -1}, {QN_U64, 18446744073709551616.0}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        cr_assert_eq(qn_widen(want[i].t, ints, 1, dst, &err), QN_OK);
        cr_expect(dst[0] == want[i].v, "%s", qn_dtype_name(want[i].t));
    }
    cr_assert_eq(qn_widen(QN_F4, "\x2f\x10", 4, dst, &err), QN_OK); /* low nibble first */
    cr_expect(dst[0] == -6 && dst[1] == 1 && dst[2] == 0 && dst[3] == 0.5);
}
