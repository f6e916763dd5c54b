/* eval_report.h: what eval has measured, as text or as JSON. */
#ifndef QN_CLI_EVAL_REPORT_H
#define QN_CLI_EVAL_REPORT_H

#include "analysis/eval/evaluate.h"
#include "cli/cli.h"
#include "cli/json_write.h"

typedef struct qn_eval_facts {
    const char *model, *against, *data, *tokenizer; /* paths; tokenizer: its kind, NULL for token files */
    const qn_graph *graph, *ref;
    const qn_corpus *corpus;
    const qn_eval *eval;
    bool score_all;
    double seconds;
} qn_eval_facts;

qn_code qn_eval_text(qn_cli *cli, const qn_eval_facts *f, qn_err *err) QN_MUST_CHECK;
void qn_eval_json(const qn_eval_facts *f);
/* An object of value, se, low and high. */
void qn_estimate_json(qn_json_writer *j, const char *key, const qn_estimate *e);

#endif
