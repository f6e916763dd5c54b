/* source.c (quern): lists the objects of the index as source objects and reads through the runtime's reader. */
#include "formats/quern/source.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/dfloat11/dfloat11.h"
#include <string.h>

static qn_code read_object(qn_source *s, uint64_t obj, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    return qn_reader_object_bytes(s->impl, obj, off, n, dst, err);
}

static void close_reader(qn_source *s)
{
    qn_reader_close(s->impl);
}

static const qn_source_ops ops = {.format = "quern", .read = read_object, .close = close_reader};

static qn_code list(qn_source *s, const qn_index *ix, qn_err *err)
{
    s->is_dir = ix->is_dir;
    s->n_files = ix->n_files;
    s->n_objects = ix->n_objects;
    s->files = qn_mem_get(s->env->alloc, ix->n_files * sizeof *s->files, err);
    s->objects = qn_mem_get(s->env->alloc, ix->n_objects * sizeof *s->objects, err);
    if (!s->files || !s->objects)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < ix->n_files; i++)
        s->files[i] = (qn_source_file){.path = ix->files[i].path,
                                       .n_bytes = ix->files[i].n_bytes,
                                       .first_object = ix->files[i].first_object,
                                       .n_objects = ix->files[i].n_objects};
    for (uint64_t i = 0; i < ix->n_objects; i++) {
        const qn_index_object *o = &ix->objects[i];
        s->objects[i] = (qn_object){.name = o->name,
                                    .dims = o->dims,
                                    .n_bytes = o->n_bytes,
                                    .off = o->off,
                                    .file = o->file,
                                    .kind = o->is_tensor ? QN_OBJECT_TENSOR : QN_OBJECT_BLOB,
                                    .dtype = o->dtype,
                                    .rank = o->rank};
    }
    return QN_OK;
}

qn_code qn_quern_source_open(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    *out = NULL;
    qn_source *s = qn_mem_zeros(env->alloc, 1, sizeof *s, err);
    if (!s)
        return QN_E_MEMORY;
    qn_reader *r = NULL;
    s->ops = &ops;
    s->env = env;
    qn_arena_init(&s->arena, env->alloc);
    qn_code rc = qn_reader_open_env(env, path, &r, err);
    s->impl = r;
    if (rc == QN_OK) {
        s->path = qn_reader_path(r);
        rc = list(s, qn_reader_index(r), err);
    }
    if (rc == QN_OK)
        rc = qn_source_seal(s, err);
    if (rc == QN_OK)
        rc = qn_df11_list(s, err);
    if (rc != QN_OK) {
        (void)qn_err_in_path(err, rc, path);
        qn_source_close(s);
        return rc;
    }
    *out = s;
    return QN_OK;
}

qn_reader *qn_quern_source_reader(qn_source *s)
{
    return s->ops == &ops ? s->impl : NULL;
}

static qn_code base_from_source(void *ctx, const qn_index_object *t, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    qn_source *base = ctx;
    const uint64_t i = qn_source_find(base, t->name);
    const qn_object *o = i == UINT64_MAX ? NULL : &base->objects[i];
    if (!o || o->dtype != t->dtype || o->rank != t->rank || memcmp(o->dims, t->dims, t->rank * sizeof *t->dims) != 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the base has no tensor of this name, type and shape");
    return qn_source_read(base, i, off, n, dst, err);
}

void qn_quern_source_set_base(qn_source *s, qn_source *base)
{
    qn_reader_set_base(s->impl, base_from_source, base);
}
