/* array.h: what flows along a graph: a dense, contiguous, row-major array.
 *
 * (A tensor is what a checkpoint holds.) Data are shared, never written once an operator has returned it, except by an operator that holds the only reference.
 * dtypes that occur: F32, F64, I64, I32, I8, U8, I16, U16, U32, U64, BOOL (one byte, 0 or 1). Weights in narrower floats are
 * widened when they are loaded. Memory is counted against the pool's limit. */
#ifndef QN_ANALYSIS_EXEC_ARRAY_H
#define QN_ANALYSIS_EXEC_ARRAY_H

#include "base/alloc.h"
#include "base/shape.h"
#include <stdatomic.h>

enum { QN_ARRAY_RANK_MAX = 8 };

/* Where tensors' memory comes from. */
typedef struct qn_pool {
    const qn_alloc *alloc;
    uint64_t limit_bytes;        /* 0: none; past it QN_E_MEMORY */
    atomic_uint_fast64_t held_bytes, peak_bytes;
} qn_pool;

typedef struct qn_buffer {
    qn_pool *pool;
    uint64_t n_bytes;
    atomic_uint refs;
    void *data;
} qn_buffer;

typedef struct qn_array {
    void *data;
    qn_buffer *buffer; /* NULL: data are the owner's (a constant of the graph, a caller's array) */
    uint64_t n;        /* elements */
    int64_t dims[QN_ARRAY_RANK_MAX];
    uint8_t dtype, rank; /* dtype BYTES: no tensor (an optional input that is left out) */
} qn_array;

/* Uninitialised room for that shape. QN_E_INPUT for dims that are negative or whose product overflows, or rank past the
 * maximum (all may come from a file). */
qn_code qn_array_new(qn_pool *p, qn_array *t, qn_dtype dtype, const int64_t *dims, unsigned rank, qn_err *err) QN_MUST_CHECK;
/* A second reference to the same data under another shape of as many elements; *dst is overwritten. */
qn_code qn_array_view(const qn_array *src, qn_array *dst, const int64_t *dims, unsigned rank, qn_err *err) QN_MUST_CHECK;
/* A second reference. */
void qn_array_share(const qn_array *src, qn_array *dst);
/* Gives the reference back and empties *t. */
void qn_array_release(qn_array *t);
/* Describes data that somebody else owns. */
qn_code qn_array_wrap(qn_array *t, qn_dtype dtype, const int64_t *dims, unsigned rank, void *data, qn_err *err) QN_MUST_CHECK;
bool qn_array_is_only(const qn_array *t); /* the one reference: may be written in place */
uint64_t qn_array_bytes(const qn_array *t);
/* "f32 (2, 3)" for messages. */
const char *qn_array_text(const qn_array *t, char buf[128]);
/* A scalar or one-element tensor of any integer type. */
qn_code qn_array_int(const qn_array *t, int64_t *v, qn_err *err) QN_MUST_CHECK;

#endif
