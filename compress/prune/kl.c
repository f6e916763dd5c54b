/* kl.c: see kl.h. */
#include "compress/prune/kl.h"
#include <math.h>

/* ln Σ exp x; NaN when x has a NaN or +∞. */
static double log_sum(const float *x, uint64_t n)
{
    double most = -(double)INFINITY, sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (isnan(x[i]) || x[i] == INFINITY)
            return (double)NAN;
        most = fmax(most, (double)x[i]);
    }
    for (uint64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - most);
    return most + log(sum);
}

/* e^d − 1 − d for |d| ≤ 1. */
static double above_tangent(double d)
{
    if (fabs(d) > 1e-2)
        return expm1(d) - d;
    return d * d / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5 * (1 + d / 6))));
}

double qn_kl_logits(const float *p, const float *q, uint64_t n)
{
    const double lp = log_sum(p, n), lq = log_sum(q, n);
    if (!isfinite(lq) || !isfinite(lp))
        return (double)INFINITY;
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double a = (double)p[i] - lp, b = (double)q[i] - lq, d = b - a;
        if (!isfinite(a))
            sum += exp(b); /* p ln p → 0 */
        else
            sum += fabs(d) <= 1 ? exp(a) * above_tangent(d) : exp(b) - exp(a) * (1 + d);
    }
    return sum;
}

double qn_kl_probs(const float *p, const float *q, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double a = (double)p[i], b = fmax((double)q[i], QN_KL_LEAST);
        if (!isfinite(q[i]))
            return (double)INFINITY;
        if (p[i] == q[i])
            continue;
        if (!(a > 0)) {
            sum += b;
            continue;
        }
        const double d = log(b / a);
        sum += fabs(d) <= 1 ? a * above_tangent(d) : b - a * (1 + d);
    }
    return sum;
}
