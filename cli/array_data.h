/* array_data.h: calibration data for a command that takes text or arrays: the options, and opening them for a graph. */
#ifndef QN_CLI_ARRAY_DATA_H
#define QN_CLI_ARRAY_DATA_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/eval/io_feed.h"
#include "analysis/eval/lm_feed.h"
#include "cli/lm_data.h"

typedef struct qn_data_args {
    qn_lm_data_args lm;
    const char *inputs;
    uint64_t batch;
} qn_data_args;

/* Rows for a command whose arguments hold a qn_data_args at member `m` of struct `s`. */
#define QN_DATA_OPTIONS(s, m) \
    {.name = "inputs", .type = QN_OPT_PATH, .at = offsetof(s, m.inputs), .arg = "FILE", \
     .help = "calibration data of models that are no language models: arrays (.npz, or .npy for a single input) named as the model's " \
             "inputs, samples along the first axis"}, \
    {.name = "batch", .type = QN_OPT_COUNT, .at = offsetof(s, m.batch), .arg = "N", .min = 1, .max = 1 << 24, \
     .help = "tokens (1024), or samples of --inputs (16), that go through the model together"}, \
    QN_LM_DATA_OPTIONS(s, m.lm)

/* What is open; zero is closed. `args` and `cli` are set by the caller. */
typedef struct qn_data {
    qn_cli *cli;
    const qn_data_args *args;
    qn_tokenizer *tok;
    qn_corpus corpus;
    qn_lm_feed lm;
    qn_io_feed io;
    qn_digest digest;  /* of what is fed */
    uint64_t sequences;
} qn_data;

bool qn_data_given(const qn_data_args *a);
/* QN_E_USAGE: both kinds at once, or options about text without text. */
qn_code qn_data_check(const qn_cli *cli, const qn_data_args *a, qn_err *err) QN_MUST_CHECK;
/* As qn_prune_data.open and .close: ctx is a qn_data. */
qn_code qn_data_open(void *ctx, const qn_graph *g, qn_calibrate_feed *out, qn_err *err) QN_MUST_CHECK;
void qn_data_close(void *ctx);

#endif
