/* stats.c: rate of the second moment against OpenBLAS's own peak, one thread each. Markdown on stdout.
 *
 *     bench/stats [N …]
 *
 * Peak: sgemm of two 1024 × 1024 matrices, 2 n³ operations. Statistics: rows × n² operations, what the upper triangle takes
 * and no more; the vectors beside it are timed with it. The ratio is what counts: both are measured in turn. */
#include "analysis/stats/gram.h"
#include "base/alloc.h"
#include "base/err.h"
#include "bench/timing.h"
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>

enum { PEAK = 1024, ROWS = 2048 };

struct peak {
    float *a, *b, *c;
};

static void run_peak(void *ctx)
{
    const struct peak *p = ctx;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, PEAK, PEAK, PEAK, 1, p->a, PEAK, p->b, PEAK, 0, p->c, PEAK);
}

struct gram {
    qn_env env;
    float *x;
    uint32_t n;
    qn_gram_vectors v;
    double *h;
    bool with_h;
};

static void run_gram(void *ctx)
{
    const struct gram *g = ctx;
    uint64_t bad;
    qn_code rc = qn_gram_look(&g->env, g->x, ROWS, g->n, g->n, &g->v, &bad, NULL);
    if (rc == QN_OK && g->with_h)
        rc = qn_gram_add(&g->env, g->x, ROWS, g->n, g->n, &g->v, g->h, NULL);
    if (rc != QN_OK)
        abort();
}

static float *matrix(size_t n)
{
    float *p = qn_mem_get(NULL, n * sizeof *p, NULL);
    uint32_t s = 1;
    if (!p)
        abort();
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525 + 1013904223;
        p[i] = (float)(s >> 8) / (float)(1 << 24) - 0.5f;
    }
    return p;
}

static void one(uint32_t n, struct peak *p)
{
    struct gram g = {.n = n, .with_h = true, .x = matrix((size_t)ROWS * n)};
    double peak, sec, vectors;
    if (qn_env_init(&g.env, NULL) != QN_OK)
        abort();
    g.env.n_threads = 1;
    double *d = qn_mem_zeros(NULL, 4ull * n + qn_gram_size(n), sizeof *d, NULL);
    if (!d)
        abort();
    g.v = (qn_gram_vectors){.sum_sq = d, .sum = d + n, .sum_abs = d + 2ull * n, .min = (float *)(d + 3ull * n)};
    g.v.max = g.v.min + n;
    g.h = d + 4ull * n;
    bench_pair(run_peak, p, run_gram, &g, 5, &peak, &sec);
    g.with_h = false;
    vectors = bench_time(run_gram, &g, 5);
    const double peak_rate = 2.0 * PEAK * PEAK * PEAK / peak, rate = (double)ROWS * n * n / sec;
    printf("| %lu | %.1f | %.1f | %.3f | %.1f %% | %.0f |\n", (unsigned long)n, peak_rate * 1e-9, rate * 1e-9, rate / peak_rate,
           100 * vectors / sec, ROWS / sec);
    qn_mem_put(NULL, d);
    qn_mem_put(NULL, g.x);
}

int main(int argc, char **argv)
{
    static const uint32_t usual[] = {128, 288, 512, 1024, 2048, 4096};
    struct peak p = {matrix(PEAK * PEAK), matrix(PEAK * PEAK), matrix(PEAK * PEAK)};
    openblas_set_num_threads(1);
    printf("| n | sgemm Gop/s | statistics Gop/s | ratio | of it vectors | rows/s |\n| ---: | ---: | ---: | ---: | ---: | ---: |\n");
    if (argc > 1)
        for (int i = 1; i < argc; i++)
            one((uint32_t)strtoul(argv[i], NULL, 10), &p);
    else
        for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
            one(usual[i], &p);
    qn_mem_put(NULL, p.a);
    qn_mem_put(NULL, p.b);
    qn_mem_put(NULL, p.c);
    return 0;
}
