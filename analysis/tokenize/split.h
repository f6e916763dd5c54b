/* split.h: cutting strings at what a pattern matches, and what becomes of the matches. */
#ifndef QN_ANALYSIS_TOKENIZE_SPLIT_H
#define QN_ANALYSIS_TOKENIZE_SPLIT_H

#include "analysis/tokenize/regex.h"
#include "analysis/tokenize/tokenizer_json.h"

typedef enum qn_tok_behavior {
    QN_SPLIT_REMOVED,             /* matches are dropped                                   */
    QN_SPLIT_ISOLATED,            /* each match is a string of its own                     */
    QN_SPLIT_MERGED_WITH_PREVIOUS, /* the first match after other text belongs to that text */
    QN_SPLIT_MERGED_WITH_NEXT,    /* the last match before other text belongs to that text */
    QN_SPLIT_CONTIGUOUS           /* matches that touch are one string                     */
} qn_tok_behavior;

/* What is matched: one of these. */
typedef struct qn_tok_pattern {
    qn_tok_regex *re;          /* owned by whoever made it                      */
    const char *literal;       /* n_literal > 0 bytes                           */
    uint64_t n_literal;
    bool (*is)(uint32_t c, uint32_t arg); /* matches are single characters      */
    uint32_t arg;
} qn_tok_pattern;

/* Reads {"String": …} or {"Regex": …}; strings come into the tokenizer's arena, re is to be closed by the caller. */
qn_code qn_tok_pattern_read(qn_tokenizer *t, const qn_tok_node *node, qn_tok_pattern *out, qn_err *err) QN_MUST_CHECK;
/* The first match at or after `from`, as qn_tok_matcher_find. m: opened for p->re when there is one. */
qn_code qn_tok_pattern_find(const qn_tok_pattern *p, qn_tok_matcher *m, const char *s, uint64_t n, uint64_t from,
                            uint64_t *begin, uint64_t *end, qn_err *err) QN_MUST_CHECK;

/* Adds a step that cuts; takes over p->re, also on failure. */
qn_code qn_tok_add_split(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_pattern *p, qn_tok_behavior behavior, bool invert,
                         qn_err *err) QN_MUST_CHECK;

/* The pattern of GPT-2, which ByteLevel cuts by. */
extern const char qn_tok_gpt2_pattern[];

#endif
