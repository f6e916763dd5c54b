/* run.h: one export from beginning to end, for any number of targets: plan, solve, write.
 *
 * The solve is a .quern beside the first output that needs one (OUTPUT.quern-solve), packed like any other and so resumed after a kill; a finished one
 * of an interrupted export is used again when model, statistics and recipe are the same. It is removed at the end unless it is to be kept. */
#ifndef QN_COMPRESS_EXPORT_RUN_H
#define QN_COMPRESS_EXPORT_RUN_H

#include "compress/export/export.h"
#include "compress/pack.h"
#include "compress/session.h"

typedef struct qn_export_request {
    const qn_export_target *target;
    const char *variant, *path; /* borrowed */
} qn_export_request;

typedef struct qn_export_options {
    qn_export_wish wish;
    const char *statistics;     /* path; NULL: none                                             */
    const qn_recipe *rules;     /* order, damping, feedback and rules of the user; NULL: none   */
    const char *keep;           /* the solve stays, under this name; NULL: it goes                */
    bool overwrite, dry_run;
} qn_export_options;

typedef struct qn_export_solve {
    const char *recipe;         /* in one line; what makes two of them equal */
    char *path;
    qn_session session;
    qn_source *src;             /* the .quern, opened; NULL until solved      */
    qn_graph *graph;
    bool ours, reused;          /* ours: to be removed; reused: it was there  */
} qn_export_solve;

typedef struct qn_export_run {
    const qn_env *env;
    qn_arena arena;
    const qn_export_options *o;
    qn_source *input;           /* borrowed */
    qn_graph *graph;            /* NULL when no builder knows the model; `why` says so */
    qn_err why;
    qn_stats_file stats;
    uint32_t n;                 /* targets */
    qn_export_job *jobs;
    const qn_export_target **targets;
    uint32_t *solve_of;         /* index + 1 of the solve of a job; 0: none */
    qn_export_solve *solves;
    uint32_t n_solves;
} qn_export_run;

/* Plans all targets: nothing is written. Closed by the caller whatever is returned. */
qn_code qn_export_open(qn_export_run *x, const qn_env *env, qn_source *input, const qn_export_request *r, uint32_t n, const qn_export_options *o,
                       qn_err *err) QN_MUST_CHECK;
/* Solves and writes, target after target. What was written before a failure stays. */
qn_code qn_export_all(qn_export_run *x, qn_err *err) QN_MUST_CHECK;
void qn_export_close(qn_export_run *x);

#endif
