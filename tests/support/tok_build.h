/* tok_build.h: tokenizers from the text of a tokenizer.json, in memory. Failures are Criterion's. */
#ifndef QN_TESTS_TOK_BUILD_H
#define QN_TESTS_TOK_BUILD_H

#include "analysis/tokenize/tokenizer.h"

/* A tokenizer.json, and a tokenizer_config.json beside it unless NULL. */
qn_code qt_tok_try(const char *json, const char *config, qn_tokenizer **out, qn_err *err);
qn_tokenizer *qt_tok_open(const char *json, const char *config);
/* The ids as text, "1 2 3"; static storage, good until the next call. */
const char *qt_tok_ids(const qn_tokenizer *t, const char *text, size_t n, unsigned flags);
/* The text of ids given as such text. */
const char *qt_tok_text(const qn_tokenizer *t, const char *ids, bool skip_special);

#endif
