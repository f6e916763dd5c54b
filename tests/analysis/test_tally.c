/* test_tally.c: tallies against counts made the slow way. */
#include "analysis/tally.h"
#include "base/half.h"
#include "base/num.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* In pieces of this many bytes. */
static qn_tensor_stats tally(qn_dtype t, const void *p, size_t n_bytes, size_t piece)
{
    static qn_tally whole, part;
    qn_tensor_stats s;
    qn_tally_begin(&whole, t);
    for (size_t i = 0; i < n_bytes; i += piece) {
        qn_tally_begin(&part, t);
        cr_assert_eq(qn_tally_piece(&part, (const uint8_t *)p + i, qn_min_u64(piece, n_bytes - i), NULL), QN_OK);
        qn_tally_merge(&whole, &part);
    }
    qn_tally_finish(&whole, &s);
    return s;
}

Test(tally, special_values)
{
    const uint32_t v[] = {0x7fc00000, 0xff800001, 0x7f800000, 0xff800000, 0, 0x80000000, 0x80000000, 1, 0x807fffff, 0x3f800000,
                          0xc0000000};
    for (size_t piece = 4; piece <= sizeof v; piece += 4) {
        const qn_tensor_stats s = tally(QN_F32, v, sizeof v, piece);
        cr_assert_eq(s.n_values, 11);
        cr_assert_eq(s.n_nan, 2);
        cr_assert_eq(s.n_inf, 2);
        cr_assert_eq(s.n_zero, 3);
        cr_assert_eq(s.n_neg_zero, 2);
        cr_assert_eq(s.n_subnormal, 2);
        cr_assert_eq(s.n_finite, 7);
        cr_assert_eq(s.min, -2);
        cr_assert_eq(s.max, 1);
        cr_assert_eq(s.abs_max, 2);
        cr_assert_float_eq(s.mean, -1.0 / 7, 1e-15);
        cr_assert_float_eq(s.std, sqrt(5.0 / 7 - 1.0 / 49), 1e-15);
        cr_assert_eq(s.n_distinct, 10);
        cr_assert_eq(s.trailing_zeros, 0);
    }
}

/* Every value of every 8- and 16-bit float once: the counts are known from the formats' definitions. */
Test(tally, all_values_of_narrow_floats)
{
    static uint8_t v[65536 * 2];
    const struct {
        qn_dtype t;
        uint64_t nan, inf, zero, neg_zero, subnormal;
        double max;
    } rows[] = {
        {QN_F16, 2046, 2, 2, 1, 2046, 65504}, {QN_BF16, 254, 2, 2, 1, 254, 0x1.fep127}, {QN_F8_E4M3, 2, 0, 2, 1, 14, 448},
        {QN_F8_E5M2, 6, 2, 2, 1, 6, 57344},   {QN_F8_E4M3FNUZ, 1, 0, 1, 0, 14, 240},    {QN_F8_E5M2FNUZ, 1, 0, 1, 0, 6, 57344},
        {QN_F8_E8M0, 1, 0, 0, 0, 0, 0x1p127},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const unsigned unit = qn_unit_bytes(rows[i].t);
        const size_t n = unit == 2 ? 65536 : 256;
        for (size_t k = 0; k < n; k++) {
            if (unit == 2)
                qn_store16(v + 2 * k, (uint16_t)k);
            else
                v[k] = (uint8_t)k;
        }
        const qn_tensor_stats s = tally(rows[i].t, v, n * unit, 1000);
        cr_assert_eq(s.n_nan, rows[i].nan, "%s: %llu", qn_dtype_name(rows[i].t), (unsigned long long)s.n_nan);
        cr_assert_eq(s.n_inf, rows[i].inf, "%s", qn_dtype_name(rows[i].t));
        cr_assert_eq(s.n_zero, rows[i].zero, "%s", qn_dtype_name(rows[i].t));
        cr_assert_eq(s.n_neg_zero, rows[i].neg_zero);
        cr_assert_eq(s.n_subnormal, rows[i].subnormal, "%s: %llu", qn_dtype_name(rows[i].t), (unsigned long long)s.n_subnormal);
        cr_assert_eq(s.max, rows[i].max, "%s: %g", qn_dtype_name(rows[i].t), s.max);
        cr_assert_eq(s.n_distinct, n == 256 ? 256 : 0);
    }
}

Test(tally, moments_and_entropy)
{
    enum { N = 20000 };
    static float v[N];
    qt_rng r = qt_seed(5);
    long double sum = 0, m2 = 0, h = 0;
    uint64_t count[256] = {0};
    for (size_t i = 0; i < N; i++) {
        v[i] = (float)(1000 + qt_normal(&r)); /* far from zero: squares would cancel */
        sum += (long double)v[i];
        count[qn_f32_bits(v[i]) >> 23 & 255]++;
    }
    for (size_t i = 0; i < N; i++)
        m2 += ((long double)v[i] - sum / N) * ((long double)v[i] - sum / N);
    for (unsigned i = 0; i < 256; i++)
        if (count[i])
            h += (long double)count[i] / N * log2l((long double)N / count[i]);
    const qn_tensor_stats s = tally(QN_F32, v, sizeof v, 4 * 3001);
    cr_assert_float_eq(s.mean, (double)(sum / N), 1e-10);
    cr_assert_float_eq(s.std, (double)sqrtl(m2 / N), 1e-10);
    cr_assert(s.has_exponent);
    cr_assert_float_eq(s.exponent_bits, (double)h, 1e-12);
    cr_assert_float_eq(s.bound_bits, (double)h + 24, 1e-12);
}

Test(tally, entropy_of_integers_and_packed)
{
    uint8_t v[1024];
    for (size_t i = 0; i < sizeof v; i++)
        v[i] = (uint8_t)(i % 16);
    cr_assert_float_eq(tally(QN_I8, v, sizeof v, 100).bound_bits, 4, 1e-12);
    cr_assert_eq(tally(QN_I8, v, sizeof v, 100).n_distinct, 16);
    cr_assert_float_eq(tally(QN_F4, v, sizeof v, 100).bound_bits, 2, 1e-12); /* two in a byte */
    cr_assert_float_eq(tally(QN_F6_E3M2, v, 1020, 102).bound_bits, 3, 0.01);
    cr_assert(!tally(QN_F6_E3M2, v, 1020, 102).numeric);
    cr_assert_float_eq(tally(QN_U16, v, sizeof v, 100).bound_bits, 6, 1e-12); /* 8 low bytes, 8 high ones */
    cr_assert_eq(tally(QN_U16, v, sizeof v, 100).n_distinct, 8);
    cr_assert_eq(tally(QN_F8_E4M3, v, sizeof v, 100).exponent_bits, 1);
}

Test(tally, hidden_types)
{
    enum { N = 6400 };
    static uint8_t v[8 * N];
    const struct {
        qn_dtype wide, narrow;
    } rows[] = {
        {QN_F32, QN_BF16}, {QN_F32, QN_F16}, {QN_F32, QN_F8_E4M3}, {QN_F32, QN_F8_E5M2}, {QN_F64, QN_F32},
        {QN_F64, QN_BF16}, {QN_C64, QN_F16}, {QN_BF16, QN_F8_E4M3}, {QN_F16, QN_F8_E5M2}, {QN_F16, QN_BF16},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const unsigned unit = qn_unit_bytes(rows[i].wide);
        for (unsigned bad = 0; bad < 3; bad++) { /* none, a few, too many exceptions */
            qt_rng r = qt_seed(i);
            for (size_t k = 0; k < N; k++) {
                uint8_t narrow[8];
                double d;
                qt_put(rows[i].narrow, qt_normal(&r), narrow);
                cr_assert_eq(qn_widen(rows[i].narrow, narrow, 1, &d, NULL), QN_OK);
                if (bad && k % (bad == 1 ? 640 : 20) == 7)
                    d = 1.0 / 3;
                qt_put(rows[i].wide, d, v + k * unit);
            }
            const qn_tensor_stats s = tally(rows[i].wide, v, (size_t)N * unit, 640 * unit);
            cr_assert_eq(s.hidden, bad == 2 ? QN_BYTES : rows[i].narrow, "%s in %s with %u: %s", qn_dtype_name(rows[i].narrow),
                         qn_dtype_name(rows[i].wide), bad, qn_dtype_name(s.hidden));
            cr_assert_eq(s.n_hidden_exceptions, bad == 1 ? 10 : 0);
            if (bad == 0 && rows[i].wide == QN_F32 && rows[i].narrow == QN_BF16)
                cr_assert_eq(s.trailing_zeros, 16);
        }
    }
    qt_rng r = qt_seed(1);
    qt_fill_normal(&r, QN_F32, 1, N, v);
    cr_assert_eq(tally(QN_F32, v, 4 * N, 640 * 4).hidden, QN_BYTES);
    memset(v, 0, sizeof v);
    cr_assert_eq(tally(QN_F32, v, 4 * N, 640 * 4).hidden, QN_BYTES, "zeros hide nothing");
}

Test(tally, distinct_up_to_256)
{
    static uint32_t v[2000];
    for (unsigned n = 250; n <= 260; n++) {
        for (unsigned i = 0; i < 2000; i++)
            v[i] = i * 2654435761u % n * 77777;
        for (unsigned i = 0; i < n; i++)
            v[i] = i * 77777;
        cr_assert_eq(tally(QN_I32, v, sizeof v, 400).n_distinct, n <= 256 ? n : 0, "%u", n);
    }
}

Test(tally, empty)
{
    const qn_tensor_stats s = tally(QN_F32, "", 0, 4);
    cr_assert(s.n_values == 0 && s.n_finite == 0 && s.min == 0 && s.max == 0 && s.std == 0 && s.bound_bits == 0);
    cr_assert(s.n_distinct == 0 && s.hidden == QN_BYTES && s.trailing_zeros == 0);
}
