/* pretokenizers.h: build functions of the pre-tokenizers, for json_kinds_tab.c. */
#ifndef QN_ANALYSIS_TOKENIZE_PRETOKENIZERS_H
#define QN_ANALYSIS_TOKENIZE_PRETOKENIZERS_H

#include "analysis/tokenize/tokenizer_json.h"

#define QN_TOK_BUILD(name) \
    qn_code name(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err) QN_MUST_CHECK
QN_TOK_BUILD(qn_tok_build_split);
QN_TOK_BUILD(qn_tok_build_digits);
QN_TOK_BUILD(qn_tok_build_punctuation);
QN_TOK_BUILD(qn_tok_build_whitespace);
QN_TOK_BUILD(qn_tok_build_whitespace_split);
QN_TOK_BUILD(qn_tok_build_bert_pre);
QN_TOK_BUILD(qn_tok_build_char_delimiter);
QN_TOK_BUILD(qn_tok_build_scripts);
QN_TOK_BUILD(qn_tok_build_fixed_length);
QN_TOK_BUILD(qn_tok_build_metaspace_pre);

/* What the pre-tokenizer and the decoder share. *prepend: 0 never, 1 first, 2 always. */
qn_code qn_tok_metaspace_read(const qn_tok_node *node, const char **mark, uint64_t *n, int *prepend, qn_err *err) QN_MUST_CHECK;

#endif
