/* lm_data.h: the options by which eval and calibrate say what text a model is shown, and opening it. */
#ifndef QN_CLI_LM_DATA_H
#define QN_CLI_LM_DATA_H

#include "analysis/eval/corpus.h"
#include "analysis/graph/graph.h"
#include "cli/cli.h"

typedef struct qn_lm_data_args {
    const char *data, *tokenizer, *separator, *field;
    uint64_t context, chunks;
    bool documents;
} qn_lm_data_args;

/* Rows for a command whose arguments hold a qn_lm_data_args at member `m` of struct `s`. */
#define QN_LM_DATA_OPTIONS(s, m) \
    {.name = "data", .letter = 'd', .type = QN_OPT_PATH, .at = offsetof(s, m.data), .arg = "FILE", \
     .help = "the text: plain text, JSON lines (.jsonl), or ready token ids (.npy)"}, \
    {.name = "context", .letter = 'c', .type = QN_OPT_COUNT, .at = offsetof(s, m.context), .arg = "N", .min = 2, .max = 1 << 24, \
     .help = "tokens that the model sees at a time; the model's own context, at most 512, when not given"}, \
    {.name = "chunks", .type = QN_OPT_COUNT, .at = offsetof(s, m.chunks), .arg = "N", .min = 1, .max = UINT32_MAX, \
     .help = "use the first N chunks, documents or runs of --inputs; all of them when not given"}, \
    {.name = "documents", .type = QN_OPT_FLAG, .at = offsetof(s, m.documents), \
     .help = "the text consists of documents, each for itself: separated as --separator says. JSON lines always are documents"}, \
    {.name = "separator", .type = QN_OPT_TEXT, .at = offsetof(s, m.separator), .arg = "TEXT", .fallback = "<|endoftext|>", \
     .help = "what stands between documents"}, \
    {.name = "field", .type = QN_OPT_TEXT, .at = offsetof(s, m.field), .arg = "NAME", .fallback = "text", \
     .help = "key of the text in JSON lines"}, \
    {.name = "tokenizer", .type = QN_OPT_PATH, .at = offsetof(s, m.tokenizer), .arg = "FILE", \
     .help = "tokenizer.json, tokenizer.model, GGUF file, or a folder with one; the model's own when not given"}

/* QN_E_USAGE when an option was given that says how a text is cut: there is none. */
qn_code qn_lm_data_unused(const qn_cli *cli, const qn_lm_data_args *a, qn_err *err) QN_MUST_CHECK;
/* Tokenizer and corpus for a model. *tok is NULL for token files. Notes what a user should know (tokens left out, a context
 * longer than the model's). Closed by the caller: qn_corpus_release, qn_tokenizer_close. */
qn_code qn_lm_data_open(qn_cli *cli, const qn_lm_data_args *a, qn_source *model, const qn_graph *g, bool score_all, qn_tokenizer **tok,
                        qn_corpus *c, qn_err *err) QN_MUST_CHECK;

#endif
