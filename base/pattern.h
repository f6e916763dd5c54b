/* pattern.h: names that a user means: a glob (* ? [ab], * also matches dots), or a regular expression (POSIX extended) after "re:". */
#ifndef QN_BASE_PATTERN_H
#define QN_BASE_PATTERN_H

#include "base/alloc.h"
#include <regex.h>

typedef struct qn_pattern {
    const char *text; /* borrowed */
    bool is_regex;
    regex_t regex;
} qn_pattern;

/* QN_E_USAGE for an expression that is none, with the reason. */
qn_code qn_pattern_open(qn_pattern *p, const char *text, qn_err *err) QN_MUST_CHECK;
bool qn_pattern_match(const qn_pattern *p, const char *name);
/* Of an opened one, or of a zeroed one. */
void qn_pattern_close(qn_pattern *p);

#endif
