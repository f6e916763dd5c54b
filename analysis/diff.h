/* diff.h: what is different between two checkpoints of any readable formats, and by how much.
 *
 * Tensors are matched by name. Equal means equal name, dtype, shape and bits. Where the shapes are equal and the bits or
 * the dtypes are not, the error of B as an approximation of A is measured in f64.
 *
 * Files without tensors (config, tokenizer, …) are matched by path and compared byte for byte, when both sides are
 * folders. The bytes around the tensors of a file (its header) are compared where both sides list the same tensors in
 * a file of the same kind; metadata or order is then what differs. */
#ifndef QN_ANALYSIS_DIFF_H
#define QN_ANALYSIS_DIFF_H

#include "analysis/errsum.h"
#include "formats/source.h"
#include <math.h>

/* Limits under which differing values still count as the same. An infinity of the right sign is no limit. A NaN or Inf
 * in only one of the two never passes. */
typedef struct qn_tolerance {
    double max_abs, max_rel_rms; /* no more than; HUGE_VAL: any       */
    double min_cosine, min_sqnr_db; /* no less than; −HUGE_VAL: any   */
} qn_tolerance;

#define QN_TOLERANCE_ANY \
    ((qn_tolerance){.max_abs = HUGE_VAL, .max_rel_rms = HUGE_VAL, .min_cosine = -HUGE_VAL, .min_sqnr_db = -HUGE_VAL})

typedef struct qn_diff_options {
    const qn_tolerance *tolerance; /* NULL: bits and dtypes must be equal         */
    bool tensors_only;             /* files and headers do not matter             */
    bool (*want)(void *ctx, const char *tensor); /* NULL: all tensors             */
    void *want_ctx;
} qn_diff_options;

typedef enum qn_diff_status {
    QN_DIFF_EQUAL = 0,
    QN_DIFF_VALUES, /* same dtype and shape, other bits (tensors); other bytes (files)      */
    QN_DIFF_DTYPE,  /* same shape, other dtype                                              */
    QN_DIFF_SHAPE,
    QN_DIFF_ONLY_A,
    QN_DIFF_ONLY_B,
    QN_DIFF_HEADER, /* files: the same tensors, other bytes around them                     */
    QN_DIFF_STATUS_COUNT
} qn_diff_status;

typedef struct qn_diff_row {
    const char *name;  /* borrowed from the sources */
    uint64_t a, b;     /* tensors; UINT64_MAX where there is none */
    qn_diff_status status;
    bool within;       /* equal, or inside the tolerance                                        */
    bool measured;     /* `e` holds sums; not for equal tensors and dtypes without a number in them */
    /* Values (a C64 is two) that differ: in their bits for equal dtypes, so that −0 is not 0 and NaN is not another
     * NaN; else as numbers. Packed F6 is counted in bytes. */
    uint64_t n_differing;
    uint64_t first_differing; /* index of the first such element, UINT64_MAX if there is none */
    qn_errsum e;
} qn_diff_row;

typedef struct qn_diff_file {
    const char *path;
    qn_diff_status status; /* never DTYPE or SHAPE */
    uint64_t a_bytes, b_bytes;
} qn_diff_file;

typedef struct qn_diff {
    bool different; /* the verdict */
    uint64_t n_rows, n_files;
    qn_diff_row *rows;   /* tensors of A in its order, then those only in B in its order */
    qn_diff_file *files;
    uint64_t n_by_status[QN_DIFF_STATUS_COUNT]; /* of tensors */
    uint64_t n_files_differing;
    uint64_t n_within; /* differing but inside the tolerance */
    qn_errsum total;   /* over all measured tensors; its max_abs_at means nothing */
} qn_diff;

qn_code qn_diff_run(const qn_env *env, qn_source *a, qn_source *b, const qn_diff_options *opt, qn_diff *out,
                    qn_err *err) QN_MUST_CHECK;
void qn_diff_release(const qn_env *env, qn_diff *d);

#endif
