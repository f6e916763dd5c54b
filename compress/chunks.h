/* chunks.h: the list of work of a lossless run: a source's objects cut into chunks, as an index in the making. */
#ifndef QN_COMPRESS_CHUNKS_H
#define QN_COMPRESS_CHUNKS_H

#include "formats/source.h"
#include "runtime/container.h"

/* Fills ix->files, objects (chunk_units, first_chunk; digests still zero) and an empty table of n_chunks chunks.
 * Memory from `arena`. Names, dims and paths are borrowed from the source. */
qn_code qn_chunks_plan(qn_index *ix, qn_arena *arena, const qn_source *src, qn_err *err) QN_MUST_CHECK;

/* Digest of what decides the list of chunks: names, dtypes, shapes, sizes, files. */
qn_digest qn_chunks_digest(const qn_index *ix);

/* Largest chunk of the list in bytes. */
uint64_t qn_chunks_max_bytes(const qn_index *ix);

/* How many workers may decode these chunks at once: threads, chunks and the memory limit allow it; ≥ 1. */
unsigned qn_chunks_decoders(const qn_env *env, const qn_index *ix);

/* A run of chunks in task order: which chunk of which object is task t. */
static inline void qn_chunks_locate(const qn_index *ix, uint64_t chunk, uint64_t *object, uint64_t *i)
{
    *object = qn_index_object_of(ix, chunk);
    *i = chunk - ix->objects[*object].first_chunk;
}

#endif
