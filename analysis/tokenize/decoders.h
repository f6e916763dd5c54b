/* decoders.h: build functions of the decoders, for json_kinds_tab.c. */
#ifndef QN_ANALYSIS_TOKENIZE_DECODERS_H
#define QN_ANALYSIS_TOKENIZE_DECODERS_H

#include "analysis/tokenize/pretokenizers.h"

QN_TOK_BUILD(qn_tok_build_byte_fallback);
QN_TOK_BUILD(qn_tok_build_fuse);
QN_TOK_BUILD(qn_tok_build_strip_dec);
QN_TOK_BUILD(qn_tok_build_metaspace_dec);
QN_TOK_BUILD(qn_tok_build_wordpiece_dec);
QN_TOK_BUILD(qn_tok_build_bpe_dec);

#endif
