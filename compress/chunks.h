/* chunks.h: the list of work of a lossless run: a source's objects cut into chunks, as an index in the making. */
#ifndef QN_COMPRESS_CHUNKS_H
#define QN_COMPRESS_CHUNKS_H

#include "formats/source.h"
#include "runtime/container.h"

/* Fills ix->files, objects (chunk_units, first_chunk; digests still zero) and an empty table of n_chunks chunks.
 * Memory from `arena`. Names, dims and paths are borrowed from the source. */
qn_code qn_chunks_plan(qn_index *ix, qn_arena *arena, const qn_source *src, qn_err *err) QN_MUST_CHECK;

/* The same, with `units` deciding how many units a chunk of an object has (0: as usual). */
qn_code qn_chunks_plan_cut(qn_index *ix, qn_arena *arena, const qn_source *src,
                           uint32_t (*units)(const void *ctx, uint64_t object), const void *ctx, qn_err *err) QN_MUST_CHECK;

/* The same cut for the tensors of the source, one object each, for runs that only look: no files, no chunk table. */
qn_code qn_chunks_plan_tensors(qn_index *ix, qn_arena *arena, const qn_source *src, qn_err *err) QN_MUST_CHECK;

/* Digest of what decides the list of chunks: names, dtypes, shapes, sizes, files. */
qn_digest qn_chunks_digest(const qn_index *ix);

/* Largest chunk of the list in bytes. */
uint64_t qn_chunks_max_bytes(const qn_index *ix);

/* What a reader of packed chunks holds for one worker, in largest chunks: payload, base, and decoders' scratch. */
#define QN_READ_CHUNKS 5

/* Workers for n_tasks (≥ 1) when each holds `each_bytes` and all share `fixed_bytes`: as many as threads and the memory
 * limit allow. QN_E_MEMORY when the limit does not hold even one. */
qn_code qn_chunks_workers(const qn_env *env, uint64_t n_tasks, uint64_t fixed_bytes, uint64_t each_bytes, unsigned *n,
                          qn_err *err) QN_MUST_CHECK;

/* A run of chunks in task order: which chunk of which object is task t. */
static inline void qn_chunks_locate(const qn_index *ix, uint64_t chunk, uint64_t *object, uint64_t *i)
{
    *object = qn_index_object_of(ix, chunk);
    *i = chunk - ix->objects[*object].first_chunk;
}

#endif
