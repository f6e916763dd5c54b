/* lm_cut.h: groups of language models made by hand, models with what goes set to 0, and their logits: what emission is compared with. */
#ifndef QN_TESTS_LM_CUT_H
#define QN_TESTS_LM_CUT_H

#include "analysis/exec/overlay.h"
#include "analysis/groups/cut.h"

typedef struct qt_lm_model {
    qn_source *s;
    qn_graph *g;
} qt_lm_model;
/* Must succeed; qt_lm_close or at exit. */
qt_lm_model qt_lm_open(const char *path);
void qt_lm_close(qt_lm_model *m);

/* No families yet; lives until exit. */
qn_groups *qt_groups_new(const qn_graph *g);
/* A family of n groups: members "weight/axis; other/axis+off,each+off,each; …". Group i holds [off + i · each, off + (i + 1) · each) of the axis for
 * every "+off,each"; without one: off 0 and each = size / n. A "*" in a name stands for `layer`. */
void qt_groups_add(qn_groups *s, const char *kind, uint32_t n, const char *members, unsigned layer);

/* An overlay in which the weights of the groups that go are 0. */
qn_overlay *qt_lm_zeroed(const qn_graph *g, const qn_cut *c);
/* Logits of a graph with changed weights (w NULL: its own), one sequence; lives until exit. */
float *qt_lm_run(const qn_graph *g, qn_overlay *w, const int64_t *tokens, int64_t n_tokens, uint64_t *n);
/* max |a − b| / max |b|. */
double qt_lm_apart(const float *a, const float *b, uint64_t n);
/* The text of a file, NUL-terminated; lives until exit. NULL: there is none. */
const char *qt_text_of(const char *dir, const char *name);

#endif
