/* threads.h: the two shapes of parallel work. The list of tasks never depends on the number of threads,
 * results are placed by task, so output does not depend on it either. */
#ifndef QN_BASE_THREADS_H
#define QN_BASE_THREADS_H

#include "base/env.h"

/* work(): any thread, any order; `slot` < n_slots names the scratch that the thread may use until its commit returns.
 * commit(): one at a time, in task order; may be NULL. The first failing task *in task order* gives the error. */
typedef struct qn_job {
    qn_code (*work)(void *ctx, uint64_t task, unsigned slot, qn_err *err);
    qn_code (*commit)(void *ctx, uint64_t task, unsigned slot, qn_err *err);
    void *ctx;
} qn_job;

/* Runs tasks 0 … n_tasks−1 on up to n_slots threads (the caller's is one of them). When a thread cannot be
 * started, fewer are used. Memory is bounded by n_slots scratches: a slot is busy from work to commit. */
qn_code qn_run(const qn_env *env, const qn_job *job, uint64_t n_tasks, unsigned n_slots, qn_err *err) QN_MUST_CHECK;

/* Cores this process may use (affinity and cgroup quota), ≥ 1. */
unsigned qn_threads_usable(void);

#endif
