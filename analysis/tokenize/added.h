/* added.h: finding added tokens in a text: leftmost, and of those that begin there the longest. */
#ifndef QN_ANALYSIS_TOKENIZE_ADDED_H
#define QN_ANALYSIS_TOKENIZE_ADDED_H

#include "analysis/tokenize/tokenizer_impl.h"

enum { QN_TOK_ADDED_MAX = 4096 }; /* bytes of one: a search costs at most so much at each place */

typedef struct qn_tok_index qn_tok_index;

/* Of the tokens with that `normalized`; *out = NULL when there are none. Normalized ones are looked for as the normalizers
 * turn them. */
qn_code qn_tok_index_open(const qn_tokenizer *t, bool normalized, qn_tok_index **out, qn_err *err) QN_MUST_CHECK;
void qn_tok_index_close(qn_tok_index *x, const qn_alloc *a); /* NULL is fine */

/* Walks a text. Zero it, set x, s, n. */
typedef struct qn_tok_walk {
    const qn_tok_index *x;
    const char *s;
    uint64_t n, at, done; /* searched up to; handed out up to */
    bool plain;           /* special tokens are passed over */
} qn_tok_walk;
/* The next added token (as an index into t->added) that counts, and the plain text s[*gap … *gap_end) before it, which may be
 * empty. At the end QN_TOK_NONE, and the text that is left. */
uint32_t qn_tok_walk_next(qn_tok_walk *w, const qn_tokenizer *t, uint64_t *gap, uint64_t *gap_end);

#endif
