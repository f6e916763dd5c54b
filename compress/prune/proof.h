/* proof.h: does the written model compute what the one with zeros in place of the cut groups computes? */
#ifndef QN_COMPRESS_PRUNE_PROOF_H
#define QN_COMPRESS_PRUNE_PROOF_H

#include "analysis/calibrate/calibrate.h"
#include "analysis/exec/overlay.h"
#include "compress/prune/depth.h"

typedef struct qn_proof {
    double largest;  /* max |sliced − zeroed| ÷ max |zeroed|, over the outputs, each for itself over all runs; the worst output */
    double change;   /* the same of zeroed − dense: 0 would mean that nothing was cut                                        */
    const char *output; /* the worst one; borrowed from the graph                                                            */
    uint64_t n_runs;
} qn_proof;

/* `sliced` NULL: the zeroed model against itself with every weight moved by about its last bit: how far rounding alone moves the outputs. Sums that are
 * shorter are rounded otherwise; some models (a softmax over thousands, a square root at 0) make much of that. */
/* g with w and without the mask's experts (NULL: none go): the zeroed model; `sliced`: the graph of what was written, with inputs and outputs of the same number and shapes. */
qn_code qn_prune_proof(const qn_env *env, const qn_graph *g, const qn_overlay *w, const qn_graph *sliced, qn_depth_mask *mask, const qn_calibrate_feed *feed,
                       uint64_t n_runs, uint64_t memory_bytes, qn_proof *out, qn_err *err) QN_MUST_CHECK;

#endif
