/* compare_report.h: a report as text for the terminal: what is worst, and where the divergence begins. */
#ifndef QN_CLI_COMPARE_REPORT_H
#define QN_CLI_COMPARE_REPORT_H

#include "analysis/gate/report.h"
#include "cli/cli.h"

qn_code qn_compare_text(qn_cli *cli, const qn_report *r, qn_err *err) QN_MUST_CHECK;
/* The two lines that say what was compared with what. */
void qn_compare_head(const qn_cli *cli, const qn_report *r);
/* Tensors by how bad they are, the worst first: those with trouble, then by relative error. `order` holds r->n_tensors. */
void qn_compare_order(const qn_report *r, uint64_t *order);

#endif
