/* sp.h: the parts of sentencepiece tokenizers, shared by the loaders of tokenizer.model, of GGUF and of tokenizer.json with
 * a Unigram model. For analysis/tokenize only.
 *
 * Where the two libraries that read such vocabularies differ (sentencepiece itself; llama.cpp, which reads them from GGUF), the loader
 * says which is followed: the ids must be theirs. */
#ifndef QN_ANALYSIS_TOKENIZE_SP_H
#define QN_ANALYSIS_TOKENIZE_SP_H

#include "analysis/tokenize/charsmap.h"
#include "analysis/tokenize/tokenizer_json.h"
#include "analysis/tokenize/trie.h"
#include "formats/sentencepiece/sentencepiece.h"

#define QN_SP_SPACE "\xe2\x96\x81" /* U+2581, which stands for a space in pieces */
enum { QN_SP_SPACE_BYTES = 3 };

/* Bytes of the character that begins with this byte, as its leading bits say; of one inside a character, 1. */
static inline unsigned qn_sp_char_bytes(uint8_t first)
{
    return first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* Bytes of the well-formed character (RFC 3629) at s, n > 0; 0 when there is none. */
unsigned qn_sp_character(const uint8_t *s, uint64_t n);

/* ---- normalization ---- */

typedef struct qn_sp_rules {
    qn_charsmap map;
    const qn_trie *user; /* strings that pass as they are; NULL: none */
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces, whitespace_as_suffix;
    bool keep_malformed;  /* bytes that are no UTF-8 stay as they are, else each becomes U+FFFD             */
    bool space_with_word; /* as llama.cpp: the dummy prefix goes before the first word, not before the text */
} qn_sp_rules;

/* Appends what n bytes (any bytes) become; the output is UTF-8 if the user's strings are. */
qn_code qn_sp_normalize(const qn_sp_rules *r, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err) QN_MUST_CHECK;

/* ---- models ---- */

typedef enum qn_sp_follow { QN_SP_AS_SENTENCEPIECE, QN_SP_AS_LLAMA_CPP, QN_SP_AS_TOKENIZERS } qn_sp_follow;

/* Characters a, b that stand side by side in some piece: two that do not can never come into one. */
typedef struct qn_sp_pairs {
    uint64_t *keys; /* owned */
    uint64_t mask, n, hash_key;
} qn_sp_pairs;

typedef struct qn_sp_data {
    const qn_tokenizer *t;
    qn_sp_kind kind;
    qn_sp_follow follow;
    uint64_t n;         /* of the next two; ids of tokens that were added later lie above */
    double *score;      /* by id, in the arena                                   */
    uint8_t *type;      /* by id: qn_sp_type; 0 where the file does not say one */
    bool byte_fallback;
    bool has_unused;    /* pieces that may be passed through but not put out (sentencepiece only) */
    double min_score, max_score;
    qn_trie trie;       /* UNIGRAM: all that may come out */
    qn_trie user;       /* user-defined pieces            */
    bool has_user;
    qn_sp_pairs pairs;  /* BPE */
    qn_sp_rules rules, denormal;
    bool has_denormal, strip_first, raw_bytes; /* decoding: see sp_decode.c */
    const char *unk_surface; /* NULL: the token itself */
} qn_sp_data;

static inline unsigned qn_sp_type_of(const qn_sp_data *d, uint32_t id)
{
    return id < d->n ? d->type[id] : 0;
}

/* Arrays for t->vocab.n ids, zeroed, in t's arena; d becomes t's model. To be filled before qn_tok_finish. */
qn_code qn_sp_data_new(qn_tokenizer *t, qn_sp_kind kind, qn_sp_follow follow, qn_sp_data **d, qn_err *err) QN_MUST_CHECK;
/* Steps that need qn_sp_data: the normalizer by d->rules, the decoder by d. */
qn_code qn_sp_add_steps(qn_tokenizer *t, qn_sp_data *d, qn_err *err) QN_MUST_CHECK;

extern const qn_tok_model_ops qn_sp_bpe_ops, qn_sp_unigram_ops, qn_sp_word_ops, qn_sp_char_ops;
extern const qn_tok_step_ops qn_sp_normalizer_ops, qn_sp_decoder_ops;

/* For json_kinds_tab.c. */
qn_code qn_tok_build_unigram(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err) QN_MUST_CHECK;
qn_code qn_tok_build_precompiled(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err) QN_MUST_CHECK;

/* What models share. Of every kind: builds the tries and checks that there is an unknown token where one may be needed. */
qn_code qn_sp_finish(qn_tokenizer *t, qn_err *err) QN_MUST_CHECK;
void qn_sp_digest(const qn_tokenizer *t, qn_hasher *h);
void qn_sp_release(qn_tokenizer *t);

qn_code qn_sp_pairs_build(qn_tokenizer *t, qn_sp_data *d, qn_err *err) QN_MUST_CHECK;
/* Do a and b, characters of na and nb ≤ 4 bytes, stand side by side in a piece? Never a wrong "no". */
bool qn_sp_pairs_has(const qn_sp_pairs *p, const char *a, uint64_t na, const char *b, uint64_t nb);

/* Puts ids out: runs of unknown pieces become one unknown token, or the tokens of their bytes. */
typedef struct qn_sp_sink {
    const qn_tokenizer *t;
    const qn_sp_data *d;
    qn_tokens *out;
    bool prev_unk;
} qn_sp_sink;
/* A piece of the text and its id, QN_TOK_NONE when it is none. */
qn_code qn_sp_put(qn_sp_sink *k, const char *w, uint64_t n, uint32_t id, qn_err *err) QN_MUST_CHECK;

/* For loader_tab.c. */
bool qn_tok_probe_sentencepiece(const uint8_t *head, size_t n);
qn_code qn_tok_load_sentencepiece(qn_tokenizer *t, const qn_tok_file *f, qn_tok_place *place, qn_err *err) QN_MUST_CHECK;
bool qn_tok_probe_gguf(const uint8_t *head, size_t n);
qn_code qn_tok_load_gguf(qn_tokenizer *t, const qn_tok_file *f, qn_tok_place *place, qn_err *err) QN_MUST_CHECK;

#endif
