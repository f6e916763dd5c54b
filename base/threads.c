/* threads.c: see threads.h.
 *
 * Threads draw task numbers in ascending order. After its work a thread waits until all earlier tasks have
 * committed, then commits its own: so commits are in task order, and a thread holds its slot's scratch until then.
 * A failed task stops the drawing of new ones; tasks drawn before still run to their turn, so the
 * failure that is reported is the first in task order whatever the timing. */
#define _GNU_SOURCE
#include "base/threads.h"
#include "base/alloc.h"
#include "base/err.h"
#include "base/num.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

struct run {
    const qn_job *job;
    uint64_t n_tasks;
    pthread_mutex_t lock;
    pthread_cond_t turn;
    uint64_t next_task, next_commit; /* guarded by lock */
    qn_code rc;                      /* of the first failing task in task order */
    qn_err *err;
    unsigned next_slot;
};

static void take_turn(struct run *r, uint64_t task, unsigned slot, qn_code rc, const qn_err *why)
{
    pthread_mutex_lock(&r->lock);
    while (r->next_commit != task)
        pthread_cond_wait(&r->turn, &r->lock);
    const bool live = r->rc == QN_OK;
    pthread_mutex_unlock(&r->lock);
    qn_err mine = *why;
    /* no other thread can be here: next_commit is ours until we move it */
    if (live && rc == QN_OK && r->job->commit)
        rc = r->job->commit(r->job->ctx, task, slot, &mine);
    pthread_mutex_lock(&r->lock);
    if (live && rc != QN_OK) {
        r->rc = rc;
        r->next_task = r->n_tasks; /* draw no more */
        if (r->err && r->err->code == QN_OK)
            *r->err = mine;
    }
    r->next_commit++;
    pthread_cond_broadcast(&r->turn);
    pthread_mutex_unlock(&r->lock);
}

static void *worker(void *arg)
{
    struct run *r = arg;
    pthread_mutex_lock(&r->lock);
    const unsigned slot = r->next_slot++;
    while (r->next_task < r->n_tasks) {
        const uint64_t task = r->next_task++;
        pthread_mutex_unlock(&r->lock);
        qn_err err;
        qn_err_clear(&err);
        const qn_code rc = r->job->work(r->job->ctx, task, slot, &err);
        take_turn(r, task, slot, rc, &err);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

qn_code qn_run(const qn_env *env, const qn_job *job, uint64_t n_tasks, unsigned n_slots, qn_err *err)
{
    struct run r = {.job = job, .n_tasks = n_tasks, .err = err};
    const unsigned n_threads = (unsigned)qn_max_u64(1, qn_min_u64(n_slots, n_tasks)), n_extra = n_threads - 1;
    pthread_t *ids = qn_mem_get(env->alloc, (uint64_t)n_threads * sizeof *ids, err);
    if (!ids)
        return QN_E_MEMORY;
    if (pthread_mutex_init(&r.lock, NULL) != 0 || pthread_cond_init(&r.turn, NULL) != 0) {
        qn_mem_put(env->alloc, ids);
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a lock wanted");
    }
    unsigned started = 0;
    while (started < n_extra && pthread_create(&ids[started], NULL, worker, &r) == 0)
        started++;
    worker(&r); /* does all of it when none could be started */
    for (unsigned i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    pthread_cond_destroy(&r.turn);
    pthread_mutex_destroy(&r.lock);
    qn_mem_put(env->alloc, ids);
    return r.rc;
}

/* cgroup quota in cores, rounded up; 0 when there is none. v2: "max 100000" or "150000 100000"; v1: two files. */
static unsigned quota_cores(void)
{
    long long quota = -1, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        if (fscanf(f, "%lld %lld", &quota, &period) != 2)
            quota = -1;
        fclose(f);
    } else {
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re");
        if (f && fscanf(f, "%lld", &quota) != 1)
            quota = -1;
        if (f)
            fclose(f);
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
        if (f && fscanf(f, "%lld", &period) != 1)
            period = 0;
        if (f)
            fclose(f);
    }
    return quota > 0 && period > 0 ? (unsigned)((quota + period - 1) / period) : 0;
}

unsigned qn_threads_usable(void)
{
    cpu_set_t set;
    unsigned n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = (unsigned)CPU_COUNT(&set);
    const unsigned quota = quota_cores();
    if (quota && quota < n)
        n = quota;
    return n ? n : 1;
}
