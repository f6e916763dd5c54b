/* macs.h: multiplications of a node, from shapes: the currency of budgets. */
#ifndef QN_ANALYSIS_GROUPS_MACS_H
#define QN_ANALYSIS_GROUPS_MACS_H

#include "analysis/graph/graph.h"

/* Shape of a value as it is meant; false when it is not known. */
typedef bool (*qn_dims_fn)(const void *ctx, uint32_t value, int64_t dims[QN_ARRAY_RANK_MAX], unsigned *rank);

/* Multiply-adds of products (linear layers, convolutions, matrix products, attention, experts); 0 for everything else. Attention counts the
 * pairs of tokens it looks at as one sequence, half of them when it is causal; experts count top_k of them for each token. */
double qn_node_macs(const qn_node *n, qn_dims_fn dims, const void *ctx);

#endif
