/* walk.h: turns chunks that arrive in order into object digests; shared by packing, unpacking and verifying. */
#ifndef QN_COMPRESS_WALK_H
#define QN_COMPRESS_WALK_H

#include "runtime/container.h"

typedef struct qn_walk {
    const qn_index *ix;
    /* An object is complete; objects without chunks included. */
    qn_code (*done)(void *ctx, uint64_t object, const qn_digest *digest, qn_err *err);
    void *ctx;
    qn_hasher hasher;
    uint64_t object; /* the one being hashed; n_objects at the end */
} qn_walk;

qn_code qn_walk_open(qn_walk *w, const qn_index *ix,
                     qn_code (*done)(void *ctx, uint64_t object, const qn_digest *digest, qn_err *err), void *ctx,
                     qn_err *err) QN_MUST_CHECK;
/* Completes the objects before this one. */
qn_code qn_walk_to(qn_walk *w, uint64_t object, qn_err *err) QN_MUST_CHECK;
/* The next chunk of `object`, after qn_walk_to. */
qn_code qn_walk_chunk(qn_walk *w, uint64_t object, const qn_digest *raw, qn_err *err) QN_MUST_CHECK;
/* Completes whatever is left. */
qn_code qn_walk_end(qn_walk *w, qn_err *err) QN_MUST_CHECK;
void qn_walk_release(qn_walk *w);

#endif
