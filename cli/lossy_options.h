/* lossy_options.h: the options that say how weights are approximated, for every command that does or plans it. */
#ifndef QN_CLI_LOSSY_OPTIONS_H
#define QN_CLI_LOSSY_OPTIONS_H

#include "cli/cli.h"
#include "compress/session.h"

typedef struct qn_lossy_args {
    int codec, order; /* positions among their choices; 0: not given */
    const char *recipe, *stats, *spread;
    const char *setting[QN_N_SETTINGS]; /* as typed; NULL: not given */
    double head_bits, embedding_bits, damping, bits_per_weight;
    uint64_t size;
    bool no_feedback;
} qn_lossy_args;

/* Commands that take them have arguments which begin so. */
typedef struct qn_lossy_command_args {
    qn_common common;
    qn_lossy_args lossy;
} qn_lossy_command_args;

extern const qn_option_table qn_lossy_options_table;

/* Reads the recipe's file and puts the options over it. */
qn_code qn_lossy_recipe_of(qn_recipe *r, qn_cli *cli, const qn_lossy_args *a, qn_err *err) QN_MUST_CHECK;
/* Opens the session of a recipe that is lossy. guess: for a plan. `pack`: settings of the run, without lossy. */
qn_code qn_lossy_session_open(qn_session *s, qn_cli *cli, const qn_lossy_args *a, qn_source *src, const qn_pack_options *pack, bool guess,
                              qn_err *err) QN_MUST_CHECK;

#endif
