/* pattern.h: which tensors a user means, as --tensor says: base/pattern.h has the patterns. */
#ifndef QN_CLI_PATTERN_H
#define QN_CLI_PATTERN_H

#include "cli/cli.h"

typedef struct qn_patterns {
    const qn_texts *texts;
    struct qn_pattern *items; /* one per text               */
    bool *used;               /* the text has matched something */
    const qn_alloc *alloc;
} qn_patterns;

qn_code qn_patterns_open(qn_patterns *p, const qn_alloc *alloc, const qn_texts *texts, qn_err *err) QN_MUST_CHECK;
/* Does any of them match the name? Everything matches when there are none. ctx is the qn_patterns: the shape of the
 * `want` callbacks of surveys and comparisons, which are called from one thread. */
bool qn_patterns_want(void *ctx, const char *name);
/* A pattern that matches nothing is a mistake: QN_E_USAGE, with the nearest name of the sources as the hint. */
qn_code qn_patterns_check(qn_patterns *p, qn_source *const *sources, unsigned n_sources, qn_hint *hint,
                          qn_err *err) QN_MUST_CHECK;
void qn_patterns_release(qn_patterns *p);

#endif
