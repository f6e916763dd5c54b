/* lossy_report.h: what `compress --codec` tells about every tensor that was approximated. */
#ifndef QN_CLI_LOSSY_REPORT_H
#define QN_CLI_LOSSY_REPORT_H

#include "cli/cli.h"
#include "cli/json_write.h"
#include "compress/lossy.h"
#include "compress/pack.h"

/* `packed` of the same run: it knows the stored bytes. */
qn_code qn_lossy_report_text(qn_cli *cli, const qn_lossy *l, const qn_pack_report *packed, qn_err *err) QN_MUST_CHECK;
void qn_lossy_report_json(qn_json_writer *j, const qn_lossy *l, const qn_pack_report *packed);

#endif
