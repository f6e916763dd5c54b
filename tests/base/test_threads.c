/* test_threads.c: commits in task order, the first error in task order, any number of threads, and fewer when the system
 * gives none. */
#define _GNU_SOURCE
#include "base/threads.h"
#include "base/err.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { SLOTS = 20 };

struct ctx {
    uint64_t n_tasks, fail_from, committed;
    atomic_uint busy[SLOTS];
    uint64_t held[SLOTS];
    atomic_ullong n_work;
    unsigned n_slots;
    bool fail_commit;
};

static void delay(uint64_t task)
{
    for (uint64_t i = 0; i < task * 2654435761u % 7; i++)
        sched_yield();
}

static qn_code work(void *vctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct ctx *c = vctx;
    cr_assert_lt(slot, c->n_slots);
    cr_assert_eq(atomic_exchange(&c->busy[slot], 1u), 0u, "slot %u is used twice", slot);
    c->held[slot] = task;
    atomic_fetch_add(&c->n_work, 1);
    delay(task);
    if (task >= c->fail_from && !c->fail_commit && (task - c->fail_from) % 3 == 0) {
        atomic_store(&c->busy[slot], 0u);
        return QN_FAIL(err, QN_E_INPUT, task, "task %llu", (unsigned long long)task);
    }
    if (task > c->fail_from) /* does not commit any more: free the slot for the check above */
        atomic_store(&c->busy[slot], 0u);
    return QN_OK;
}

static qn_code commit(void *vctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct ctx *c = vctx;
    cr_assert_eq(task, c->committed, "commits are in task order");
    cr_assert_eq(c->held[slot], task, "the scratch is the task's own until here");
    c->committed++;
    atomic_store(&c->busy[slot], 0u);
    if (c->fail_commit && task == c->fail_from)
        return QN_FAIL(err, QN_E_IO, task, "commit %llu", (unsigned long long)task);
    return QN_OK;
}

Test(threads, order_and_errors, .timeout = 120)
{
    const qn_env env = {.fs = &qn_fs_posix, .n_threads = 1};
    uint64_t runs = 0;
    for (unsigned n_slots = 1; n_slots <= 16; n_slots++)
        for (uint64_t n_tasks = 0; n_tasks < 60; n_tasks += 1 + n_tasks / 3)
            for (uint64_t fail = 0; fail <= n_tasks; fail += 1 + fail / 2)
                for (int at_commit = 0; at_commit < 2; at_commit++, runs++) {
                    struct ctx c = {.n_tasks = n_tasks, .fail_from = fail, .n_slots = n_slots, .fail_commit = at_commit};
                    const qn_job job = {work, commit, &c};
                    qn_err err;
                    qn_err_clear(&err);
                    const qn_code rc = qn_run(&env, &job, n_tasks, n_slots, &err);
                    if (fail == n_tasks) {
                        cr_assert_eq(rc, QN_OK);
                        cr_assert_eq(c.committed, n_tasks);
                        cr_assert_eq(c.n_work, n_tasks);
                        continue;
                    }
                    cr_assert_eq(rc, at_commit ? QN_E_IO : QN_E_INPUT);
                    cr_assert_eq(err.off, fail, "the first in task order: %llu, not %llu", (unsigned long long)fail,
                                 (unsigned long long)err.off);
                    cr_assert_eq(c.committed, at_commit ? fail + 1 : fail);
                }
    fprintf(stderr, "# %llu runs on 1 to 16 threads\n", (unsigned long long)runs);
}

static qn_code count(void *vctx, uint64_t task, unsigned slot, qn_err *err)
{
    (void)task;
    (void)slot;
    (void)err;
    atomic_fetch_add((atomic_ullong *)vctx, 1);
    return QN_OK;
}

Test(threads, edges)
{
    const qn_env env = {.fs = &qn_fs_posix, .n_threads = 1};
    atomic_ullong n = 0;
    const qn_job job = {count, NULL, &n};
    cr_assert_eq(qn_run(&env, &job, 0, 4, NULL), QN_OK);
    cr_assert_eq(n, 0);
    cr_assert_eq(qn_run(&env, &job, 5, 0, NULL), QN_OK, "no slot is one");
    cr_assert_eq(n, 5);
    cr_assert_eq(qn_run(&env, &job, 20000, 7, NULL), QN_OK);
    cr_assert_eq(n, 20005);
    cr_assert_geq(qn_threads_usable(), 1u);
}

/* pthread_create fails: the caller's thread does everything. Stacks that cannot be had are the portable way to get there. */
Test(threads, no_thread_can_be_started, .timeout = 60)
{
    const qn_env env = {.fs = &qn_fs_posix, .n_threads = 1};
    atomic_ullong n = 0;
    const qn_job job = {count, NULL, &n};
#if defined(__SANITIZE_ADDRESS__)
    cr_skip_test("address space cannot be limited under the sanitizer");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    cr_skip_test("address space cannot be limited under the sanitizer");
#endif
#endif
    pthread_attr_t big;
    cr_assert_eq(pthread_attr_init(&big), 0);
    if (pthread_attr_setstacksize(&big, (size_t)1 << 44) != 0 || pthread_setattr_default_np(&big) != 0)
        cr_skip_test("the default stack cannot be set");
    cr_assert_eq(qn_run(&env, &job, 100, 8, NULL), QN_OK);
    cr_assert_eq(n, 100);
}
