/* test_stats.c: a statistics file is written while calls fail, the process ends, and the power goes. What has the final name
 * is whole; the same run again comes to the same bytes, wherever the first one ended. */
#include "tests/fault/kit.h"
#include "tests/support/stats_build.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *want;
static size_t n_want;

static qn_code run(qt_world *w)
{
    qn_err_clear(&w->err);
    return qt_stats_write(&w->env, "out.qstats", 2, true, &w->err);
}

static void make(void)
{
    qt_world w;
    qt_world_open(&w);
    cr_assert_eq(run(&w), QN_OK, "%s", qt_line(&w.err));
    want = qt_copy_file(&w, "out.qstats", &n_want);
    cr_assert_eq(qt_n_paths(&w, "out"), 1, "nothing else is left");
    qt_world_close(&w);
}

/* What has the final name is whole; a run without faults gives the bytes that any run gives. */
static void check(qt_world *w, const char *what, uint64_t nth)
{
    size_t n;
    const uint8_t *got = qn_memfs_get(w->mem, "out.qstats", &n);
    if (!got) {
        const qn_code rc = run(w);
        cr_assert_eq(rc, QN_OK, "%s %llu: the run after it: %s", what, (unsigned long long)nth, qt_line(&w->err));
        got = qn_memfs_get(w->mem, "out.qstats", &n);
    }
    cr_assert(got && n == n_want && memcmp(got, want, n) == 0, "%s %llu: other bytes", what, (unsigned long long)nth);
}

static unsigned long sweep(unsigned ops, qn_fault_how how, int sys, bool on, unsigned n_seeds)
{
    unsigned long n = 0;
    for (uint64_t nth = 1;; nth++)
        for (unsigned seed = 0; seed == 0 || seed < n_seeds; seed++) {
            qt_world w;
            qt_world_open(&w);
            qt_arm(&w, ops, nth, how, sys, on);
            const qn_code rc = run(&w);
            const bool hit = atomic_load(&w.fault.n_hit) > 0;
            cr_assert(rc == QN_OK || w.err.code == rc, "call %llu: code %d", (unsigned long long)nth, rc);
            cr_assert(rc == QN_OK || rc == QN_E_IO || rc == QN_E_USAGE, "call %llu: code %d: %s", (unsigned long long)nth, rc,
                      qt_line(&w.err));
            qt_disarm(&w);
            if (how == QN_FAULT_DEAD)
                qn_memfs_kill(w.mem);
            else
                cr_assert_eq(qn_memfs_n_open(w.mem), 0, "call %llu: handles left open", (unsigned long long)nth);
            if (n_seeds)
                qn_memfs_cut(w.mem, nth * 1000 + seed);
            if (hit)
                check(&w, "call", nth);
            qt_world_close(&w);
            n++;
            if (!hit)
                return n;
        }
}

Test(stats, calls_fail, .init = make)
{
    const unsigned ops = QN_OPS_ALL & ~(1u << QN_OP_UNLINK | 1u << QN_OP_ADVISE_DONE);
    const unsigned long n = sweep(ops, QN_FAULT_ERROR, 5, false, 0) + sweep(ops, QN_FAULT_ERROR, 28, true, 0);
    fprintf(stderr, "# %lu runs with a call that failed\n", n);
}

Test(stats, short_reads_and_writes, .init = make)
{
    qt_world w;
    qt_world_open(&w);
    qt_arm(&w, QN_OPS_ALL, 1, QN_FAULT_SHORT, 0, true);
    cr_assert_eq(run(&w), QN_OK, "%s", qt_line(&w.err));
    qt_disarm(&w);
    check(&w, "short", 0);
    qt_world_close(&w);
}

Test(stats, killed, .init = make)
{
    fprintf(stderr, "# %lu runs that ended in the middle\n", sweep(QN_OPS_ALL, QN_FAULT_DEAD, 0, true, 0));
}

Test(stats, power_cut, .init = make)
{
    fprintf(stderr, "# %lu power cuts\n", sweep(QN_OPS_ALL, QN_FAULT_DEAD, 0, true, 40));
}

Test(stats, memory_fails, .init = make)
{
    for (uint64_t nth = 1;; nth++) {
        qt_world w;
        qt_world_open(&w);
        w.heap.nth = nth;
        const qn_code rc = run(&w);
        w.heap.nth = 0;
        cr_assert_eq(qn_memfs_n_open(w.mem), 0);
        if (rc != QN_OK) {
            cr_assert_eq(rc, QN_E_MEMORY, "allocation %llu: code %d: %s", (unsigned long long)nth, rc, qt_line(&w.err));
            check(&w, "allocation", nth);
        }
        const bool reached = atomic_load(&w.heap.n_gets) >= nth;
        cr_assert_eq(atomic_load(&w.heap.n_out), 0, "allocation %llu: memory is lost", (unsigned long long)nth);
        qt_world_close(&w);
        if (!reached)
            break;
    }
}
