/* team.c: see team.h. */
#include "base/team.h"
#include "base/alloc.h"
#include "base/err.h"
#include <pthread.h>

enum { SPINS = 2000 }; /* looks before a thread goes to sleep: the next step mostly comes within microseconds */

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

struct qn_team {
    const qn_alloc *alloc;
    pthread_t *ids;
    unsigned n_extra;
    pthread_mutex_t lock;
    pthread_cond_t go, done;
    atomic_uint_fast64_t step;  /* counts steps: a change is the signal to start */
    atomic_uint_fast64_t next;  /* part to be drawn                              */
    atomic_uint n_busy;         /* extra threads still in this step              */
    atomic_bool stop;
    unsigned next_slot;
    /* of the step */
    qn_part_fn fn;
    void *ctx;
    uint64_t n;
    /* guarded by lock */
    uint64_t failed;            /* lowest part that failed, UINT64_MAX: none */
    qn_code rc;
    qn_err err;
};

static void parts(qn_team *t, unsigned slot)
{
    for (;;) {
        const uint64_t i = atomic_fetch_add(&t->next, 1);
        if (i >= t->n)
            return;
        qn_err err;
        qn_err_clear(&err);
        const qn_code rc = t->fn(t->ctx, i, slot, &err);
        if (rc == QN_OK)
            continue;
        atomic_store(&t->next, t->n);
        pthread_mutex_lock(&t->lock);
        if (i < t->failed) {
            t->failed = i;
            t->rc = rc;
            t->err = err;
        }
        pthread_mutex_unlock(&t->lock);
    }
}

static void *member(void *arg)
{
    qn_team *t = arg;
    pthread_mutex_lock(&t->lock);
    const unsigned slot = ++t->next_slot;
    pthread_mutex_unlock(&t->lock);
    uint64_t seen = 0;
    for (;;) {
        for (unsigned i = 0; i < SPINS && atomic_load(&t->step) == seen; i++)
            relax();
        if (atomic_load(&t->step) == seen) {
            pthread_mutex_lock(&t->lock);
            while (atomic_load(&t->step) == seen)
                pthread_cond_wait(&t->go, &t->lock);
            pthread_mutex_unlock(&t->lock);
        }
        seen++;
        if (atomic_load(&t->stop))
            return NULL;
        parts(t, slot);
        if (atomic_fetch_sub(&t->n_busy, 1) == 1) {
            pthread_mutex_lock(&t->lock);
            pthread_cond_signal(&t->done);
            pthread_mutex_unlock(&t->lock);
        }
    }
}

qn_code qn_team_open(const qn_env *env, unsigned n_threads, qn_team **out, qn_err *err)
{
    qn_team *t = qn_mem_zeros(env->alloc, 1, sizeof *t, err);
    pthread_t *ids = t ? qn_mem_zeros(env->alloc, n_threads ? n_threads : 1, sizeof *ids, err) : NULL;
    if (!ids) {
        qn_mem_put(env->alloc, t);
        return QN_E_MEMORY;
    }
    t->alloc = env->alloc;
    t->ids = ids;
    if (pthread_mutex_init(&t->lock, NULL) != 0 || pthread_cond_init(&t->go, NULL) != 0 || pthread_cond_init(&t->done, NULL) != 0) {
        qn_mem_put(env->alloc, ids);
        qn_mem_put(env->alloc, t);
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a lock wanted");
    }
    while (t->n_extra + 1 < n_threads && pthread_create(&ids[t->n_extra], NULL, member, t) == 0)
        t->n_extra++;
    *out = t;
    return QN_OK;
}

static void start(qn_team *t)
{
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->n_busy, t->n_extra);
    atomic_fetch_add(&t->step, 1);
    pthread_cond_broadcast(&t->go);
    pthread_mutex_unlock(&t->lock);
}

void qn_team_close(qn_team *t)
{
    if (!t)
        return;
    atomic_store(&t->stop, true);
    start(t);
    for (unsigned i = 0; i < t->n_extra; i++)
        pthread_join(t->ids[i], NULL);
    pthread_cond_destroy(&t->go);
    pthread_cond_destroy(&t->done);
    pthread_mutex_destroy(&t->lock);
    qn_mem_put(t->alloc, t->ids);
    qn_mem_put(t->alloc, t);
}

static void await(qn_team *t)
{
    for (unsigned i = 0; i < SPINS && atomic_load(&t->n_busy); i++)
        relax();
    if (!atomic_load(&t->n_busy))
        return;
    pthread_mutex_lock(&t->lock);
    while (atomic_load(&t->n_busy))
        pthread_cond_wait(&t->done, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

qn_code qn_team_run(qn_team *t, uint64_t n, qn_part_fn fn, void *ctx, qn_err *err)
{
    t->fn = fn;
    t->ctx = ctx;
    t->n = n;
    t->failed = UINT64_MAX;
    t->rc = QN_OK;
    atomic_store(&t->next, 0);
    if (n > 1 && t->n_extra) {
        start(t);
        parts(t, 0);
        await(t);
    } else {
        parts(t, 0);
    }
    if (t->rc != QN_OK && err && err->code == QN_OK)
        *err = t->err;
    return t->rc;
}
