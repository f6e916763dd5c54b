/* merge.h: several statistics of one model → one.
 *
 * Counts, H and sums add, extremes combine, the lists of data are joined. The files are added in an order that follows from
 * what they hold (their data's digests), so the result does not depend on the order in which they are named; H is added in
 * f64 and rounded to f32 once, so it differs from one long run by at most one rounding of each part, 2^−24 of its value. */
#ifndef QN_ANALYSIS_STATS_MERGE_H
#define QN_ANALYSIS_STATS_MERGE_H

#include "analysis/stats/file.h"
#include "analysis/stats/write.h"

/* Merges n opened files into a new one at `path`. QN_E_INPUT, naming the file: another model or tokenizer, an input that is of
 * another width, has other names, or lacks what the first has; a run that has not ended; the same data twice (same digest
 * and not zero). An input that only some files have is taken from those. dry_run: everything is checked, nothing written. */
qn_code qn_stats_merge(const qn_env *env, const char *path, qn_stats_file *const *files, uint32_t n, bool overwrite,
                       bool dry_run, qn_err *err) QN_MUST_CHECK;

/* Appends all inputs of f, but not their sensitivities. */
qn_code qn_stats_copy(const qn_env *env, const qn_stats_file *f, qn_stats_writer *w, qn_err *err) QN_MUST_CHECK;

#endif
