/* imatrix.h: statistics from and to the importance matrices of llama.cpp: Σ x² of every column, in either of its two files.
 *
 * GGUF (general.type "imatrix"): tensors NAME.in_sum2, f32 (experts, columns), and NAME.counts, f32 (experts, 1): sums, and
 * rows seen.
 * .dat (before 2025): i32 entries; each i32 length of the name, name, i32 calls, i32 values, f32 values: mean of x² × calls;
 * then, as a rule, i32 last chunk, i32 length, path of the text. Values of several experts stand one after another; the
 * file does not say how many there are.
 *
 * Entries that come in are QN_STATS_DIAG: no H, sums or extremes. */
#ifndef QN_ANALYSIS_STATS_IMATRIX_H
#define QN_ANALYSIS_STATS_IMATRIX_H

#include "analysis/stats/file.h"
#include "analysis/stats/write.h"

typedef struct qn_imatrix_options {
    uint32_t arch;  /* names become (import) or are taken for (export) those of this architecture: a bit of
                     * qn_gguf_arch_bit, or UINT32_MAX: any                                                         */
    bool keep_names; /* names are not translated                                                                     */
    bool overwrite, dry_run;
} qn_imatrix_options;

/* What was done, for the line that tells the user. */
typedef struct qn_imatrix_facts {
    uint64_t n_entries, n_experts; /* tensors; those of them that have experts                 */
    uint64_t n_untranslated;       /* import: names that no row of the table fits: kept        */
    uint64_t n_left_out;           /* export: tensors that have no name in GGUF                */
    uint64_t n_unseen;             /* experts without a row                                    */
    uint64_t n_bytes;              /* of the file written, export only                         */
} qn_imatrix_facts;

/* `path`: either format, known by its first bytes. A value that is NaN, infinite or negative: QN_E_INPUT naming the
 * tensor. */
qn_code qn_imatrix_import(const qn_env *env, const char *path, const char *out_path, const qn_imatrix_options *opt,
                          qn_imatrix_facts *facts, qn_err *err) QN_MUST_CHECK;
/* GGUF when `path` ends with .gguf, .dat when it ends so, else QN_E_USAGE. Tensors are sorted by name. Only names that
 * GGUF has are written; QN_E_UNSUPPORTED when there are none. */
qn_code qn_imatrix_export(const qn_stats_file *f, const char *path, const qn_imatrix_options *opt, qn_imatrix_facts *facts,
                          qn_err *err) QN_MUST_CHECK;

#endif
