/* wish.h: what a user asks pruning for, from options or from the key `prune` of a recipe:
 *
 *     prune: {ratio: 0.3, by: params, allocate: curves, keep: ["*.layers.0.*"]}
 *
 * Names of choices stand in one place, for both. */
#ifndef QN_COMPRESS_PRUNE_WISH_H
#define QN_COMPRESS_PRUNE_WISH_H

#include "compress/prune/allocate.h"

enum { QN_PRUNE_KEEP_MAX = 64 };

typedef struct qn_prune_wish {
    double ratio;            /* share that goes; 0: no group goes                */
    double most, ridge, rate; /* 0: the defaults                                  */
    unsigned by, allocate, saliency; /* qn_budget_unit, qn_allocation, qn_saliency */
    uint32_t multiple, recover, generations, seed; /* recover: steps; 0: none     */
    uint32_t drop_layers, drop_experts;
    bool no_refit, gradual, inexact, inner, per_layer, any_heads, at_most;
    const char *keep[QN_PRUNE_KEEP_MAX]; /* borrowed */
    unsigned n_keep;
} qn_prune_wish;

/* params, curves, obs */
#define QN_PRUNE_WISH_NONE ((qn_prune_wish){.by = QN_BUDGET_PARAMS, .allocate = QN_ALLOCATE_CURVES, .saliency = QN_SALIENCY_OBS})

/* Ended by NULL; positions are those of the enums. */
extern const char *const qn_prune_units[], *const qn_prune_methods[], *const qn_prune_saliencies[], *const qn_prune_layouts[];

/* One key of a recipe; `keep` may come several times (value borrowed). QN_E_USAGE: unknown, or not allowed. */
qn_code qn_prune_wish_put(qn_prune_wish *w, const char *key, const char *value, qn_err *err) QN_MUST_CHECK;
/* Is anything pruned? */
bool qn_prune_wish_any(const qn_prune_wish *w);
/* Contradictions, values out of range. */
qn_code qn_prune_wish_check(const qn_prune_wish *w, qn_err *err) QN_MUST_CHECK;
/* "prune 0.3 of params, curves, obs", for provenance; returns the bytes that it takes, as snprintf. */
size_t qn_prune_wish_text(const qn_prune_wish *w, char *buf, size_t n_bytes);

#endif
