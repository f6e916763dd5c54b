/* groups_report.h: what can be cut of a model, and what cannot, as tables or JSON. */
#ifndef QN_CLI_GROUPS_REPORT_H
#define QN_CLI_GROUPS_REPORT_H

#include "analysis/groups/groups.h"
#include "cli/cli.h"
#include "cli/json_write.h"

qn_code qn_groups_text(qn_cli *cli, const qn_groups *s, qn_err *err) QN_MUST_CHECK;
/* The member "groups". */
void qn_groups_json(qn_json_writer *j, const qn_groups *s);
/* A colour for each node's box, by the family whose groups its outputs belong to, as CSS has it; NULL: of none. Array of the graph's n_nodes. */
qn_code qn_groups_colors(qn_cli *cli, const qn_groups *s, const char *const **colors, qn_err *err) QN_MUST_CHECK;

#endif
