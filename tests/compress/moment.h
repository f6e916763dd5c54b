/* moment.h: second moments and weights for tests of the error-feedback engine, and the loss as it is defined. */
#ifndef QN_TESTS_COMPRESS_MOMENT_H
#define QN_TESTS_COMPRESS_MOMENT_H

#include "compress/ldl.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* X of `rank` rows, neighbouring columns alike, columns of very different size; H = XᵀX */
static inline double *moment(qt_rng *r, uint32_t n, uint32_t rank)
{
    double *h = calloc((size_t)n * n, sizeof *h), *x = malloc(n * sizeof *x);
    for (uint32_t k = 0; k < rank; k++) {
        double last = 0;
        for (uint32_t j = 0; j < n; j++) {
            last = 0.9 * last + qt_normal(r);
            x[j] = last * (j % 7 == 3 ? 10 : 1 + j % 5);
        }
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++)
                h[(size_t)i * n + j] += x[i] * x[j];
    }
    free(x);
    return h;
}

static inline float *weights(qt_rng *r, uint32_t rows, uint32_t n)
{
    float *w = malloc((size_t)rows * n * sizeof *w);
    for (size_t i = 0; i < (size_t)rows * n; i++)
        w[i] = (float)(0.05 * qt_normal(r));
    return w;
}

static inline qn_ldl make_ldl(double *h, uint32_t n, uint32_t group, qn_ldl_order order)
{
    qn_ldl l;
    double *copy = NULL;
    if (h) {
        copy = malloc((size_t)n * n * sizeof *copy);
        memcpy(copy, h, (size_t)n * n * sizeof *copy);
    }
    cr_assert_eq(qn_ldl_make(&l, NULL, n, copy, NULL, group, order, 0, NULL), QN_OK);
    free(copy);
    return l;
}

/* tr(E H' Eᵀ) as it is defined: H over the mean of its diagonal, plus the damping. */
static inline double loss_of(const double *h, uint32_t n, const qn_ldl *l, const float *w, const float *v, uint32_t rows)
{
    double sum = 0, *e = malloc(n * sizeof *e);
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t j = 0; j < n; j++)
            e[j] = (double)w[(size_t)i * n + j] - (v ? (double)v[(size_t)i * n + j] : 0);
        for (uint32_t j = 0; j < n; j++)
            for (uint32_t k = 0; k < n; k++)
                sum += e[j] * e[k] * (h[(size_t)j * n + k] / l->scale + (j == k ? l->damping : 0));
    }
    free(e);
    return sum;
}

#endif
