/* The search of bisect over made distances: what it finds is known beforehand, and that nothing of it can be left out is checked by trying. */
#include "analysis/gate/bisect.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

enum { N = 40 };

/* D(S) = Σ own[i] + `both` when a and b are in S together. */
struct made {
    double own[N], both;
    uint32_t a, b;
    unsigned n_calls;
};

static qn_code distance(void *ctx, const uint8_t *taken, double *d, qn_err *err)
{
    struct made *m = ctx;
    (void)err;
    *d = taken[m->a] && taken[m->b] ? m->both : 0;
    for (unsigned i = 0; i < N; i++)
        *d += taken[i] ? m->own[i] : 0;
    m->n_calls++;
    return QN_OK;
}

struct result {
    qn_culprit found[N];
    uint32_t n;
    double explained;
    bool spread;
};

static struct result search(struct made *m, uint32_t n_groups, double share)
{
    uint32_t group_of[N];
    uint8_t all[N];
    double d;
    qn_err err;
    struct result r = {.n = 0};
    for (uint32_t i = 0; i < N; i++)
        group_of[i] = i * n_groups / N;
    memset(all, 1, sizeof all);
    cr_assert_eq(distance(m, all, &d, &err), QN_OK);
    m->n_calls = 0;
    cr_assert_eq(qn_bisect_search(NULL, N, group_of, n_groups, share, d, distance, m, r.found, &r.n, &r.explained, &r.spread, &err), QN_OK);
    if (r.spread)
        return r;
    /* it explains, and no member can go */
    uint8_t set[N] = {0};
    double now;
    for (uint32_t i = 0; i < r.n; i++)
        set[r.found[i].item] = 1;
    cr_assert_eq(distance(m, set, &now, &err), QN_OK);
    cr_assert_float_eq(now, r.explained, 1e-12);
    cr_assert_geq(now, share * d);
    for (uint32_t i = 0; i < r.n; i++) {
        set[r.found[i].item] = 0;
        cr_assert_eq(distance(m, set, &now, &err), QN_OK);
        cr_assert_lt(now, share * d, "item %u is not needed", r.found[i].item);
        set[r.found[i].item] = 1;
    }
    return r;
}

Test(bisect, one_culprit)
{
    for (uint32_t bad = 0; bad < N; bad += 3)
        for (uint32_t groups = 1; groups <= 10; groups += 3) {
            struct made m = {.a = 0, .b = 1};
            for (unsigned i = 0; i < N; i++)
                m.own[i] = 0.001;
            m.own[bad] = 1;
            const struct result r = search(&m, groups, 0.9);
            cr_assert_not(r.spread);
            cr_assert_eq(r.n, 1);
            cr_assert_eq(r.found[0].item, bad);
            cr_assert_float_eq(r.found[0].alone, 1, 1e-12);
            cr_assert_leq(m.n_calls, groups + N / groups + 20u, "%u runs with %u groups", m.n_calls, groups);
        }
}

Test(bisect, two_that_do_it_together)
{
    struct made m = {.a = 3, .b = 33, .both = 5};
    for (unsigned i = 0; i < N; i++)
        m.own[i] = 0.01;
    const struct result r = search(&m, 8, 0.9);
    bool a = false, b = false;
    for (uint32_t i = 0; i < r.n; i++) {
        a = a || r.found[i].item == 3;
        b = b || r.found[i].item == 33;
    }
    cr_assert(r.spread || (a && b));
}

Test(bisect, strongest_first)
{
    struct made m = {.a = 0, .b = 1};
    m.own[7] = 2;
    m.own[8] = 4;
    m.own[9] = 1;
    const struct result r = search(&m, 10, 0.99);
    cr_assert_eq(r.n, 3);
    cr_assert_eq(r.found[0].item, 8);
    cr_assert_eq(r.found[1].item, 7);
    cr_assert_eq(r.found[2].item, 9);
}

Test(bisect, spread)
{
    struct made m = {.a = 0, .b = 1};
    for (unsigned i = 0; i < N; i++)
        m.own[i] = 1;
    const struct result r = search(&m, 10, 0.9);
    cr_assert(r.spread);
    cr_assert_geq(r.n, 0.9 * N);
    cr_assert_geq(r.explained, 0.9 * N);
}
