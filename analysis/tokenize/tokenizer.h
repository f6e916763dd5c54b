/* tokenizer.h: text to token ids and back, as the model's own files say.
 *
 * Read from tokenizer.json, tokenizer.model (sentencepiece) or the metadata of a GGUF file; which of them is found in this
 * order. Text is bytes: what is not UTF-8 is tokenized too, the way the reference does it (docs/tokenizers.md). */
#ifndef QN_ANALYSIS_TOKENIZE_TOKENIZER_H
#define QN_ANALYSIS_TOKENIZE_TOKENIZER_H

#include "formats/source.h"

typedef struct qn_tokenizer qn_tokenizer;

enum {
    QN_TOKENIZE_SPECIAL = 1, /* put BOS, EOS and the like where the file says they belong              */
    QN_TOKENIZE_PLAIN = 2    /* special tokens that stand in the text are plain text, not their ids     */
};

/* Growing list of ids; zero it first, release it at the end. */
typedef struct qn_tokens {
    uint32_t *ids;
    uint64_t n, cap;
} qn_tokens;
void qn_tokens_release(qn_tokens *t, const qn_alloc *a);

/* From the files of an opened checkpoint (a folder, a GGUF file, or a .quern that holds either).
 * QN_E_UNSUPPORTED: it has no tokenizer, or one of a kind that is not implemented (named). */
qn_code qn_tokenizer_of_source(const qn_env *env, qn_source *s, qn_tokenizer **out, qn_err *err) QN_MUST_CHECK;
/* From one file: tokenizer.json, a sentencepiece model, a GGUF file; or a folder, or a packed checkpoint, that holds one. */
qn_code qn_tokenizer_open(const qn_env *env, const char *path, qn_tokenizer **out, qn_err *err) QN_MUST_CHECK;
void qn_tokenizer_close(qn_tokenizer *t); /* NULL is fine */

/* Appends the ids of the text. Thread-safe: the tokenizer is read-only. */
qn_code qn_tokenizer_encode(const qn_tokenizer *t, const char *text, uint64_t n_bytes, unsigned flags, qn_tokens *out,
                            qn_err *err) QN_MUST_CHECK;
/* Appends to a caller's growing buffer (*text, *n, *cap; from the tokenizer's allocator: qn_mem_put) the text of the ids. */
qn_code qn_tokenizer_decode(const qn_tokenizer *t, const uint32_t *ids, uint64_t n_ids, bool skip_special, char **text,
                            uint64_t *n, uint64_t *cap, qn_err *err) QN_MUST_CHECK;

/* Ids lie below this; a model whose vocabulary is smaller cannot take them. */
uint32_t qn_tokenizer_size(const qn_tokenizer *t);
/* The token as it stands in the vocabulary; NULL when no token has this id. */
const char *qn_tokenizer_token(const qn_tokenizer *t, uint32_t id, size_t *n_bytes);
/* UINT32_MAX when there is none. */
uint32_t qn_tokenizer_find(const qn_tokenizer *t, const char *token, size_t n_bytes);
uint32_t qn_tokenizer_bos(const qn_tokenizer *t);
uint32_t qn_tokenizer_eos(const qn_tokenizer *t);
/* "byte-level BPE", "sentencepiece BPE", "unigram", "wordpiece", …: and the file it came from. */
const char *qn_tokenizer_kind(const qn_tokenizer *t);
const char *qn_tokenizer_file(const qn_tokenizer *t);
/* XXH3-128 of all that decides its output: two tokenizers with one digest give the same ids. */
qn_digest qn_tokenizer_digest(const qn_tokenizer *t);

#endif
