/* models.h: build functions of the models, for json_kinds_tab.c. */
#ifndef QN_ANALYSIS_TOKENIZE_MODELS_H
#define QN_ANALYSIS_TOKENIZE_MODELS_H

#include "analysis/tokenize/tokenizer_json.h"

qn_code qn_tok_build_bpe(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err) QN_MUST_CHECK;
qn_code qn_tok_build_wordlevel(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err) QN_MUST_CHECK;
extern const qn_tok_model_ops qn_tok_bpe_ops;

/* Sets t->unk; a token that the vocabulary does not have is looked for again when added tokens are known. */
qn_code qn_tok_find_unk(qn_tokenizer *t, const char *s, uint64_t n, uint64_t off, qn_err *err) QN_MUST_CHECK;

#endif
