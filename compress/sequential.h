/* sequential.h: statistics of inputs as a model sees them whose earlier blocks are compressed already.
 *
 * Goes along with a calibration (analysis/calibrate): after each block its weights are approximated with what was just measured, the block
 * is run once more with them, and the next block is measured on what comes out. What a block's weights become follows from the recipe and the
 * statistics alone, so that packing the model later, with the same recipe and the statistics written here, gives those very weights.
 * Within a block all inputs are measured before any of its weights changes. A tensor that is both embedding and head is
 * approximated without statistics when it is the embedding: those of the head come last. */
#ifndef QN_COMPRESS_SEQUENTIAL_H
#define QN_COMPRESS_SEQUENTIAL_H

#include "analysis/calibrate/calibrate.h"
#include "compress/recipe.h"

typedef struct qn_sequential qn_sequential;

/* The recipe has bits; it, graph and source must outlive it. model: the source's digest. */
qn_code qn_sequential_open(qn_sequential **out, const qn_env *env, qn_source *src, const qn_graph *g, qn_recipe *recipe, const qn_digest *model,
                           qn_err *err) QN_MUST_CHECK;
void qn_sequential_close(qn_sequential *s); /* NULL is fine */
/* Puts itself into the options: read, on_block and weights. */
void qn_sequential_join(qn_sequential *s, qn_calibrate_options *o);
/* The recipe in one line. */
const char *qn_sequential_recipe(const qn_sequential *s);

#endif
