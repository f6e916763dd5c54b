/* gate_out.h: a gate's verdicts for whom they are: people at a terminal, JUnit readers, GitHub. */
#ifndef QN_CLI_GATE_OUT_H
#define QN_CLI_GATE_OUT_H

#include "analysis/gate/gate.h"
#include "cli/cli.h"

typedef enum qn_on_inconclusive { QN_ON_INCONCLUSIVE_EXIT, QN_ON_INCONCLUSIVE_PASS, QN_ON_INCONCLUSIVE_FAIL } qn_on_inconclusive;

typedef struct qn_gate_facts {
    const qn_report *report;
    const qn_gate *gate;
    const char *baseline, *thresholds; /* paths, NULL: none */
    const char *baseline_recipe;       /* in one line; NULL: none, or no baseline */
    qn_on_inconclusive inconclusive;
} qn_gate_facts;

/* The verdict with --inconclusive taken into account. */
qn_verdict qn_gate_outcome(const qn_gate_facts *f);

void qn_gate_text_out(qn_cli *cli, const qn_gate_facts *f);
/* One JSON object: verdict, checks, warnings. */
void qn_gate_json(qn_textbuf *t, const qn_gate_facts *f);
/* JUnit's XML: a test case for each check. */
void qn_gate_junit(qn_textbuf *t, const qn_gate_facts *f);
/* A summary in GitHub's Markdown. */
void qn_gate_markdown(qn_textbuf *t, const qn_gate_facts *f);
/* Workflow commands ("::error …"), the worst first, at most 10 errors and 10 warnings: GitHub shows no more of a step. */
void qn_gate_annotations(qn_textbuf *t, const qn_gate_facts *f);

#endif
