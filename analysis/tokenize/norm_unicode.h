/* norm_unicode.h: the four Unicode normalization forms. */
#ifndef QN_ANALYSIS_TOKENIZE_NORM_UNICODE_H
#define QN_ANALYSIS_TOKENIZE_NORM_UNICODE_H

#include "analysis/tokenize/tokenizer_impl.h"

typedef enum qn_unicode_form { QN_NFC, QN_NFD, QN_NFKC, QN_NFKD } qn_unicode_form;

/* Appends the text (valid UTF-8) in that form. */
qn_code qn_tok_unicode_form(qn_unicode_form form, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err) QN_MUST_CHECK;

#endif
