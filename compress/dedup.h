/* dedup.h: finds an earlier chunk with the same raw bytes (tied weights, repeated layers, zeros).
 * The digest only nominates: the packer compares the bytes before it shares a chunk. */
#ifndef QN_COMPRESS_DEDUP_H
#define QN_COMPRESS_DEDUP_H

#include "base/alloc.h"
#include "base/hash.h"

typedef struct qn_dedup {
    const qn_alloc *alloc;
    struct qn_dedup_slot *slots;
    uint64_t mask;
} qn_dedup;

/* Room for n_chunks. */
qn_code qn_dedup_open(qn_dedup *d, const qn_alloc *alloc, uint64_t n_chunks, qn_err *err) QN_MUST_CHECK;
/* The first chunk added under this digest, or UINT64_MAX. */
uint64_t qn_dedup_find(const qn_dedup *d, const qn_digest *digest);
/* Adds a chunk; a digest that is there already keeps its first chunk. */
void qn_dedup_add(qn_dedup *d, const qn_digest *digest, uint64_t chunk);
void qn_dedup_release(qn_dedup *d);

#endif
