/* A team: every part once, errors of the lowest part, thousands of steps. */
#include "base/err.h"
#include "base/team.h"
#include "tests/support/made.h"
#include <criterion/criterion.h>

enum { PARTS = 1000 };
static atomic_uint seen[PARTS];

static qn_code mark(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)err;
    cr_assert_lt(slot, *(unsigned *)ctx);
    atomic_fetch_add(&seen[i], 1);
    return QN_OK;
}

Test(team, every_part_once)
{
    for (unsigned n_threads = 1; n_threads <= 5; n_threads++) {
        qn_team *t;
        cr_assert_eq(qn_team_open(qt_made_env(1), n_threads, &t, NULL), QN_OK);
        for (unsigned step = 0; step < 300; step++) {
            const uint64_t n = step % 7 == 0 ? PARTS : step % 5;
            for (uint64_t i = 0; i < PARTS; i++)
                atomic_store(&seen[i], 0);
            cr_assert_eq(qn_team_run(t, n, mark, &n_threads, NULL), QN_OK);
            for (uint64_t i = 0; i < PARTS; i++)
                cr_assert_eq(atomic_load(&seen[i]), i < n);
        }
        qn_team_close(t);
    }
}

static qn_code fail_some(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)ctx;
    (void)slot;
    if (i >= 20)
        return QN_FAIL(err, QN_E_INPUT, i, "part %u", (unsigned)i);
    return QN_OK;
}

Test(team, a_failure_stops_it_and_is_told)
{
    qn_team *t;
    cr_assert_eq(qn_team_open(qt_made_env(1), 3, &t, NULL), QN_OK);
    for (unsigned step = 0; step < 200; step++) {
        qn_err err = {0};
        cr_assert_eq(qn_team_run(t, PARTS, fail_some, NULL, &err), QN_E_INPUT);
        cr_assert(err.off >= 20 && err.off < 24, "part %lu", (unsigned long)err.off);
        cr_assert_eq(qn_team_run(t, 20, fail_some, NULL, &err), QN_OK, "and the next step runs");
    }
    qn_team_close(t);
}
