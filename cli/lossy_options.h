/* lossy_options.h: the options that say how weights are approximated, for every command that does or plans it, and what they open. */
#ifndef QN_CLI_LOSSY_OPTIONS_H
#define QN_CLI_LOSSY_OPTIONS_H

#include "cli/cli.h"
#include "compress/lossy.h"
#include "compress/pack.h"

typedef struct qn_lossy_args {
    int codec, order; /* positions among their choices; 0: not given */
    const char *recipe, *stats;
    const char *setting[QN_N_SETTINGS]; /* as typed; NULL: not given */
    double head_bits, embedding_bits, damping, spread, bits_per_weight;
    uint64_t size;
    bool no_feedback;
} qn_lossy_args;

/* Commands that take them have arguments which begin so. */
typedef struct qn_lossy_command_args {
    qn_common common;
    qn_lossy_args lossy;
} qn_lossy_command_args;

extern const qn_option_table qn_lossy_options_table;

/* What is open while weights are approximated: all zeros when nothing is. */
typedef struct qn_lossy_session {
    qn_recipe recipe;
    qn_graph *graph;
    qn_stats_file stats;
    qn_digest model;
    bool has_model;
    uint64_t budget; /* bytes of the output that were asked for; 0: none */
    qn_lossy *lossy;
} qn_lossy_session;
#define QN_LOSSY_SESSION_CLOSED ((qn_lossy_session){.recipe = {.order = QN_ORDER_ACT}, .stats = QN_STATS_FILE_CLOSED})

/* Reads the recipe and puts the options over it. s->recipe says whether anything is approximated (qn_recipe_is_lossy). `who`: the
 * command. */
qn_code qn_lossy_session_recipe(qn_lossy_session *s, qn_cli *cli, const qn_lossy_args *a, qn_err *err) QN_MUST_CHECK;
/* Opens graph and statistics, finds the bits when a size was asked for, and s->lossy. `pack`: settings of the run, without lossy. */
qn_code qn_lossy_session_open(qn_lossy_session *s, qn_cli *cli, const qn_lossy_args *a, qn_source *src, const qn_pack_options *pack,
                              qn_err *err) QN_MUST_CHECK;
/* The same without a run: bits for a size are guessed (forecast.h). */
qn_code qn_lossy_session_plan(qn_lossy_session *s, qn_cli *cli, const qn_lossy_args *a, qn_source *src, qn_err *err) QN_MUST_CHECK;
void qn_lossy_session_close(qn_lossy_session *s);

#endif
