/* npy_write.h: one tensor of a source, or rows of it, as a numpy .npy file.
 *
 * numpy has no bfloat16, no 8-bit floats and nothing below a byte. These come out as the unsigned integers of
 * their bits (uint16, uint8; packed types and blocks as their bytes), or widened to float32 on request; either is exact. */
#ifndef QN_FORMATS_NPZ_NPY_WRITE_H
#define QN_FORMATS_NPZ_NPY_WRITE_H

#include "formats/source.h"

typedef struct qn_npy_options {
    bool widen;     /* floats of fewer than 32 bits and blocks become float32; others stay */
    bool halve;     /* floats of any width and blocks become float16, rounded to nearest even */
    bool overwrite;
    bool some_rows; /* only rows [first_row, first_row + n_rows) of the outermost dimension   */
    uint64_t first_row, n_rows;
} qn_npy_options;

/* What was written, for the line that tells the user. */
typedef struct qn_npy_written {
    char descr[4];          /* as in the header: "<f4"                                */
    const char *numpy_name; /* "float32"; static storage                              */
    bool as_bits;           /* the values are bit patterns of `dtype`, not its numbers */
    qn_dtype dtype;         /* of the tensor                                          */
    uint64_t dims[QN_RANK_MAX];
    unsigned rank;
    uint64_t n_bytes; /* of the file */
} qn_npy_written;

/* Writes to a temporary name beside `path`, syncs, renames. `opt` and `out` may be NULL. */
qn_code qn_npy_write(qn_source *src, uint64_t tensor, const char *path, const qn_npy_options *opt, qn_npy_written *out,
                     qn_err *err) QN_MUST_CHECK;

/* The bytes of such a file, front to back, for archives: *out is told first (n_bytes with it) when `put` is NULL, and nothing is read then. */
typedef qn_code (*qn_npy_put_fn)(void *ctx, const void *p, uint64_t n, qn_err *err);
qn_code qn_npy_emit(qn_source *src, uint64_t tensor, const qn_npy_options *opt, qn_npy_put_fn put, void *ctx, qn_npy_written *out,
                    qn_err *err) QN_MUST_CHECK;

/* The same of an array in memory: `rank` dimensions, outermost first, of a dtype that numpy has. `name` is for messages. */
qn_code qn_npy_write_array(const qn_env *env, const char *name, qn_dtype dtype, const uint64_t *dims, unsigned rank,
                           const void *values, const char *path, const qn_npy_options *opt, qn_npy_written *out,
                           qn_err *err) QN_MUST_CHECK;
/* Whether the output may be written, without writing it: what qn_npy_write checks first. */
qn_code qn_npy_write_check(const qn_env *env, const char *path, const qn_npy_options *opt, qn_err *err) QN_MUST_CHECK;

#endif
