/* repeat.h: blocks that are alike: a deep model is shown once per kind of layer. */
#ifndef QN_ANALYSIS_GRAPH_REPEAT_H
#define QN_ANALYSIS_GRAPH_REPEAT_H

#include "analysis/graph/graph.h"

/* leader[b], n_blocks of them: the first block of the run of like blocks that b belongs to (b itself when it begins one). Alike: the
 * same operators with the same attributes in the same order, operands of the same kinds and shapes, wired in the same way. */
void qn_graph_repeats(const qn_graph *g, uint32_t *leader);

#endif
