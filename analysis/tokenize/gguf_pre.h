/* gguf_pre.h: what a name in tokenizer.ggml.pre means: how text is cut before byte-level BPE. GGUF files carry the name alone; the
 * patterns are those of the models' own tokenizer.json files, as llama.cpp assigns them to the names. */
#ifndef QN_ANALYSIS_TOKENIZE_GGUF_PRE_H
#define QN_ANALYSIS_TOKENIZE_GGUF_PRE_H

#include <stdbool.h>

enum { QN_GGUF_PATTERNS_MAX = 6 };

typedef struct qn_gguf_pre {
    const char *name;                           /* NULL ends the table                                                     */
    const char *patterns[QN_GGUF_PATTERNS_MAX]; /* applied one after another to what the one before left; NULL ends them   */
    bool ignore_merges;                         /* a piece that is a token is that token                                   */
    bool add_bos;                               /* when tokenizer.ggml.add_bos_token does not say                          */
} qn_gguf_pre;

extern const qn_gguf_pre qn_gguf_pres[];

#endif
