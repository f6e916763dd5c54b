/* test_knapsack.c: against every choice there is, on small tables. */
#include "compress/prune/knapsack.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <math.h>

static qn_err err;

enum { ITEMS = 5, LEVELS = 4 };

static double best_of_all(const qn_knapsack_item *it, double target)
{
    double best = (double)INFINITY;
    for (unsigned c = 0; c < 1024; c++) { /* 4^5 */
        double loss = 0, saving = 0;
        for (unsigned i = 0; i < ITEMS; i++) {
            const unsigned l = c >> (2 * i) & 3;
            loss += l < it[i].n_levels ? it[i].loss[l] : (double)INFINITY;
            saving += l < it[i].n_levels ? it[i].saving[l] : 0;
        }
        if (saving >= target && loss < best)
            best = loss;
    }
    return best;
}

Test(knapsack, is_the_best_of_all_choices)
{
    qt_rng r = qt_seed(7);
    unsigned n_possible = 0, n_impossible = 0;
    for (unsigned round = 0; round < 200; round++) {
        qn_knapsack_item it[ITEMS] = {{.n_levels = 0}};
        const double target = 64; /* divides the parts: savings of whole numbers are not rounded */
        for (unsigned i = 0; i < ITEMS; i++) {
            it[i].n_levels = 1 + (uint32_t)(qt_next(&r) % LEVELS);
            for (unsigned l = 1; l < it[i].n_levels; l++) {
                it[i].saving[l] = (double)(qt_next(&r) % 40);
                it[i].loss[l] = qt_next(&r) % 9 ? (double)(qt_next(&r) % 1000) : (double)INFINITY;
            }
        }
        uint8_t level[ITEMS];
        bool possible;
        OK(qn_knapsack(qt_made_env(1)->alloc, it, ITEMS, target, level, &possible, &err));
        const double want = best_of_all(it, target);
        double loss = 0, saving = 0;
        for (unsigned i = 0; i < ITEMS; i++) {
            loss += it[i].loss[level[i]];
            saving += it[i].saving[level[i]];
        }
        cr_assert_eq(possible, isfinite(want), "round %u", round);
        if (possible)
            cr_expect(loss == want && saving >= target, "round %u: %g, not %g", round, loss, want);
        n_possible += possible;
        n_impossible += !possible;
    }
    cr_expect(n_possible > 50 && n_impossible > 10, "%u, %u", n_possible, n_impossible);
}

Test(knapsack, nothing_to_save_and_too_much)
{
    const qn_knapsack_item it[2] = {{.n_levels = 3, .loss = {0, 1, 2}, .saving = {0, 5, 6}}, {.n_levels = 3, .loss = {0, 4, 3}, .saving = {0, 2, 2}}};
    uint8_t level[2] = {9, 9};
    bool possible;
    OK(qn_knapsack(qt_made_env(1)->alloc, it, 2, 0, level, &possible, &err));
    cr_expect(possible && level[0] == 0 && level[1] == 0);
    OK(qn_knapsack(qt_made_env(1)->alloc, it, 2, 100, level, &possible, &err));
    cr_expect(!possible && level[0] == 2 && level[1] == 2, "the largest savings, of equals the one that loses less");
    OK(qn_knapsack(qt_made_env(1)->alloc, it, 0, 1, level, &possible, &err));
    cr_expect(!possible);
}
