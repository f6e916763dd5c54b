/* to_gguf.h: a tokenizer in the words of GGUF metadata, as llama.cpp understands them: the reverse of load_gguf.c. */
#ifndef QN_ANALYSIS_TOKENIZE_TO_GGUF_H
#define QN_ANALYSIS_TOKENIZE_TO_GGUF_H

#include "analysis/tokenize/tokenizer.h"

typedef struct qn_tok_gguf_merge {
    uint32_t left, right; /* ids */
} qn_tok_gguf_merge;

/* Everything from the arena, or the tokenizer's own. */
typedef struct qn_tok_gguf {
    const char *model;         /* tokenizer.ggml.model: "llama", "gpt2", "t5"                          */
    const char *pre;           /* .pre; NULL: none                                                      */
    uint32_t n;                /* tokens: as many as the embedding has rows                              */
    const char **token;        /* .tokens by id, n_bytes[id] bytes                                       */
    uint32_t *n_bytes;
    int32_t *type;             /* .token_type: 1 normal … 6 byte                                       */
    float *score;              /* .scores; NULL: none                                                      */
    qn_tok_gguf_merge *merges; /* .merges by rank; NULL: none                                                */
    uint32_t n_merges;
    uint32_t bos, eos, unk;    /* UINT32_MAX: none                                                            */
    bool add_bos, add_eos;
    bool add_space_prefix;     /* of llama and t5                                                              */
    bool remove_extra_whitespaces; /* of t5                                                                     */
    const uint8_t *charsmap;   /* .precompiled_charsmap; n_charsmap 0: none                                     */
    uint64_t n_charsmap;
    bool no_bytes;             /* llama: tokens of single bytes are missing: llama.cpp stops at characters that it does not know */
} qn_tok_gguf;

/* n: rows of the embedding; ids beyond are dropped, missing ones filled up with "[PADn]". QN_E_UNSUPPORTED names what llama.cpp has no counterpart for. */
qn_code qn_tok_gguf_of(qn_tok_gguf *g, const qn_tokenizer *t, uint32_t n, qn_arena *arena, qn_err *err) QN_MUST_CHECK;

/* Lines that tokenizers like to disagree about, ended by NULL: contractions, digits, runs of spaces, line ends, scripts, emoji. */
extern const char *const qn_tok_trial_lines[];
/* Do both give the same ids to all of them, special tokens around included? *first: one where they do not, else NULL. */
qn_code qn_tok_agree(const qn_tokenizer *a, const qn_tokenizer *b, unsigned *n_differ, const char **first, qn_err *err) QN_MUST_CHECK;

#endif
