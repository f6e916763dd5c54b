/* lm_made.h: small checkpoints of language models, made by hand: a folder with config.json and random weights. */
#ifndef QN_TESTS_LM_MADE_H
#define QN_TESTS_LM_MADE_H

#include "analysis/exec/exec.h"
#include "tests/support/made.h"

/* A folder scratch/dir with this config.json and tensors listed as "name 4x6; other 3; …". A name may hold one "*": it then stands for
 * n_layers tensors. Values are random by `seed`, around 0 (norm weights, those whose name has "norm" in it: around 1). Returns the path. */
const char *qt_lm_made(const char *dir, const char *config, const char *tensors, unsigned n_layers, uint64_t seed);
/* The tensors of a llama of hidden size 8, 2 heads of 4 with 1 key head, ffn 6, vocabulary 11: qt_lm_made with n_layers 2. */
extern const char qt_lm_llama_config[], qt_lm_llama_tensors[];

/* Logits (n_tokens, vocabulary) of sequences, copied until exit. memory_bytes: the executor's limit. *peak may be NULL. */
float *qt_lm_logits(const qn_env *env, const char *path, const int64_t *tokens, const int64_t *starts, unsigned n_seq, uint64_t memory_bytes,
                    uint64_t *n, uint64_t *peak);
/* The same as one batch of a stream, block by block. */
float *qt_lm_streamed(const qn_env *env, const char *path, const int64_t *tokens, const int64_t *starts, unsigned n_seq, uint64_t memory_bytes,
                      uint64_t *n, uint64_t *peak);

#endif
