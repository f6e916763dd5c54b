/* spread.h: more bits where an error costs the model more, fewer where it costs less.
 *
 * With s the sensitivity of a weight matrix (divergence per relative error of its layer's output; analysis/calibrate/sensitivity.h), n its weights
 * and t² the relative error that it has at the same bits as all others, Σ s t² 4^(−more) is least for a given Σ n·more when
 *     more = ½ log2(s t² / n) − mean
 * (equal slopes; the mean is over weights). That holds for small errors; at low rates sensitivities say less, so only a share of it, the
 * recipe's `spread`, is used, and no more than a part of the bits that there are, either way. */
#ifndef QN_COMPRESS_SPREAD_H
#define QN_COMPRESS_SPREAD_H

#include "compress/lossy.h"

#define QN_SPREAD_MOST 0.2

/* Does the recipe ask for it, and do the statistics (NULL: none) hold a sensitivity? */
bool qn_spread_applies(const qn_recipe *r, const qn_stats_file *stats);

/* *more: bits to add, by object of the source, from `arena`; zero where nothing is known. `measured` has packed the whole model at
 * equal bits (the errors are its report's). */
qn_code qn_spread_find(const qn_lossy *measured, const qn_source *src, const qn_stats_file *stats, double share, qn_arena *arena,
                       const double **more, qn_err *err) QN_MUST_CHECK;

#endif
