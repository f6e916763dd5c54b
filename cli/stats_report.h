/* stats_report.h: what `quern stats` prints of a statistics file. */
#ifndef QN_CLI_STATS_REPORT_H
#define QN_CLI_STATS_REPORT_H

#include "analysis/stats/file.h"
#include "cli/cli.h"
#include "cli/json_write.h"
#include "cli/pattern.h"

typedef struct qn_stats_view {
    qn_stats_file *f;
    qn_patterns *patterns;
    uint64_t starved; /* an expert with fewer rows is starved */
} qn_stats_view;

qn_code qn_stats_text(qn_cli *cli, const qn_stats_view *v, qn_err *err) QN_MUST_CHECK;
qn_code qn_stats_json(qn_json_writer *j, const qn_stats_view *v, qn_err *err) QN_MUST_CHECK;

#endif
