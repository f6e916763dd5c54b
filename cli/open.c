/* open.c: opening the checkpoints that a command names, and their graphs. */
#include "base/err.h"
#include "cli/graph_report.h"
#include "formats/quern/source.h"

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

qn_code qn_cli_open_on(qn_cli *cli, const char *path, qn_source *base, qn_source **out, qn_err *err)
{
    QN_TRY(qn_cli_open(cli, path, out, err));
    if (base && qn_quern_source_reader(*out))
        qn_quern_source_set_base(*out, base);
    return QN_OK;
}

void qn_cli_graph_warnings(qn_cli *cli, const qn_graph *g)
{
    const uint64_t kept = sizeof g->warnings / sizeof g->warnings[0];
    for (uint64_t i = 0; i < g->n_warnings && i < kept; i++)
        if (g->warnings[i])
            qn_cli_note(cli, "warning: %s", g->warnings[i]);
}

qn_code qn_cli_graph(qn_cli *cli, qn_source *s, qn_graph **g, qn_err *err)
{
    QN_TRY(qn_graph_open(&cli->env, s, g, err));
    qn_cli_graph_warnings(cli, *g);
    return QN_OK;
}
