/* knapsack.h: one level for each item, so that the losses add up to as little as possible while the savings reach a target. */
#ifndef QN_COMPRESS_PRUNE_KNAPSACK_H
#define QN_COMPRESS_PRUNE_KNAPSACK_H

#include "base/alloc.h"

enum { QN_KNAPSACK_LEVELS = 32 };

typedef struct qn_knapsack_item {
    uint32_t n_levels;                  /* 1 … QN_KNAPSACK_LEVELS; level 0 saves nothing and loses nothing */
    double loss[QN_KNAPSACK_LEVELS];    /* +∞: not to be taken                                             */
    double saving[QN_KNAPSACK_LEVELS];  /* ≥ 0                                                             */
} qn_knapsack_item;

/* Dynamic programming over the saving, cut into 8192 parts of the target; savings are rounded down to parts, so the target is reached for certain, and
 * the result is the best there is when savings and target are whole multiples of a part. *possible false: even the largest savings are
 * not enough (after rounding); level then has them. level: n_items. */
qn_code qn_knapsack(const qn_alloc *alloc, const qn_knapsack_item *items, uint32_t n_items, double target, uint8_t *level, bool *possible,
                    qn_err *err) QN_MUST_CHECK;

#endif
