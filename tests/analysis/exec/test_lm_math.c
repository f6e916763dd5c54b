/* test_lm_math.c: the f32 functions of vmath.h against libm's f64, over the whole range. */
#include "analysis/exec/vmath.h"
#include <criterion/criterion.h>
#include <math.h>

/* Distance of got from want in units of want's last place as an f32. */
static double ulps(float got, double want)
{
    int e;
    (void)frexp(want, &e);
    return fabs((double)got - want) / ldexp(1, e < -125 ? -149 : e - 24);
}

Test(lm_math, exp_within_two_ulp)
{
    double worst = 0;
    /* Every 1021st float of both signs. */
    for (uint64_t u = 0; u < 0x7f800000; u += 1021)
        for (uint32_t sign = 0; sign < 2; sign++) {
            const float x = qn_bits_f32((uint32_t)u | sign << 31), y = qn_vexp(x);
            const double want = exp((double)x);
            if (want > 3.4028235e38) {
                cr_assert(isinf(y) && y > 0, "%g gives %g", (double)x, (double)y);
                continue;
            }
            const double d = ulps(y, want);
            worst = fmax(worst, d);
            cr_assert(d <= 2, "exp %.9g is %.9g, not %.9g: %g ulp", (double)x, (double)y, want, d);
        }
    cr_assert(worst > 0.4, "nothing was compared");
    cr_assert_eq(qn_vexp(0.0f), 1.0f);
    cr_assert_eq(qn_vexp(-INFINITY), 0.0f);
    cr_assert(isinf(qn_vexp(INFINITY)));
    cr_assert(isnan(qn_vexp(NAN)));
}

Test(lm_math, tanh_and_sigmoid)
{
    for (uint64_t u = 0; u < 0x7f800000; u += 4093)
        for (uint32_t sign = 0; sign < 2; sign++) {
            const float x = qn_bits_f32((uint32_t)u | sign << 31);
            const double t = tanh((double)x), s = 1 / (1 + exp(-(double)x));
            cr_assert(fabs((double)qn_vtanh(x) - t) <= 6e-7 * fabs(t) + 1e-45, "tanh %.9g is %.9g", (double)x, (double)qn_vtanh(x));
            cr_assert(fabs((double)qn_vsigmoid(x) - s) <= 4e-7 * s + 1.2e-38, "sigmoid %.9g is %.9g", (double)x, (double)qn_vsigmoid(x));
        }
    cr_assert(isnan(qn_vtanh(NAN)) && isnan(qn_vsigmoid(NAN)));
    cr_assert(qn_vtanh(INFINITY) == 1.0f && qn_vtanh(-INFINITY) == -1.0f);
}
