/* test_vq_kmeans.c: books of centroids: where the best one is known, and what must hold for any. */
#include "base/cpu.h"
#include "compress/vq_kmeans.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static qn_arena arena;
static qn_ekern_vq kern;

static void start(void)
{
    qn_arena_init(&arena, NULL);
    qn_ekern_vq_init(&kern, qn_cpu_detect());
}

static void stop(void)
{
    qn_arena_release(&arena);
}

TestSuite(vq_kmeans, .init = start, .fini = stop);

/* Σ weight · least |x − c|², written out. */
static double slow_error(const qn_vq_sample *s, const float *book, uint32_t k)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        double least = HUGE_VAL;
        for (uint32_t c = 0; c < k; c++) {
            double d2 = 0;
            for (unsigned d = 0; d < s->v; d++)
                d2 += pow((double)s->x[d * s->ld + i] - (double)book[c * s->v + d], 2);
            least = fmin(least, d2);
        }
        sum += least * (s->weight ? (double)s->weight[i] : 1);
    }
    return sum;
}

/* Sixteen places, each taken by many vectors: all are found. */
Test(vq_kmeans, finds_clusters)
{
    enum { N = 4000 };
    qt_rng r = qt_seed(1);
    float *x = malloc(2 * N * sizeof *x), book[32];
    double error;
    for (size_t i = 0; i < N; i++) {
        const unsigned c = (unsigned)qt_below(&r, 16);
        x[i] = (float)(c % 4) * 4 - 6 + 0.05f * (float)qt_normal(&r);
        x[N + i] = (float)(c / 4) * 4 - 6 + 0.05f * (float)qt_normal(&r);
    }
    const qn_vq_sample s = {.v = 2, .n = N, .ld = N, .x = x};
    cr_assert_eq(qn_vq_grow(&kern, &s, book, 16, 40, &error, &arena, NULL), QN_OK);
    cr_assert_float_eq(error, slow_error(&s, book, 16), 1e-6 * error);
    cr_assert_lt(error / N, 2.2 * 0.05 * 0.05, "mean error %g", error / N);
    free(x);
}

/* The scalar quantizers of Max (IRE Trans. Information Theory 1960) are what two coordinates find when the second is zero. */
Test(vq_kmeans, max_quantizer)
{
    enum { N = 100000 };
    static const struct {
        uint32_t k;
        double error;
    } max[] = {{2, 0.3634}, {4, 0.1175}, {8, 0.03454}, {16, 0.009497}};
    qt_rng r = qt_seed(2);
    float *x = calloc(2 * N, sizeof *x), book[32];
    for (size_t i = 0; i < N; i++)
        x[i] = (float)qt_normal(&r);
    const qn_vq_sample s = {.v = 2, .n = N, .ld = N, .x = x};
    for (unsigned i = 0; i < 4; i++) {
        double error;
        cr_assert_eq(qn_vq_grow(&kern, &s, book, max[i].k, 200, &error, &arena, NULL), QN_OK);
        cr_assert_float_eq(error / N / max[i].error, 1, 0.02, "%u levels: %g", max[i].k, error / N);
    }
    free(x);
}

/* A vector of weight 3 is three vectors. */
Test(vq_kmeans, weights)
{
    enum { N = 300 };
    qt_rng r = qt_seed(3);
    float x[2 * N], weight[N], many[2 * 3 * N], a[8], b[8];
    size_t n = 0;
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)qt_normal(&r);
        x[N + i] = (float)qt_normal(&r);
        weight[i] = (float)qt_below(&r, 4);
        for (float w = 0; w < weight[i]; w += 1, n++) {
            many[n] = x[i];
            many[3 * N + n] = x[N + i];
        }
    }
    for (unsigned i = 0; i < 8; i++)
        a[i] = b[i] = x[i];
    const qn_vq_sample few = {.v = 2, .n = N, .ld = N, .x = x, .weight = weight}, all = {.v = 2, .n = n, .ld = 3 * N, .x = many};
    double e, f;
    cr_assert_eq(qn_vq_lloyd(&kern, &few, a, 4, 20, &e, &arena, NULL), QN_OK);
    cr_assert_eq(qn_vq_lloyd(&kern, &all, b, 4, 20, &f, &arena, NULL), QN_OK);
    cr_assert_float_eq(e, f, 1e-9 * e);
    cr_assert(memcmp(a, b, sizeof a) == 0);
}

/* No round makes it worse, coordinates are f16, and more centroids than vectors do no harm. */
Test(vq_kmeans, any_sample)
{
    qt_rng r = qt_seed(4);
    for (unsigned trial = 0; trial < 40; trial++) {
        const unsigned v = 2u << trial % 3;
        const size_t n = 1 + qt_below(&r, 200), ld = n + 3;
        const uint32_t k = 1u << qt_below(&r, 9);
        float *x = calloc(ld * v, sizeof *x), *book = malloc(k * v * sizeof *book);
        for (size_t i = 0; i < ld * v; i++)
            x[i] = trial % 4 == 3 ? 0 : (float)(qt_normal(&r) * (trial % 2 ? 1 : 1e4));
        const qn_vq_sample s = {.v = v, .n = n, .ld = ld, .x = x};
        double last = HUGE_VAL;
        cr_assert_eq(qn_vq_grow(&kern, &s, book, k, 0, &last, &arena, NULL), QN_OK);
        double all = 0; /* distances are compared in f32 */
        for (size_t i = 0; i < ld * v; i++)
            all += (double)x[i] * (double)x[i];
        cr_assert_float_eq(last, slow_error(&s, book, k), 1e-6 * all);
        for (unsigned i = 0; i < 5; i++) {
            double e;
            cr_assert_eq(qn_vq_lloyd(&kern, &s, book, k, 1, &e, &arena, NULL), QN_OK);
            cr_assert_leq(e, last + 1e-3 * last + 1e-6 * all);
            last = e;
        }
        for (size_t i = 0; i < k * v; i++)
            cr_assert(isfinite(book[i]));
        free(x);
        free(book);
    }
}
