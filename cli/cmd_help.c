/* cmd_help.c: quern help [COMMAND]. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/suggest.h"
#include <string.h>

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    (void)args;
    if (cli->operands.n == 0) {
        qn_help_overview(&cli->out);
        return QN_OK;
    }
    const char *name = cli->operands.items[0];
    const qn_command *c = qn_command_find(name);
    if (c) {
        qn_help_command(&cli->out, c);
        return QN_OK;
    }
    qn_suggest s = qn_suggest_for(name, strlen(name));
    for (const qn_command *const *k = qn_commands; *k; k++)
        if (!(*k)->hidden)
            qn_suggest_try(&s, (*k)->name);
    if (s.best)
        qn_hint_set(&cli->hint, "did you mean '%s'?", s.best);
    char shown[160];
    qn_printable(shown, sizeof shown, name, strlen(name));
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "help: there is no command '%s'", shown);
}

static const qn_example examples[] = {
    {"quern help", "what quern can do"},
    {"quern help compress", "the options of one command"},
    {NULL, NULL},
};

const qn_command qn_cmd_help = {
    .name = "help",
    .summary = "explain quern, or one of its commands",
    .synopsis = "[COMMAND]",
    .description = "Without a command, lists what there is. With one, the same as 'quern COMMAND --help'.",
    .max_operands = 1,
    .examples = examples,
    .args_bytes = sizeof(qn_common),
    .run = run,
};
