/* tally_impl.h: the half of a tally that looks at bits, for tally.c and tally_bits.c only. */
#ifndef QN_ANALYSIS_TALLY_IMPL_H
#define QN_ANALYSIS_TALLY_IMPL_H

#include "analysis/tally.h"

void qn_tally_bits(qn_tally *t, const uint8_t *p, uint64_t n_bytes);
void qn_tally_merge_bits(qn_tally *t, const qn_tally *piece);
void qn_tally_finish_bits(const qn_tally *t, qn_tensor_stats *out);

#endif
