/* against.h: are two checkpoints the same, bit for bit? Tensors are paired by name, everything else by file and position.
 *
 * Both sides are streamed in pieces with all cores; memory is bounded by the number of workers. */
#ifndef QN_COMPRESS_AGAINST_H
#define QN_COMPRESS_AGAINST_H

#include "formats/source.h"

typedef struct qn_against_report {
    uint64_t n_tensors, n_files; /* compared: present on both sides           */
    uint64_t n_bytes;            /* bytes compared, of each side              */
    uint64_t n_different;        /* tensors and files, missing ones included  */
} qn_against_report;

/* `differs` (NULL: none wanted) is called for each tensor or file that is missing, of another dtype, shape or size, or has other
 * bytes: path, tensor, position within the tensor or file of the first differing byte, and words that call the other side by
 * its path. Always in the same order. QN_E_DIFFERENT when there is any, with the first in *err. */
qn_code qn_against(const qn_env *env, qn_source *left, qn_source *right, void (*differs)(void *ctx, const qn_err *what),
                   void *ctx, qn_against_report *report, qn_err *err) QN_MUST_CHECK;

#endif
