/* npy.h: the numpy array file: magic │ version │ header length │ header: a Python dict as text │ elements.
 *
 * Arrays whose bytes are what a tensor means (little-endian, row-major) are read in place. Big-endian ones and those in
 * Fortran order (first dimension fastest) are put together on demand. */
#ifndef QN_FORMATS_NPZ_NPY_H
#define QN_FORMATS_NPZ_NPY_H

#include "base/alloc.h"
#include "base/shape.h"
#include "formats/registry.h"

enum { QN_NPY_TEXT_MAX = 65536 }; /* header of a plain array: some hundred bytes */

typedef struct qn_npy_head {
    uint64_t dims[QN_RANK_MAX];
    uint64_t head_bytes; /* everything before the elements */
    uint64_t n_elems, n_bytes; /* of the elements          */
    uint8_t dtype, rank;
    bool swapped; /* big-endian, of more than one byte       */
    bool fortran; /* in Fortran order, and that is another one */
} qn_npy_head;

/* n bytes at `off` of the array file, or, for gathering, of its elements. */
typedef qn_code (*qn_npy_read_fn)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);

/* Reads the head, from front to back, of an array file of n_bytes that begins at byte `at` of what errors name
 * (QN_NO_OFFSET: it has no place there). head_bytes + n_bytes may differ from the file's length: the caller judges. */
qn_code qn_npy_read_head(qn_npy_head *h, const qn_alloc *alloc, qn_npy_read_fn read, void *ctx, uint64_t n_bytes,
                         uint64_t at, qn_err *err) QN_MUST_CHECK;

/* Must its bytes be put together? */
static inline bool qn_npy_is_gathered(const qn_npy_head *h)
{
    return h->swapped || h->fortran;
}

/* n bytes at `off` of the array's row-major, little-endian content. `forward`: `read` is slow to go back, so within this call
 * it is only asked for what lies further and further on. */
qn_code qn_npy_gather(const qn_npy_head *h, const qn_alloc *alloc, qn_npy_read_fn read, void *ctx, bool forward, uint64_t off,
                      uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;

extern const qn_format qn_format_npy;

#endif
