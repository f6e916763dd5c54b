/* reader.h: what our own upper layers see of an open .quern beyond the public API: its index, single chunks, the
 * base hook. */
#ifndef QN_RUNTIME_READER_H
#define QN_RUNTIME_READER_H

#include "base/env.h"
#include "quern/runtime.h"
#include "runtime/container.h"

/* Bytes of the base checkpoint: n bytes from byte off of the tensor with this name, dtype and shape;
 * QN_E_INPUT when the base has no such tensor. Thread-safe. */
typedef qn_code (*qn_base_fn)(void *ctx, const qn_index_object *tensor, uint64_t off, uint64_t n, void *dst,
                              qn_err *err);

/* Opens through the seams of env (fs, alloc, cpu), which must outlive the reader. */
qn_code qn_reader_open_env(const qn_env *env, const char *path, qn_reader **out, qn_err *err) QN_MUST_CHECK;
void qn_reader_set_base(qn_reader *r, qn_base_fn fn, void *ctx);

const qn_index *qn_reader_index(const qn_reader *r);
const char *qn_reader_path(const qn_reader *r);

/* Scratch for decoding; one per thread. Zero-initialise, release with the reader's allocator. */
typedef struct qn_worker {
    qn_arena scratch;
    uint8_t *payload, *base; /* grown as needed */
    uint64_t payload_cap, base_cap;
    struct qn_worker *next;
} qn_worker;
void qn_worker_init(qn_worker *w, const qn_alloc *alloc);
void qn_worker_release(qn_worker *w);

/* Decodes chunk i of an object into dst, exactly the bytes of its block; the checksum is verified first. */
qn_code qn_reader_chunk(qn_reader *r, qn_worker *w, uint64_t object, uint64_t i, uint8_t *dst, qn_err *err) QN_MUST_CHECK;
/* The payload of chunk i as it lies, its checksum verified: of the chunk that it is shared with, where it is. The bytes are the worker's, until its
 * next use, or the file's in memory. */
typedef struct qn_payload {
    unsigned codec;
    qn_block block; /* as its decoder is told */
    const uint8_t *bytes;
    size_t n_bytes;
} qn_payload;
qn_code qn_reader_payload(qn_reader *r, qn_worker *w, uint64_t object, uint64_t i, qn_payload *out, qn_err *err) QN_MUST_CHECK;
/* Loads the payload and checks its checksum, without decoding. A shared chunk checks the one it points to. */
qn_code qn_reader_check_payload(qn_reader *r, qn_worker *w, uint64_t object, uint64_t i, qn_err *err) QN_MUST_CHECK;
/* Checks that the bytes between the previous payload and this stored chunk's are zero. */
qn_code qn_reader_check_gap(qn_reader *r, uint64_t chunk, qn_err *err) QN_MUST_CHECK;
/* n bytes of an object (tensor or blob) from byte off. */
qn_code qn_reader_object_bytes(qn_reader *r, uint64_t object, uint64_t off, uint64_t n, uint8_t *dst,
                               qn_err *err) QN_MUST_CHECK;
/* Payload bytes that belong to an object (shared chunks count 0). */
uint64_t qn_index_stored_bytes(const qn_index *ix, uint64_t object);

#endif
