/* regex.h: the patterns of tokenizer files. They are written for Oniguruma (Ruby syntax); here they are translated and matched
 * by PCRE2, compiled to machine code where it can be. Patterns are hostile: what a match may cost is bounded. */
#ifndef QN_ANALYSIS_TOKENIZE_REGEX_H
#define QN_ANALYSIS_TOKENIZE_REGEX_H

#include "analysis/tokenize/tokenizer_impl.h"

enum { QN_TOK_PATTERN_MAX = 1 << 16 }; /* bytes of a pattern */

typedef struct qn_tok_regex qn_tok_regex;

/* QN_E_UNSUPPORTED: a construct that is not translated, named; QN_E_INPUT: no regular expression. */
qn_code qn_tok_regex_open(const qn_alloc *a, const char *pattern, uint64_t n, qn_tok_regex **out, qn_err *err) QN_MUST_CHECK;
void qn_tok_regex_close(qn_tok_regex *r); /* NULL is fine */

/* One user of a pattern at a time: zero it, close it. */
typedef struct qn_tok_matcher {
    const qn_tok_regex *re;
    void *data, *context, *stack;
} qn_tok_matcher;
qn_code qn_tok_matcher_open(qn_tok_matcher *m, const qn_tok_regex *re, qn_err *err) QN_MUST_CHECK;
void qn_tok_matcher_close(qn_tok_matcher *m);
/* The first non-empty match in p[from … n): *begin < *end, or *begin = *end = n when there is none. Valid UTF-8 only. */
qn_code qn_tok_matcher_find(qn_tok_matcher *m, const char *p, uint64_t n, uint64_t from, uint64_t *begin, uint64_t *end,
                            qn_err *err) QN_MUST_CHECK;

/* Names of scripts: long, and of four letters; ends with NULLs. In scripts_tab.c. */
extern const char *const qn_tok_scripts[][2];

/* Appends the pattern in PCRE2's words (UTF, UCP, MULTILINE). In regex_translate.c. */
qn_code qn_tok_regex_translate(const char *pattern, uint64_t n, qn_tok_buf *out, qn_err *err) QN_MUST_CHECK;

#endif
