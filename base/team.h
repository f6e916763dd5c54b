/* team.h: threads that stay, for work in thousands of small steps (the operators of a forward pass). qn_run (threads.h) is for
 * few large tasks whose results are written in order; here there is no order, and a step starts in microseconds. */
#ifndef QN_BASE_TEAM_H
#define QN_BASE_TEAM_H

#include "base/env.h"

typedef struct qn_team qn_team;

/* n_threads − 1 threads are started, fewer when there are no more to be had. */
qn_code qn_team_open(const qn_env *env, unsigned n_threads, qn_team **out, qn_err *err) QN_MUST_CHECK;
void qn_team_close(qn_team *t); /* NULL is fine */

/* Calls fn(ctx, i, slot) for every i in [0, n), each once; slot < n_threads names the thread. Returns when all are done. After a
 * failure no new i is begun; of several failures that of the lowest i is reported. Not to be nested, one caller at a time. */
typedef qn_code (*qn_part_fn)(void *ctx, uint64_t i, unsigned slot, qn_err *err);
qn_code qn_team_run(qn_team *t, uint64_t n, qn_part_fn fn, void *ctx, qn_err *err) QN_MUST_CHECK;

#endif
