/* wordpiece.h: the WordPiece model of BERT. */
#ifndef QN_ANALYSIS_TOKENIZE_WORDPIECE_H
#define QN_ANALYSIS_TOKENIZE_WORDPIECE_H

#include "analysis/tokenize/tokenizer_json.h"

/* prefix: what tokens inside a word begin with ("##"). start: what tokens at its beginning do ("" or, in GGUF, U+2581). Words of
 * more than max_chars characters are unknown. The strings are borrowed. */
qn_code qn_tok_set_wordpiece(qn_tokenizer *t, const char *prefix, const char *start, uint64_t max_chars, qn_err *err) QN_MUST_CHECK;
/* For json_kinds_tab.c. */
qn_code qn_tok_build_wordpiece(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err) QN_MUST_CHECK;

#endif
