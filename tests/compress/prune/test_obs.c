/* The order of removals and what they cost, against a search that solves the least squares anew for every candidate. */
#include "compress/prune/obs.h"
#include "tests/support/made.h"
#include "tests/compress/prune/solve.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 256 };

/* A reader of d columns with a moment of `rank` random rows and a ridge. */
struct made {
    double *h, *w;
    uint32_t *start, *cols;
};

static struct made make(qt_rng *r, uint32_t d, uint32_t m, uint32_t rank, uint32_t n_groups, uint32_t each)
{
    struct made k = {.h = qt_made_keep(calloc((size_t)d * d, sizeof(double))), .w = qt_made_keep(calloc((size_t)m * d, sizeof(double))),
                     .start = qt_made_keep(calloc(n_groups + 1, sizeof(uint32_t))), .cols = qt_made_keep(calloc(d, sizeof(uint32_t)))};
    double *x = qt_made_keep(calloc(d, sizeof(double)));
    for (uint32_t i = 0; i < rank; i++) {
        for (uint32_t j = 0; j < d; j++)
            x[j] = qt_normal(r) + (j ? 0.5 * x[j - 1] : 0);
        for (uint32_t j = 0; j < d; j++)
            for (uint32_t l = 0; l < d; l++)
                k.h[j * d + l] += x[j] * x[l] / rank;
    }
    for (uint32_t j = 0; j < d; j++)
        k.h[j * d + j] += 0.01;
    for (uint32_t j = 0; j < m * d; j++)
        k.w[j] = qt_normal(r);
    for (uint32_t g = 0; g <= n_groups; g++)
        k.start[g] = g * each;
    for (uint32_t c = 0; c < n_groups * each; c++) /* columns in a mixed order, some of nobody */
        k.cols[c] = (c * 7 + 3) % d;
    return k;
}

/* min tr((W' − W) H (W' − W)ᵀ) over W' that are 0 in the columns of groups that are gone. */
static double objective(const struct made *k, uint32_t d, uint32_t m, uint32_t n_groups, const uint8_t *gone)
{
    static uint32_t live[MOST];
    static double y[MOST], e[MOST];
    uint8_t out[MOST] = {0};
    uint32_t n = 0;
    double sum = 0;
    for (uint32_t g = 0; g < n_groups; g++)
        for (uint32_t c = k->start[g]; c < k->start[g + 1] && gone[g]; c++)
            out[k->cols[c]] = 1;
    for (uint32_t j = 0; j < d; j++)
        if (!out[j])
            live[n++] = j;
    double *a = malloc((size_t)n * n * sizeof *a + 8);
    for (uint32_t r = 0; r < m; r++) {
        const double *w = k->w + (size_t)r * d;
        for (uint32_t i = 0; i < n; i++) {
            y[i] = 0;
            for (uint32_t j = 0; j < d; j++)
                y[i] += w[j] * k->h[live[i] * d + j];
            for (uint32_t j = 0; j < n; j++)
                a[i * n + j] = k->h[live[i] * d + live[j]];
        }
        qt_solve(a, y, n);
        for (uint32_t j = 0; j < d; j++)
            e[j] = -w[j];
        for (uint32_t i = 0; i < n; i++)
            e[live[i]] += y[i];
        for (uint32_t i = 0; i < d; i++)
            for (uint32_t j = 0; j < d; j++)
                sum += e[i] * k->h[i * d + j] * e[j];
    }
    free(a);
    return sum;
}

struct shape {
    uint32_t d, m, each, n_groups, every;
};

static void compare(const struct shape *s, unsigned n_readers, const uint8_t *first, const uint8_t *costless)
{
    qt_rng r = qt_seed(s->d * 131 + s->each);
    struct made k[2];
    qn_obs_reader readers[2];
    for (unsigned i = 0; i < n_readers; i++) {
        k[i] = make(&r, s->d, s->m + i, 2 * s->d, s->n_groups, s->each);
        readers[i] = (qn_obs_reader){.d = s->d, .m = s->m + i, .h = k[i].h, .w = k[i].w, .weight = i ? 0.3 : 1, .start = k[i].start, .cols = k[i].cols};
    }
    const qn_obs_job job = {.env = qt_made_env(1), .readers = readers, .n_readers = n_readers, .n_groups = s->n_groups, .first = first, .free = costless,
                            .n_remove = s->n_groups, .every = s->every};
    uint32_t order[64];
    double error[64];
    qn_err err = {0};
    cr_assert_eq(qn_obs_run(&job, order, error, &err), QN_OK, "%s", err.text);
    uint8_t gone[64] = {0};
    double before = 0, sum = 0;
    for (uint32_t n = 0; n < s->n_groups; n++) {
        uint32_t best = UINT32_MAX;
        double least = 0, at = 0;
        for (uint32_t g = 0; g < s->n_groups; g++) {
            if (gone[g])
                continue;
            gone[g] = 1;
            double cost = 0;
            for (unsigned i = 0; i < n_readers; i++)
                cost += readers[i].weight * objective(&k[i], s->d, s->m + i, s->n_groups, gone);
            gone[g] = 0;
            const double key = first && first[g] ? -1e9 + g : costless && costless[g] ? 0 : cost - before;
            if (best == UINT32_MAX || key < least) {
                best = g;
                least = key;
                at = cost;
            }
        }
        cr_assert_eq(order[n], best, "removal %u of d %u", n, s->d);
        sum += costless && costless[best] ? 0 : at - before;
        cr_assert_float_eq(error[n], sum, 1e-8 * (1 + sum), "removal %u: %g, not %g", n, error[n], sum);
        before = at;
        gone[best] = 1;
    }
}

Test(obs, columns)
{
    compare(&(struct shape){.d = 12, .m = 5, .each = 1, .n_groups = 12}, 1, NULL, NULL);
    compare(&(struct shape){.d = 12, .m = 5, .each = 1, .n_groups = 12, .every = 3}, 1, NULL, NULL);
    compare(&(struct shape){.d = 11, .m = 17, .each = 1, .n_groups = 8, .every = 1}, 2, NULL, NULL);
}

Test(obs, blocks)
{
    compare(&(struct shape){.d = 20, .m = 4, .each = 3, .n_groups = 6}, 1, NULL, NULL);
    compare(&(struct shape){.d = 20, .m = 4, .each = 3, .n_groups = 6, .every = 2}, 2, NULL, NULL);
    compare(&(struct shape){.d = 61, .m = 3, .each = 30, .n_groups = 2}, 1, NULL, NULL); /* wide blocks are factored elsewhere */
}

Test(obs, first_and_free)
{
    const uint8_t first[12] = {[5] = 1, [9] = 1}, costless[12] = {[2] = 1, [9] = 1};
    compare(&(struct shape){.d = 12, .m = 5, .each = 1, .n_groups = 12}, 1, first, costless);
}

/* More removals than updates that are put off; a given order, so that only a few objectives need solving. */
Test(obs, put_off)
{
    enum { D = 240, N = 234, M = 3 };
    qt_rng r = qt_seed(7);
    const struct made k = make(&r, D, M, 2 * D, N, 1);
    const qn_obs_reader reader = {.d = D, .m = M, .h = k.h, .w = k.w, .weight = 1, .start = k.start, .cols = k.cols};
    uint32_t forced[N], order[N];
    double error[N], again[N];
    uint8_t gone[N] = {0};
    qn_err err = {0};
    for (uint32_t i = 0; i < N; i++)
        forced[i] = (i * 5) % N;
    qn_obs_job job = {.env = qt_made_env(1), .readers = &reader, .n_readers = 1, .n_groups = N, .forced = forced, .n_remove = N};
    cr_assert_eq(qn_obs_run(&job, order, error, &err), QN_OK, "%s", err.text);
    job.every = 50;
    cr_assert_eq(qn_obs_run(&job, order, again, &err), QN_OK, "%s", err.text);
    for (uint32_t i = 0; i < N; i++) {
        cr_assert_eq(order[i], forced[i]);
        cr_assert_float_eq(error[i], again[i], 1e-9 * error[i]);
        gone[forced[i]] = 1;
        if (i == 100 || i == 191 || i == 200 || i == N - 1) {
            const double want = objective(&k, D, M, N, gone);
            cr_assert_float_eq(error[i], want, 1e-8 * want, "%u: %g, not %g", i, error[i], want);
        }
    }
}

/* Equal scores: the lowest group goes. */
Test(obs, ties)
{
    const double h[16] = {[0] = 1, [5] = 1, [10] = 1, [15] = 1}, w[4] = {2, 1, 1, 2};
    const uint32_t start[] = {0, 1, 2, 3, 4}, cols[] = {0, 1, 2, 3};
    const qn_obs_reader reader = {.d = 4, .m = 1, .h = h, .w = w, .weight = 1, .start = start, .cols = cols};
    const qn_obs_job job = {.env = qt_made_env(1), .readers = &reader, .n_readers = 1, .n_groups = 4, .n_remove = 4};
    uint32_t order[4];
    double error[4];
    qn_err err = {0};
    cr_assert_eq(qn_obs_run(&job, order, error, &err), QN_OK);
    const uint32_t want[4] = {1, 2, 0, 3};
    const double sums[4] = {1, 2, 6, 10};
    for (unsigned i = 0; i < 4; i++) {
        cr_expect_eq(order[i], want[i]);
        cr_expect_float_eq(error[i], sums[i], 1e-12);
    }
}

Test(obs, not_positive)
{
    const double h[4] = {1, 2, 2, 1}, w[2] = {1, 1};
    const uint32_t start[] = {0, 1, 2}, cols[] = {0, 1};
    const qn_obs_reader reader = {.d = 2, .m = 1, .h = h, .w = w, .weight = 1, .start = start, .cols = cols};
    const qn_obs_job job = {.env = qt_made_env(1), .readers = &reader, .n_readers = 1, .n_groups = 2, .n_remove = 1};
    uint32_t order[1];
    double error[1];
    qn_err err = {0};
    cr_assert_eq(qn_obs_run(&job, order, error, &err), QN_E_INPUT);
    cr_assert(strstr(err.text, "positive definite") != NULL, "%s", err.text);
}
