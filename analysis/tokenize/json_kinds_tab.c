/* json_kinds_tab.c: every "type" that is read, by what it is a type of. */
#include "analysis/tokenize/bytelevel.h"
#include "analysis/tokenize/decoders.h"
#include "analysis/tokenize/models.h"
#include "analysis/tokenize/normalizers.h"
#include "analysis/tokenize/sp.h"
#include "analysis/tokenize/wordpiece.h"

const qn_tok_model_kind qn_tok_model_kinds[] = {
    {"BPE", qn_tok_build_bpe},
    {"Unigram", qn_tok_build_unigram},
    {"WordLevel", qn_tok_build_wordlevel},
    {"WordPiece", qn_tok_build_wordpiece},
    {NULL, NULL},
};

/* "Sequence" is not here: load_json.c takes it apart. */
const qn_tok_step_kind qn_tok_normalizer_kinds[] = {
    {"BertNormalizer", qn_tok_build_bert_normalizer},
    {"ByteLevel", qn_tok_build_bytelevel_norm},
    {"Lowercase", qn_tok_build_lowercase},
    {"NFC", qn_tok_build_nfc},
    {"NFD", qn_tok_build_nfd},
    {"NFKC", qn_tok_build_nfkc},
    {"NFKD", qn_tok_build_nfkd},
    {"Nmt", qn_tok_build_nmt},
    {"Precompiled", qn_tok_build_precompiled},
    {"Prepend", qn_tok_build_prepend},
    {"Replace", qn_tok_build_replace},
    {"Strip", qn_tok_build_strip},
    {"StripAccents", qn_tok_build_strip_accents},
    {NULL, NULL},
};

const qn_tok_step_kind qn_tok_pre_tokenizer_kinds[] = {
    {"BertPreTokenizer", qn_tok_build_bert_pre},
    {"ByteLevel", qn_tok_build_bytelevel_pre},
    {"CharDelimiterSplit", qn_tok_build_char_delimiter},
    {"Digits", qn_tok_build_digits},
    {"FixedLength", qn_tok_build_fixed_length},
    {"Metaspace", qn_tok_build_metaspace_pre},
    {"Punctuation", qn_tok_build_punctuation},
    {"Split", qn_tok_build_split},
    {"UnicodeScripts", qn_tok_build_scripts},
    {"Whitespace", qn_tok_build_whitespace},
    {"WhitespaceSplit", qn_tok_build_whitespace_split},
    {NULL, NULL},
};

const qn_tok_step_kind qn_tok_decoder_kinds[] = {
    {"BPEDecoder", qn_tok_build_bpe_dec},
    {"ByteFallback", qn_tok_build_byte_fallback},
    {"ByteLevel", qn_tok_build_bytelevel_dec},
    {"Fuse", qn_tok_build_fuse},
    {"Metaspace", qn_tok_build_metaspace_dec},
    {"Replace", qn_tok_build_replace},
    {"Strip", qn_tok_build_strip_dec},
    {"WordPiece", qn_tok_build_wordpiece_dec},
    {NULL, NULL},
};
