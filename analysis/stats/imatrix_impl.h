/* imatrix_impl.h: what the two readers of importance matrices share; see imatrix.h. */
#ifndef QN_ANALYSIS_STATS_IMATRIX_IMPL_H
#define QN_ANALYSIS_STATS_IMATRIX_IMPL_H

#include "analysis/stats/imatrix.h"

/* Where entries go: a writer, or, in a dry run, nowhere. */
typedef struct qn_imatrix_in {
    const qn_env *env;
    const qn_imatrix_options *opt;
    qn_stats_writer *w; /* NULL: dry run */
    qn_imatrix_facts *facts;
} qn_imatrix_in;

/* One tensor, n_experts × n values and as many counts as experts; 1 expert and `is_moe` false for a dense one. */
qn_code qn_imatrix_take(qn_imatrix_in *in, const char *name, bool is_moe, uint64_t n_experts, uint64_t n, const float *values,
                        const uint64_t *counts, qn_err *err) QN_MUST_CHECK;

/* Does the name say that experts stand in one tensor? */
bool qn_imatrix_is_moe(const char *name);

/* The entries of an opened .dat file. Its meta, of which strings are the arena's; then what it has. */
qn_code qn_imatrix_dat_meta(const qn_env *env, const qn_file *file, uint64_t n_bytes, qn_arena *arena, qn_stats_meta *meta,
                            qn_err *err) QN_MUST_CHECK;
qn_code qn_imatrix_dat_entries(qn_imatrix_in *in, const qn_file *file, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;

#endif
