/* gate_measure.h: what compare, gate and report have in common: the data they run on, and measuring in steps. */
#ifndef QN_CLI_GATE_MEASURE_H
#define QN_CLI_GATE_MEASURE_H

#include "analysis/gate/report.h"
#include "cli/lm_data.h"

typedef struct qn_gate_data {
    qn_lm_data_args lm;
    const char *inputs, *labels, *base;
    uint64_t batch;
    int score;
} qn_gate_data;

extern const char *const qn_gate_scores[];

/* Rows for a command whose arguments hold a qn_gate_data at member `m` of struct `s`. */
#define QN_GATE_DATA_OPTIONS(s, m) \
    QN_LM_DATA_OPTIONS(s, m.lm), \
    {.name = "inputs", .type = QN_OPT_PATH, .at = offsetof(s, m.inputs), .arg = "FILE", \
     .help = "instead of --data, for models that are no language models: arrays (.npz, or .npy for a single input) named as the " \
             "model's inputs, samples along the first axis"}, \
    {.name = "labels", .type = QN_OPT_PATH, .at = offsetof(s, m.labels), .arg = "FILE", \
     .help = "with --inputs: the right class of every sample (.npy)"}, \
    {.name = "score", .type = QN_OPT_CHOICE, .at = offsetof(s, m.score), .arg = "PART", .choices = qn_gate_scores, .fallback = "half", \
     .help = "which tokens of a chunk count: the second half, or all but the first"}, \
    {.name = "batch", .type = QN_OPT_COUNT, .at = offsetof(s, m.batch), .arg = "N", .min = 1, .max = 1 << 24, \
     .help = "tokens (1024), or samples of --inputs (1), that go through the model together"}, \
    {.name = "base", .type = QN_OPT_PATH, .at = offsetof(s, m.base), .arg = "CHECKPOINT", \
     .help = "the checkpoint that was given to compress --base"}

/* QN_E_USAGE for options that do not go together. */
qn_code qn_gate_data_check(const qn_cli *cli, const qn_gate_data *d, qn_err *err) QN_MUST_CHECK;

/* Measures into *r, which is initialised: tensors and tokenizers first; then `stop`, if it says so, ends it (NULL: never); then what the data tell.
 * A candidate that cannot be opened as a model, or not run, is no failure: r->cannot_run says why. */
qn_code qn_gate_measure(qn_cli *cli, const qn_gate_data *d, const char *candidate, const char *reference,
                        qn_code (*stop)(void *ctx, const qn_report *r, bool *yes, qn_err *err), void *ctx, qn_report *r, qn_err *err) QN_MUST_CHECK;

/* The report as JSON into a file, whole or not at all. */
qn_code qn_gate_write_report(qn_cli *cli, const qn_report *r, const char *path, qn_err *err) QN_MUST_CHECK;
/* Any text the same way. */
qn_code qn_gate_write_text(qn_cli *cli, const qn_textbuf *t, const char *path, qn_err *err) QN_MUST_CHECK;

#endif
