/* measure.h: fills a report, rung by rung: first what the tensors say, then what the model does. A gate stops between them. */
#ifndef QN_ANALYSIS_GATE_MEASURE_H
#define QN_ANALYSIS_GATE_MEASURE_H

#include "analysis/eval/corpus.h"
#include "analysis/eval/evaluate.h"
#include "analysis/eval/io_feed.h"
#include "analysis/gate/report.h"

typedef struct qn_measure_options {
    uint64_t memory_bytes;  /* of the whole process; 0: no limit                */
    uint64_t batch_tokens;  /* 0: as qn_evaluate                                */
    bool layers;            /* errors of layers: one more forward pass           */
    uint64_t noise_chunks;  /* measured again for noise_kl; 0: none              */
} qn_measure_options;

/* Paths, sizes, digests of both, error of every tensor. `r` is initialised. */
qn_code qn_measure_tensors(const qn_env *env, qn_source *candidate, qn_source *reference, qn_report *r, qn_err *err) QN_MUST_CHECK;
/* Compares the tokenizers that the two bring along, when both do: r->tokenizer_trouble. Of one kind they must be equal; else they must give the same
 * tokens of the text `data_path` (cut by `o`), NULL: then nothing is said. */
qn_code qn_measure_tokenizers(const qn_env *env, qn_source *candidate, qn_source *reference, const char *data_path, const qn_corpus_options *o,
                              qn_report *r, qn_err *err) QN_MUST_CHECK;
/* Divergence on tokens; data_path is for people. tokenizer: its digest, NULL when token ids were given. The tensors were measured before. A candidate whose
 * logits are not finite is no failure: r->cannot_run says so. */
qn_code qn_measure_lm(const qn_env *env, const qn_graph *g, const qn_graph *ref, const qn_corpus *c, const char *data_path,
                      const qn_digest *tokenizer, const qn_measure_options *o, qn_report *r, qn_err *err) QN_MUST_CHECK;
/* The same on arrays. */
qn_code qn_measure_io(const qn_env *env, const qn_graph *g, const qn_graph *ref, qn_io_feed *feed, const int64_t *labels, uint64_t n_labels,
                      const char *data_path, const qn_measure_options *o, qn_report *r, qn_err *err) QN_MUST_CHECK;
/* The candidate's graph has operators that take quantized weights: its tensors are others than the reference's, by name and shape, and only what
 * both have alike is compared. Called between measuring and judging. */
void qn_measure_forgive_names(const qn_graph *g, qn_report *r);

#endif
