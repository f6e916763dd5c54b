/* corpus.h: text or tokens, cut into the sequences that a model is shown.
 *
 * Two ways of cutting:
 *   chunks: the whole text as one row of tokens, cut every `context` tokens; a rest that does not fill a chunk is left out. When the
 *           tokenizer puts a BOS in front of text, the first token of each chunk is replaced by it. Scored are the tokens of the
 *           second half of each chunk (each then has at least half a context before it), or all but the first. This is
 *           how llama.cpp's perplexity tool cuts, so the figures can be compared.
 *   documents: each document for itself, BOS in front, cut after `context` predicted tokens; all tokens but the first are scored.
 * The unit of statistics is the chunk (the document): tokens within it depend on one another. */
#ifndef QN_ANALYSIS_EVAL_CORPUS_H
#define QN_ANALYSIS_EVAL_CORPUS_H

#include "analysis/tokenize/tokenizer.h"

typedef struct qn_corpus_options {
    uint64_t context;      /* ≥ 2                                                                  */
    uint64_t max_chunks;   /* 0: all                                                               */
    const char *separator; /* of documents; NULL: chunks (JSON lines are documents all the same)    */
    const char *field;     /* of JSON lines; NULL: "text"                                           */
    bool score_all;        /* chunks: not only their second half                                   */
} qn_corpus_options;

typedef struct qn_corpus {
    const qn_alloc *alloc;
    uint32_t *tokens;      /* of all chunks, one behind the other: chunk c is tokens[starts[c] … starts[c + 1]) */
    uint64_t *starts;      /* n_chunks + 1 */
    uint64_t *score_from;  /* first token of chunk c that is scored, counted in the chunk; ≥ 1 */
    uint64_t n_chunks;
    uint64_t n_tokens;     /* in chunks                       */
    uint64_t n_scored;
    uint64_t n_left_out;   /* tokens that no chunk has        */
    uint64_t context;
    bool documents;
    qn_digest digest;      /* of tokens and cuts              */
} qn_corpus;

/* By its name: .npy holds tokens (integers, rank 1; rank 2: a chunk each row); .jsonl and .ndjson have a JSON object each line;
 * everything else is text. Rows of rank 2 have the length that they have, and are documents when a separator is given. `tok` may be NULL for .npy. n_vocab: ids must be below it (0: not checked).
 * QN_E_INPUT: text shorter than one chunk, an id that the model does not have, … */
qn_code qn_corpus_open(const qn_env *env, const char *path, const qn_tokenizer *tok, uint32_t n_vocab, const qn_corpus_options *o,
                       qn_corpus *c, qn_err *err) QN_MUST_CHECK;
void qn_corpus_release(qn_corpus *c); /* a zeroed one is fine */

#endif
