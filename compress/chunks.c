/* chunks.c: see chunks.h. */
#include "compress/chunks.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

static uint64_t n_chunks_of(const qn_index_object *o)
{
    return o->n_bytes ? qn_ceil_div(o->n_bytes / qn_unit_bytes((qn_dtype)o->dtype), o->chunk_units) : 0;
}

qn_code qn_chunks_plan(qn_index *ix, qn_arena *arena, const qn_source *src, qn_err *err)
{
    return qn_chunks_plan_cut(ix, arena, src, NULL, NULL, err);
}

qn_code qn_chunks_plan_cut(qn_index *ix, qn_arena *arena, const qn_source *src,
                           uint32_t (*units)(const void *ctx, uint64_t object), const void *ctx, qn_err *err)
{
    *ix = (qn_index){.n_files = src->n_files,
                     .n_objects = src->n_objects,
                     .n_tensors = src->n_tensor_objects,
                     .is_dir = src->is_dir};
    ix->files = qn_arena_get(arena, ix->n_files * sizeof *ix->files, 8, err);
    ix->objects = qn_arena_get(arena, (ix->n_objects + 1) * sizeof *ix->objects, 8, err);
    if (!ix->files || !ix->objects)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < ix->n_files; i++)
        ix->files[i] = (qn_index_file){.path = src->files[i].path,
                                       .n_bytes = src->files[i].n_bytes,
                                       .first_object = src->files[i].first_object,
                                       .n_objects = src->files[i].n_objects};
    for (uint64_t i = 0; i < ix->n_objects; i++) {
        const qn_object *s = &src->objects[i];
        qn_index_object *o = &ix->objects[i];
        *o = (qn_index_object){.name = s->name,
                               .dims = s->dims,
                               .n_bytes = s->n_bytes,
                               .off = s->off,
                               .first_chunk = ix->n_chunks,
                               .file = s->file,
                               .is_tensor = s->kind == QN_OBJECT_TENSOR,
                               .dtype = s->dtype,
                               .rank = s->rank};
        const uint32_t cut = units ? units(ctx, i) : 0;
        o->chunk_units = cut ? cut : qn_chunk_units((qn_dtype)o->dtype, o->dims, o->rank, o->n_bytes);
        ix->n_chunks += n_chunks_of(o);
    }
    ix->objects[ix->n_objects] = (qn_index_object){.name = "", .first_chunk = ix->n_chunks};
    ix->chunks = qn_arena_get(arena, ix->n_chunks * sizeof *ix->chunks, 8, err);
    if (!ix->chunks)
        return QN_E_MEMORY;
    memset(ix->chunks, 0, ix->n_chunks * sizeof *ix->chunks);
    return QN_OK;
}

qn_code qn_chunks_plan_tensors(qn_index *ix, qn_arena *arena, const qn_source *src, qn_err *err)
{
    *ix = (qn_index){.n_objects = src->n_tensors, .n_tensors = src->n_tensors};
    ix->objects = qn_arena_get(arena, (ix->n_objects + 1) * sizeof *ix->objects, 8, err);
    if (!ix->objects)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < ix->n_objects; i++) {
        const qn_source_tensor *t = &src->tensors[i];
        qn_index_object *o = &ix->objects[i];
        *o = (qn_index_object){.name = t->name,
                               .dims = t->dims,
                               .n_bytes = t->n_bytes,
                               .first_chunk = ix->n_chunks,
                               .is_tensor = true,
                               .dtype = t->dtype,
                               .rank = t->rank};
        o->chunk_units = qn_chunk_units((qn_dtype)o->dtype, o->dims, o->rank, o->n_bytes);
        ix->n_chunks += n_chunks_of(o);
    }
    ix->objects[ix->n_objects] = (qn_index_object){.name = "", .first_chunk = ix->n_chunks};
    return QN_OK;
}

static void fold(qn_digest *d, const void *p, size_t n)
{
    uint8_t both[32];
    const qn_digest h = qn_hash128(p, n);
    memcpy(both, d->b, 16);
    memcpy(both + 16, h.b, 16);
    *d = qn_hash128(both, sizeof both);
}

qn_digest qn_chunks_digest(const qn_index *ix)
{
    qn_digest d = {{ix->is_dir}};
    for (uint64_t i = 0; i < ix->n_files; i++) {
        fold(&d, ix->files[i].path, strlen(ix->files[i].path));
        fold(&d, &ix->files[i].n_objects, sizeof ix->files[i].n_objects);
    }
    for (uint64_t i = 0; i < ix->n_objects; i++) {
        const qn_index_object *o = &ix->objects[i];
        const uint64_t facts[4] = {o->is_tensor, o->dtype, o->n_bytes, o->chunk_units};
        fold(&d, o->name, strlen(o->name));
        fold(&d, o->dims, o->rank * sizeof *o->dims);
        fold(&d, facts, sizeof facts);
    }
    return d;
}

uint64_t qn_chunks_max_bytes(const qn_index *ix)
{
    uint64_t max = 1;
    for (uint64_t i = 0; i < ix->n_objects; i++)
        max = qn_max_u64(max, (uint64_t)ix->objects[i].chunk_units * qn_unit_bytes((qn_dtype)ix->objects[i].dtype));
    return max;
}

qn_code qn_chunks_workers(const qn_env *env, uint64_t n_tasks, uint64_t fixed_bytes, uint64_t each_bytes, unsigned *n,
                          qn_err *err)
{
    const uint64_t limit = env->memory_bytes;
    *n = (unsigned)qn_min_u64(env->n_threads, qn_max_u64(1, n_tasks));
    if (limit == 0 || each_bytes == 0)
        return QN_OK;
    if (limit < fixed_bytes || limit - fixed_bytes < each_bytes)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "memory limit of %llu MiB: at least %llu MiB are needed",
                       (unsigned long long)(limit >> 20), (unsigned long long)((fixed_bytes + each_bytes) >> 20) + 1);
    *n = (unsigned)qn_min_u64(*n, (limit - fixed_bytes) / each_bytes);
    return QN_OK;
}
