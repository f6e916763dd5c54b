/* findings.h: what verify, salvage and comparisons find: printed as it is found, or kept for the JSON object. */
#ifndef QN_CLI_FINDINGS_H
#define QN_CLI_FINDINGS_H

#include "cli/cli.h"
#include "cli/json_write.h"

enum { QN_FINDINGS_KEPT = 1000 }; /* in JSON; `n` counts on */

typedef struct qn_findings {
    qn_cli *cli;
    const char *label; /* "damaged", "different" */
    uint64_t n, n_kept, cap;
    qn_err *kept;      /* with --json */
} qn_findings;

/* Callback shape of qn_verify and qn_unpack; ctx is the qn_findings. */
void qn_findings_add(void *ctx, const qn_err *what);
/* "KEY": [{"file", "tensor", "offset", "text"}, …], "KEY_count". */
void qn_findings_json(const qn_findings *f, qn_json_writer *j, const char *key);
void qn_findings_release(qn_findings *f);

#endif
