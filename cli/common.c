/* common.c: the options that every command has. */
#include "cli/cli.h"

static const char *const colors[] = {"auto", "always", "never", NULL};

static const qn_option rows[] = {
    {.name = "json", .type = QN_OPT_FLAG, .at = offsetof(qn_common, json),
     .help = "print the result as one JSON object on standard output"},
    {.name = "quiet", .letter = 'q', .type = QN_OPT_FLAG, .at = offsetof(qn_common, quiet),
     .help = "print errors only (and the JSON object, when asked for)"},
    {.name = "progress", .type = QN_OPT_FLAG, .at = offsetof(qn_common, progress),
     .help = "show progress on standard error even when that is not a terminal; on a terminal it is shown "
             "by itself when a run takes longer than two seconds"},
    {.name = "color", .type = QN_OPT_CHOICE, .at = offsetof(qn_common, color), .arg = "WHEN", .choices = colors,
     .fallback = "auto", .help = "colour in tables: auto (on a terminal, unless NO_COLOR is set), always or never"},
    {.name = "threads", .letter = 't', .type = QN_OPT_COUNT, .at = offsetof(qn_common, threads), .arg = "N", .min = 1,
     .max = 1024, .help = "work on N cores; all usable ones when not given. The output does not depend on it"},
    {.name = "memory", .letter = 'm', .type = QN_OPT_SIZE, .at = offsetof(qn_common, memory), .arg = "SIZE",
     .min = 1 << 20, .help = "plan to stay below SIZE, with fewer threads if need be: 512M, 1.5G (K, M, G, T are powers "
                             "of 1024; KB, MB, GB, TB powers of 1000)"},
    {.name = "help", .letter = 'h', .type = QN_OPT_FLAG, .at = offsetof(qn_common, help),
     .help = "show the help of this command"},
};

const qn_option_table qn_common_options = {rows, sizeof rows / sizeof rows[0]};
