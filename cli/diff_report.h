/* diff_report.h: a comparison as tables or as JSON. */
#ifndef QN_CLI_DIFF_REPORT_H
#define QN_CLI_DIFF_REPORT_H

#include "analysis/diff.h"
#include "cli/cli.h"

typedef struct qn_diff_facts {
    qn_source *a, *b;
    const qn_diff *diff;
    bool all;          /* list equal tensors and files too, and however many */
    bool tolerant;     /* a tolerance was given                              */
    bool tensors_only; /* files were not looked at                           */
    double seconds;
} qn_diff_facts;

qn_code qn_diff_report_text(qn_cli *cli, const qn_diff_facts *f, qn_err *err) QN_MUST_CHECK;
qn_code qn_diff_report_json(qn_cli *cli, const qn_diff_facts *f, qn_err *err) QN_MUST_CHECK;

#endif
