/* session.h: all that is open while the weights of a model are approximated: its graph, its statistics, what the recipe makes of it. */
#ifndef QN_COMPRESS_SESSION_H
#define QN_COMPRESS_SESSION_H

#include "compress/lossy.h"
#include "compress/pack.h"

/* The recipe is filled by the caller before opening. */
typedef struct qn_session {
    qn_recipe recipe;
    qn_graph *graph;
    qn_stats_file stats;
    bool has_stats, has_model;
    qn_digest model;
    uint64_t budget;  /* bytes of the output that were asked for; 0: none */
    qn_arena arena;
    const double *more_bits; /* what `spread` adds */
    qn_lossy *lossy;  /* for qn_pack_options */
} qn_session;
#define QN_SESSION_CLOSED ((qn_session){.recipe = QN_RECIPE_EMPTY, .stats = QN_STATS_FILE_CLOSED})

typedef struct qn_session_options {
    const char *statistics;      /* path; NULL: none                                                */
    const qn_pack_options *pack; /* of the run, without lossy: the bits for a size depend on it      */
    bool guess;                  /* bits for a size from what forecast.h expects, without a run      */
    void (*tried)(void *ctx, double bits, uint64_t n_bytes); /* budget.h; may be NULL                */
    void *ctx;
} qn_session_options;

/* *s is closed by the caller whatever is returned. */
qn_code qn_session_open(qn_session *s, const qn_env *env, qn_source *src, const qn_session_options *o, qn_err *err) QN_MUST_CHECK;
void qn_session_close(qn_session *s);

#endif
