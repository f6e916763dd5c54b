/* commands.h: the commands, one file each. */
#ifndef QN_CLI_COMMANDS_H
#define QN_CLI_COMMANDS_H

#include "cli/cli.h"

extern const qn_command qn_cmd_compress;
extern const qn_command qn_cmd_plan;
extern const qn_command qn_cmd_prune;
extern const qn_command qn_cmd_decompress;
extern const qn_command qn_cmd_verify;
extern const qn_command qn_cmd_inspect;
extern const qn_command qn_cmd_diff;
extern const qn_command qn_cmd_compare;
extern const qn_command qn_cmd_gate;
extern const qn_command qn_cmd_report;
extern const qn_command qn_cmd_bisect;
extern const qn_command qn_cmd_calibrate;
extern const qn_command qn_cmd_eval;
extern const qn_command qn_cmd_export;
extern const qn_command qn_cmd_stats;
extern const qn_command qn_cmd_tokenize;
extern const qn_command qn_cmd_help;
extern const qn_command qn_cmd_version;
extern const qn_command qn_cmd_man;      /* hidden: the build makes the man pages with it         */
extern const qn_command qn_cmd_complete; /* hidden: the build makes the shell completions with it */

#endif
