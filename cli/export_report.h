/* export_report.h: what `export` will write, or has written, as text and as JSON. */
#ifndef QN_CLI_EXPORT_REPORT_H
#define QN_CLI_EXPORT_REPORT_H

#include "cli/cli.h"
#include "compress/export/run.h"

qn_code qn_export_text(qn_cli *cli, const qn_export_run *x, double seconds, qn_err *err) QN_MUST_CHECK;
void qn_export_json(qn_cli *cli, const qn_export_run *x, double seconds);

#endif
