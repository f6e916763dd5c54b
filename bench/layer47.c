/* layer47.c: a made layer: normal weights, a second moment with a steep spectrum and channels of unequal scale. Printed is how many bits
 * each codec, feedback included, takes more than reverse water-filling says are needed for the error that it makes. */
#include "bench/quant.h"
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 512, OUT = 4096, ROTATED_MAX = 1024 };

/* Rows become orthonormal: Gram and Schmidt, twice for the sake of rounding. */
static void orthonormal(double *q, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        double *row = q + (size_t)i * n;
        for (uint32_t turn = 0; turn < 2; turn++)
            for (uint32_t k = 0; k < i; k++)
                cblas_daxpy((blasint)n, -cblas_ddot((blasint)n, row, 1, q + (size_t)k * n, 1), q + (size_t)k * n, 1, row, 1);
        cblas_dscal((blasint)n, 1 / cblas_dnrm2((blasint)n, row, 1), row, 1);
    }
}

void quant_moment(double *h, uint32_t n)
{
    const uint32_t k = n <= ROTATED_MAX ? n : n / 4;
    double *x = calloc((size_t)k * n, sizeof *x), *s = calloc(n, sizeof *s), trace = 0;
    for (uint32_t j = 0; j < n; j++)
        s[j] = exp(0.7 * quant_normal());
    for (size_t i = 0; i < (size_t)k * n; i++)
        x[i] = quant_normal();
    if (k == n)
        orthonormal(x, n);
    for (uint32_t i = 0; i < k; i++)
        for (uint32_t j = 0; j < n; j++)
            x[(size_t)i * n + j] *= sqrt(pow(i + 5, -1.2)) * s[j];
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, (blasint)n, (blasint)k, 1, x, (blasint)n, 0, h, (blasint)n);
    for (uint32_t i = 0; i < n; i++)
        trace += h[(size_t)i * n + i] / n;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = i; j < n; j++) {
            h[(size_t)i * n + j] = h[(size_t)i * n + j] / trace + (i == j ? 0.01 : 0);
            h[(size_t)j * n + i] = h[(size_t)i * n + j];
        }
    free(x);
    free(s);
}

/* Bits that a normal layer needs at least for this relative error: reverse water-filling on the eigenvalues of H. */
static double water_rate(const double *eigen, uint32_t n, double error)
{
    double sum = 0, lo = 0, hi = 0, rate = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += eigen[i];
        hi = fmax(hi, eigen[i]);
    }
    for (int turn = 0; turn < 200; turn++) {
        const double mid = (lo + hi) / 2;
        double d = 0;
        for (uint32_t i = 0; i < n; i++)
            d += fmin(mid, eigen[i]) / sum;
        if (d < error)
            lo = mid;
        else
            hi = mid;
    }
    for (uint32_t i = 0; i < n; i++)
        rate += fmax(0, 0.5 * log2(eigen[i] / lo)) / n;
    return rate;
}

void quant_layer_table(const quant_options *o)
{
    double *h = malloc(IN * IN * sizeof *h), *eigen = malloc(IN * sizeof *eigen), *copy = malloc(IN * IN * sizeof *copy);
    float *w = malloc(sizeof *w * IN * OUT);
    quant_variant v;
    quant_moment(h, IN);
    memcpy(copy, h, IN * IN * sizeof *h);
    if (LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'N', 'U', IN, copy, IN, eigen) != 0)
        exit(1);
    quant_fill(w, (size_t)IN * OUT, quant_normal);
    (void)printf("\n### Layer of %d × %d, condition %.0f\n\n| codec | asked | R | relative error | above the bound | known |\n"
                 "| --- | --: | --: | --: | --: | --: |\n", OUT, IN, eigen[IN - 1] / eigen[0]);
    for (unsigned at = 0; quant_next(&at, o->only, &v);)
        for (unsigned r = 1; r < QUANT_RATES; r++) {
            qn_ldl ldl;
            quant_coded c;
            quant_ldl(&v, quant_rate[r], IN, h, &ldl);
            const quant_job j = {.v = &v, .bits = quant_rate[r], .cpu = o->cpu, .w = w, .rows = OUT, .cols = IN, .ldl = &ldl};
            if (quant_encode(&j, &c)) {
                const double loss = quant_relative_loss(w, c.recon, OUT, IN, h);
                quant_check(&c, o->cpu);
                (void)printf("| %s | %g | %.4f | %.6f | %+.4f |", quant_label(&v), quant_rate[r], c.bits, loss,
                             c.bits - water_rate(eigen, IN, loss));
                if (v.layer_gap[r] > 0)
                    (void)printf(" %.3f", v.layer_gap[r]);
                (void)printf(" |\n");
                (void)fflush(stdout);
                quant_free(&c);
            }
            qn_ldl_release(&ldl);
        }
    free(h);
    free(copy);
    free(eigen);
    free(w);
}
