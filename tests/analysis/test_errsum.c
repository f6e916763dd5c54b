/* test_errsum.c: error measures against sums in long double, and the corners where something is zero or not finite. */
#include "analysis/errsum.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static void add(qn_errsum *s, const double *a, const double *b, uint64_t n)
{
    static double x[QN_ERRSUM_BLOCK], y[QN_ERRSUM_BLOCK];
    for (uint64_t i = 0; i < n; i += QN_ERRSUM_BLOCK) {
        const uint64_t m = n - i < QN_ERRSUM_BLOCK ? n - i : QN_ERRSUM_BLOCK;
        memcpy(x, a + i, m * sizeof *x);
        memcpy(y, b + i, m * sizeof *y);
        qn_errsum_add(s, x, y, m, i);
    }
}

static bool near(double got, long double want, double rel)
{
    return fabsl((long double)got - want) <= (long double)rel * fabsl(want);
}

Test(errsum, agrees_with_long_double)
{
    enum { N = 30011 };
    static double a[N], b[N];
    qt_rng r = qt_seed(7);
    long double abs = 0, sq = 0, aa = 0, bb = 0, ab = 0, most = 0, rel = 0;
    for (size_t i = 0; i < N; i++) {
        a[i] = qt_normal(&r);
        b[i] = a[i] + 0.01 * qt_normal(&r);
        const long double x = (long double)a[i], y = (long double)b[i], d = x - y, m = fabsl(x);
        abs += fabsl(d);
        sq += d * d;
        aa += x * x;
        bb += y * y;
        ab += x * y;
        most = fabsl(d) > most ? fabsl(d) : most;
        rel = fabsl(d) / m > rel ? fabsl(d) / m : rel;
    }
    qn_errsum s = {0};
    add(&s, a, b, N);
    cr_assert_eq(s.n, N);
    cr_assert_eq(s.n_finite, N);
    cr_assert(near(qn_errsum_mean_abs(&s), abs / N, 1e-12));
    cr_assert(near(qn_errsum_rms(&s), sqrtl(sq / N), 1e-12));
    cr_assert(near(qn_errsum_rel_rms(&s), sqrtl(sq / aa), 1e-12));
    cr_assert(near(qn_errsum_cosine(&s), ab / sqrtl(aa * bb), 1e-12));
    cr_assert(near(qn_errsum_sqnr_db(&s), 10 * log10l(aa / sq), 1e-12));
    cr_assert(near(s.max_abs, most, 1e-12));
    cr_assert(near(s.max_rel, rel, 1e-12));
    cr_assert(near(fabs(a[s.max_abs_at] - b[s.max_abs_at]), most, 1e-12));
}

Test(errsum, pieces_add_up)
{
    enum { N = 5000, CUT = 4096 };
    static double a[N], b[N];
    qt_rng r = qt_seed(8);
    for (size_t i = 0; i < N; i++)
        a[i] = qt_normal(&r), b[i] = qt_normal(&r);
    b[4500] = a[4500] + 100;
    qn_errsum whole = {0}, one = {0}, two = {0};
    add(&whole, a, b, N);
    add(&one, a, b, CUT);
    add(&two, a + CUT, b + CUT, N - CUT);
    two.max_abs_at += CUT;
    qn_errsum_merge(&one, &two);
    cr_assert_eq(one.n, N);
    cr_assert_eq(one.max_abs_at, 4500);
    cr_assert(near(one.sq, (long double)whole.sq, 1e-13));
    cr_assert(near(one.ab, (long double)whole.ab, 1e-11));
}

Test(errsum, corners)
{
    qn_errsum s = {0};
    cr_assert_eq(qn_errsum_rel_rms(&s), 0); /* nothing deviates from nothing */
    cr_assert_eq(qn_errsum_cosine(&s), 1);
    cr_assert(isinf(qn_errsum_sqnr_db(&s)) && qn_errsum_sqnr_db(&s) > 0);
    const double zero = 0, one = 1;
    add(&s, &zero, &one, 1); /* noise where there was no signal */
    cr_assert(isinf(qn_errsum_rel_rms(&s)));
    cr_assert_eq(qn_errsum_cosine(&s), 0);
    cr_assert(qn_errsum_sqnr_db(&s) < 0);
    cr_assert_eq(s.max_rel, 0, "a = 0 has no relative error");
    cr_assert_eq(qn_errsum_mean_abs(&s), 1);
}

Test(errsum, what_is_not_finite_is_counted_apart)
{
    const double nan = (double)NAN, inf = HUGE_VAL;
    const double a[] = {1, nan, nan, 1, inf, inf, -inf, 2, inf, nan}, b[] = {1, nan, 1, nan, inf, -inf, 5, 2.5, 1, inf};
    qn_errsum s = {0};
    add(&s, a, b, sizeof a / sizeof a[0]);
    cr_assert_eq(s.n, 10);
    cr_assert_eq(s.n_finite, 2);
    cr_assert_eq(s.n_nan_mismatch, 3);
    cr_assert_eq(s.n_inf_mismatch, 3);
    cr_assert_eq(s.max_abs, 0.5);
    cr_assert_eq(s.max_abs_at, 7);
    cr_assert_eq(s.aa, 5);
}
