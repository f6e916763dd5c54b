/* ffn_sort.h: the channels of feed-forward layers in the order of their importance. Nothing that the model computes changes, and any first part of
 * the channels is then a smaller model inside it, whose width a runtime can choose when it loads (MatFormer, Devvrit et al. 2023). */
#ifndef QN_COMPRESS_PRUNE_FFN_SORT_H
#define QN_COMPRESS_PRUNE_FFN_SORT_H

#include "analysis/exec/overlay.h"
#include "analysis/groups/groups.h"

/* Is the family the width of a language model's feed-forward layer (experts' and shared experts' included)? */
qn_code qn_ffn_sort_can(const qn_groups *s, uint8_t *can /* n_families */, qn_err *err) QN_MUST_CHECK;
/* Puts group order[k] of the family at place k, in all its weights. order: a permutation of its n_groups. */
qn_code qn_ffn_sort(const qn_groups *s, uint32_t family, const uint32_t *order, qn_overlay *w, qn_err *err) QN_MUST_CHECK;
/* The same for all that can. going[f]: the family's groups as they would go, the least important first (qn_curves.order); NULL: left as it is. */
qn_code qn_ffn_sort_all(const qn_groups *s, const uint32_t *const *going, qn_overlay *w, uint32_t *n_sorted, qn_err *err) QN_MUST_CHECK;

#endif
