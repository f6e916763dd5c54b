/* pack_report.h: what `compress` tells about its work, as text and as JSON. */
#ifndef QN_CLI_PACK_REPORT_H
#define QN_CLI_PACK_REPORT_H

#include "cli/cli.h"
#include "compress/lossy.h"
#include "compress/pack.h"

typedef struct qn_pack_facts {
    const qn_source *source;
    const qn_pack_report *report;
    const char *out_path, *level, *base_path; /* base_path NULL: none */
    bool dry_run;
    double seconds;
    uint64_t memory_bytes; /* planned peak */
    const qn_lossy *lossy; /* NULL: nothing was approximated */
} qn_pack_facts;

qn_code qn_pack_report_text(qn_cli *cli, const qn_pack_facts *facts, qn_err *err) QN_MUST_CHECK;
qn_code qn_pack_report_json(qn_cli *cli, const qn_pack_facts *facts, qn_err *err) QN_MUST_CHECK;

#endif
