/* open.c: opening the checkpoints that a command names. */
#include "base/err.h"
#include "cli/cli.h"

qn_code qn_cli_open(qn_cli *cli, const char *path, qn_source **out, qn_err *err)
{
    QN_TRY(qn_source_open(&cli->env, path, out, err));
    const qn_source *s = *out;
    const uint64_t kept = sizeof s->warnings / sizeof s->warnings[0];
    for (uint64_t i = 0; i < kept && i < s->n_warnings; i++)
        if (s->warnings[i])
            qn_cli_note(cli, "warning: %s", s->warnings[i]);
    if (s->n_warnings > kept)
        qn_cli_note(cli, "warning: and %llu more like these", (unsigned long long)(s->n_warnings - kept));
    return QN_OK;
}
