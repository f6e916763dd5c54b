/* solve.h: plain elimination, as the tests' own way to least squares. */
#ifndef QN_TESTS_PRUNE_SOLVE_H
#define QN_TESTS_PRUNE_SOLVE_H

#include <math.h>
#include <stddef.h>

/* x A = y for a symmetric A (n × n, destroyed): Gauss with pivots; y becomes x. */
static inline void qt_solve(double *a, double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t best = i;
        for (size_t r = i + 1; r < n; r++)
            if (fabs(a[r * n + i]) > fabs(a[best * n + i]))
                best = r;
        for (size_t c = 0; c < n; c++) {
            const double t = a[i * n + c];
            a[i * n + c] = a[best * n + c];
            a[best * n + c] = t;
        }
        const double t = y[i];
        y[i] = y[best];
        y[best] = t;
        for (size_t r = i + 1; r < n; r++) {
            const double q = a[r * n + i] / a[i * n + i];
            for (size_t c = i; c < n && q != 0; c++)
                a[r * n + c] -= q * a[i * n + c];
            y[r] -= q * y[i];
        }
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t c = i + 1; c < n; c++)
            y[i] -= a[i * n + c] * y[c];
        y[i] /= a[i * n + i];
    }
}

#endif
