/* prune_report.h: what `prune` tells. */
#ifndef QN_CLI_PRUNE_REPORT_H
#define QN_CLI_PRUNE_REPORT_H

#include "cli/cli.h"
#include "compress/prune/prune.h"

typedef struct qn_prune_facts {
    const qn_prune *prune; /* planned, and run unless it is a dry run */
    const char *by, *data;
    double seconds;
} qn_prune_facts;

qn_code qn_prune_text(qn_cli *cli, const qn_prune_facts *f, qn_err *err) QN_MUST_CHECK;
void qn_prune_json(const qn_prune_facts *f);

#endif
