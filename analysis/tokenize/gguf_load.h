/* gguf_load.h: what load_gguf.c and the kinds of tokenizers in GGUF files share. */
#ifndef QN_ANALYSIS_TOKENIZE_GGUF_LOAD_H
#define QN_ANALYSIS_TOKENIZE_GGUF_LOAD_H

#include "analysis/tokenize/gguf_pre.h"
#include "analysis/tokenize/sp.h"
#include "formats/gguf/gguf.h"
#include <stdio.h>

typedef struct qn_gguf_load {
    qn_tokenizer *t;
    qn_gguf g;
    qn_arena scratch; /* gone when the tokenizer is loaded               */
    uint64_t n;       /* tokens, which are in t->vocab already           */
    uint8_t *type;    /* by id: qn_sp_type, 0 for another number         */
    bool add_bos, add_eos;
} qn_gguf_load;

typedef struct qn_gguf_kind {
    const char *model;                                /* tokenizer.ggml.model */
    qn_code (*build)(qn_gguf_load *l, qn_err *err);   /* sets model, steps, kind; may set add_bos */
    uint32_t bos, eos, unk, sep;                      /* when the keys do not say */
    bool add_bos, add_eos, wrap;
} qn_gguf_kind;

extern const qn_gguf_kind qn_gguf_kinds[]; /* gguf_kinds.c; ends with a NULL model */

/* Adds to t->pre_tokenizers what a row of qn_gguf_pres stands for: cuts, then bytes as characters. In gguf_kinds.c. */
qn_code qn_gguf_pre_steps(qn_tokenizer *t, const qn_gguf_pre *pre, qn_err *err) QN_MUST_CHECK;
/* *v stays as it is when there is no such key. */
qn_code qn_gguf_load_bool(const qn_gguf_load *l, const char *key, bool *v, qn_err *err) QN_MUST_CHECK;
/* tokenizer.ggml.scores → l->n numbers; untouched when there are none. */
qn_code qn_gguf_load_scores(qn_gguf_load *l, double *score, qn_err *err) QN_MUST_CHECK;

#endif
