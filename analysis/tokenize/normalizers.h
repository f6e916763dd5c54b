/* normalizers.h: build functions of the normalizers, for json_kinds_tab.c. */
#ifndef QN_ANALYSIS_TOKENIZE_NORMALIZERS_H
#define QN_ANALYSIS_TOKENIZE_NORMALIZERS_H

#include "analysis/tokenize/pretokenizers.h"

QN_TOK_BUILD(qn_tok_build_nfc);
QN_TOK_BUILD(qn_tok_build_nfd);
QN_TOK_BUILD(qn_tok_build_nfkc);
QN_TOK_BUILD(qn_tok_build_nfkd);
QN_TOK_BUILD(qn_tok_build_lowercase);
QN_TOK_BUILD(qn_tok_build_replace); /* a decoder too, string by string */
QN_TOK_BUILD(qn_tok_build_prepend);
QN_TOK_BUILD(qn_tok_build_strip);
QN_TOK_BUILD(qn_tok_build_strip_accents);
QN_TOK_BUILD(qn_tok_build_nmt);
QN_TOK_BUILD(qn_tok_build_bert_normalizer);

#endif
