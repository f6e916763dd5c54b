/* hash.h: XXH3 (libxxhash) under our own names. Checksums detect accidents; they do not authenticate. */
#ifndef QN_BASE_HASH_H
#define QN_BASE_HASH_H

#include "quern/base.h"

typedef struct qn_digest {
    uint8_t b[16]; /* XXH3-128, canonical (big-endian) form */
} qn_digest;

uint64_t qn_hash64(const void *p, size_t n_bytes);
/* For tables in memory only: see names.h. */
uint64_t qn_hash64_keyed(const void *p, size_t n_bytes, uint64_t key);
qn_digest qn_hash128(const void *p, size_t n_bytes);
bool qn_digest_equal(const qn_digest *a, const qn_digest *b);
/* 32 lower-case hex digits and a NUL. */
void qn_digest_hex(const qn_digest *d, char out[33]);

/* Streaming XXH3-128. */
typedef struct qn_hasher {
    void *state; /* owned */
} qn_hasher;
qn_code qn_hasher_open(qn_hasher *h, qn_err *err) QN_MUST_CHECK;
void qn_hasher_add(qn_hasher *h, const void *p, size_t n_bytes);
qn_digest qn_hasher_digest(const qn_hasher *h);
void qn_hasher_reset(qn_hasher *h);
void qn_hasher_close(qn_hasher *h); /* a zeroed hasher is fine */

#endif
