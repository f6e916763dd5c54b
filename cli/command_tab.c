/* command_tab.c: every command, in the order of the overview. */
#include "cli/commands.h"
#include <string.h>

const qn_command *const qn_commands[] = {
    &qn_cmd_compress,
    &qn_cmd_plan,
    &qn_cmd_prune,
    &qn_cmd_decompress,
    &qn_cmd_verify,
    &qn_cmd_inspect,
    &qn_cmd_diff,
    &qn_cmd_compare,
    &qn_cmd_gate,
    &qn_cmd_report,
    &qn_cmd_bisect,
    &qn_cmd_calibrate,
    &qn_cmd_eval,
    &qn_cmd_export,
    &qn_cmd_stats,
    &qn_cmd_tokenize,
    &qn_cmd_help,
    &qn_cmd_version,
    &qn_cmd_man,
    &qn_cmd_complete,
    NULL,
};

const qn_exit qn_exits[] = {
    {0, "done, equal, or passed"},
    {1, "compared and found different, or not passed"},
    {2, "the command line is wrong, or something is in the way"},
    {3, "an input file is malformed, cut short or corrupt"},
    {4, "the input is well formed, but this version cannot handle it"},
    {5, "the operating system refused to read or write, a full disk included"},
    {6, "out of memory, or over the limit given with --memory"},
    {7, "what was written does not read back as it should"},
    {8, "measured, but too little to say"},
    {70, "a mistake in quern itself: please report it"},
    {128, "plus n: stopped by signal n (130 after Ctrl-C)"},
    {0, NULL},
};

const qn_command *qn_command_find(const char *name)
{
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (strcmp((*c)->name, name) == 0)
            return *c;
    return NULL;
}
