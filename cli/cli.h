/* cli.h: what a command is, and what it is given.
 *
 * A command is one file cmd_NAME.c that defines one `const qn_command qn_cmd_NAME`, plus one row in command_tab.c.
 * Everything a user can read about it (help, man page, completion) comes from that definition. */
#ifndef QN_CLI_CLI_H
#define QN_CLI_CLI_H

#include "base/env.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/term.h"
#include "formats/source.h"

/* The options every command has. First member of every command's arguments. */
typedef struct qn_common {
    bool json, quiet, progress, help;
    int color; /* qn_color */
    uint64_t threads, memory; /* 0: not given */
} qn_common;
extern const qn_option_table qn_common_options;

typedef struct qn_command qn_command;

typedef struct qn_cli {
    const qn_command *command;
    const qn_common *common;
    qn_operands operands; /* within the command's min and max */
    qn_env env;           /* threads, memory, cancel and progress are set */
    qn_arena arena;       /* lives as long as the command */
    qn_term out, err;
    qn_progress progress;
    qn_hint hint;         /* a second line for an error that the command returns */
} qn_cli;

typedef struct qn_example {
    const char *line, *meaning;
} qn_example;

/* A key of the --json object, for the man page. Nested keys are written "tensors[].name". */
typedef struct qn_json_key {
    const char *key, *meaning;
} qn_json_key;

struct qn_command {
    const char *name;
    const char *summary;     /* a phrase for the overview: "pack a checkpoint without losing a bit" */
    const char *synopsis;    /* what follows the name: "INPUT [-o OUTPUT] [options]"               */
    const char *description; /* paragraphs, separated by "\n\n"                                    */
    qn_option_table options;
    const qn_option_table *lossy_options; /* lossy_options.h; NULL: it takes none                */
    unsigned min_operands, max_operands;
    const char *operand;     /* what the first missing operand is: "a checkpoint"; NULL: takes none */
    const qn_example *examples; /* ended by a row of NULLs; may be NULL                             */
    const qn_json_key *json;    /* the same                                                        */
    size_t args_bytes;       /* sizeof the struct that begins with qn_common                        */
    bool hidden;             /* not in the overview                                                */
    /* Prints the result on stdout. A failure is printed by the caller, as one line, and decides the exit code.
     * QN_E_DIFFERENT with nothing recorded in *err exits with 1 and prints nothing more. */
    qn_code (*run)(qn_cli *cli, const void *args, qn_err *err);
};

/* Overview order; ended by NULL. */
extern const qn_command *const qn_commands[];
const qn_command *qn_command_find(const char *name);

typedef struct qn_exit {
    int code;
    const char *meaning;
} qn_exit;
extern const qn_exit qn_exits[]; /* ended by a NULL meaning */

/* A note or a finding on stderr (whole line, "quern: " in front): clears the progress line first; silent with --quiet. */
void qn_cli_note(qn_cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Opens what the user named and prints its warnings. */
qn_code qn_cli_open(qn_cli *cli, const char *path, qn_source **out, qn_err *err) QN_MUST_CHECK;
/* The same, where a .quern may have been packed with --base: of the checkpoint `base`, which must outlive it; NULL: none was given. */
qn_code qn_cli_open_on(qn_cli *cli, const char *path, qn_source *base, qn_source **out, qn_err *err) QN_MUST_CHECK;
/* Seconds since an arbitrary point. */
double qn_cli_now(void);

#endif
