/* test_rows.c: which rows stand for which: clusters are found, nobody is moved further than was allowed. */
#include "base/err.h"
#include "compress/rows.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static qn_arena arena;
static qn_err err;

static void set_up(void)
{
    qn_arena_init(&arena, NULL);
    qn_err_clear(&err);
}

static void tear_down(void)
{
    qn_arena_release(&arena);
}

TestSuite(rows, .init = set_up, .fini = tear_down);

static float value(uint64_t a, uint64_t b) /* −1 … 1, the same for the same numbers */
{
    uint64_t x = a * 0x9e3779b97f4a7c15u + b;
    for (int i = 0; i < 3; i++) {
        x ^= x >> 31;
        x *= 0xbf58476d1ce4e5b9u;
    }
    return (float)((double)(x >> 11) * 0x1p-52 - 1);
}

/* `centres` different rows; row r is centre r mod centres moved by about `off`. */
static float *clusters(uint32_t n, uint32_t cols, uint32_t centres, float off)
{
    float *w = qn_arena_get(&arena, (uint64_t)n * cols * sizeof *w, 64, &err);
    cr_assert(w);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t j = 0; j < cols; j++)
            w[(size_t)r * cols + j] = value(r % centres, j) + off * value(1000 + r, j);
    return w;
}

static void check(const qn_rows *m, const float *w, uint32_t cols, double share)
{
    uint32_t seen = 0;
    for (uint32_t r = 0; r < m->n_rows; r++) {
        cr_assert_lt(m->map[r], m->n_unique);
        cr_assert_leq(m->map[r], seen, "numbered by first appearance");
        seen += m->map[r] == seen;
        const float *a = w + (size_t)r * cols, *b = w + (size_t)m->first[m->map[r]] * cols;
        double d = 0, s = 0;
        for (uint32_t j = 0; j < cols; j++) {
            d += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
            s += (double)a[j] * (double)a[j];
        }
        cr_assert_leq(d, share * s * (1 + 1e-12));
    }
    cr_assert_eq(seen, m->n_unique);
}

Test(rows, near_ones_are_found)
{
    qn_rows m;
    const float *w = clusters(300, 64, 20, 1e-3f);
    cr_assert_eq(qn_rows_near(&m, w, 300, 64, 1e-4, &arena, &err), QN_OK);
    check(&m, w, 64, 1e-4);
    cr_expect_eq(m.n_unique, 20u);
    for (uint32_t r = 0; r < 300; r++)
        cr_expect_eq(m.map[r], r % 20);
}

Test(rows, others_are_left_alone)
{
    qn_rows m;
    const float *w = clusters(200, 32, 200, 0);
    cr_assert_eq(qn_rows_near(&m, w, 200, 32, 1e-3, &arena, &err), QN_OK);
    cr_expect_eq(m.n_unique, 200u);
    w = clusters(200, 32, 20, 0.1f); /* further apart than was allowed */
    cr_assert_eq(qn_rows_near(&m, w, 200, 32, 1e-6, &arena, &err), QN_OK);
    check(&m, w, 32, 1e-6);
    cr_expect_eq(m.n_unique, 200u);
}

Test(rows, zeros_and_equal_rows)
{
    qn_rows m;
    float w[5 * 16] = {0};
    w[16] = 1;
    w[3 * 16] = 1;
    cr_assert_eq(qn_rows_near(&m, w, 5, 16, 0, &arena, &err), QN_OK);
    check(&m, w, 16, 0);
    cr_expect_eq(m.n_unique, 2u);
}
