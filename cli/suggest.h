/* suggest.h: the nearest of several words, for "did you mean". */
#ifndef QN_CLI_SUGGEST_H
#define QN_CLI_SUGGEST_H

#include <stddef.h>

typedef struct qn_suggest {
    const char *word;
    size_t n;
    const char *best; /* NULL when nothing is near enough */
    unsigned distance;
} qn_suggest;

qn_suggest qn_suggest_for(const char *word, size_t n);
void qn_suggest_try(qn_suggest *s, const char *candidate);

#endif
