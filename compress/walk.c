/* walk.c: see walk.h. */
#include "compress/walk.h"
#include "base/err.h"

static void begin(qn_walk *w)
{
    if (w->object < w->ix->n_objects)
        qn_object_hash_begin(&w->hasher, &w->ix->objects[w->object]);
}

qn_code qn_walk_open(qn_walk *w, const qn_index *ix,
                     qn_code (*done)(void *ctx, uint64_t object, const qn_digest *digest, qn_err *err), void *ctx,
                     qn_err *err)
{
    *w = (qn_walk){.ix = ix, .done = done, .ctx = ctx};
    QN_TRY(qn_hasher_open(&w->hasher, err));
    begin(w);
    return QN_OK;
}

qn_code qn_walk_to(qn_walk *w, uint64_t object, qn_err *err)
{
    while (w->object < object) {
        const qn_digest d = qn_hasher_digest(&w->hasher);
        const uint64_t finished = w->object++;
        begin(w);
        QN_TRY(w->done(w->ctx, finished, &d, err));
    }
    return QN_OK;
}

qn_code qn_walk_chunk(qn_walk *w, uint64_t object, const qn_digest *raw, qn_err *err)
{
    QN_TRY(qn_walk_to(w, object, err));
    qn_object_hash_chunk(&w->hasher, raw);
    return QN_OK;
}

qn_code qn_walk_end(qn_walk *w, qn_err *err)
{
    return qn_walk_to(w, w->ix->n_objects, err);
}

void qn_walk_release(qn_walk *w)
{
    qn_hasher_close(&w->hasher);
}
