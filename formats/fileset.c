/* fileset.c: see fileset.h. */
#include "formats/fileset.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

enum { OPEN_MAX_FILES = 256 };

qn_code qn_fileset_read_object(qn_source *s, uint64_t obj, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const qn_object *o = &s->objects[obj];
    return qn_fileset_read(s, o->file, o->off + off, n, dst, err);
}

void qn_fileset_close(qn_source *s)
{
    qn_fileset *set = s->impl;
    if (!set)
        return;
    for (uint64_t i = 0; set->open && i < s->n_files; i++)
        qn_file_drop(&set->open[i]);
    qn_mem_put(s->env->alloc, set->open);
    qn_mem_put(s->env->alloc, set->paths);
    qn_mem_put(s->env->alloc, set->beneath);
    qn_mem_put(s->env->alloc, set->made);
    qn_mem_put(s->env->alloc, set);
}

static const qn_source_ops safetensors_ops = {.format = "safetensors", .read = qn_fileset_read_object,
                                              .close = qn_fileset_close};
static const qn_source_ops gguf_ops = {.format = "gguf", .read = qn_fileset_read_object, .close = qn_fileset_close};

qn_code qn_fileset_new(const qn_env *env, const char *format, const char *path, qn_source **out, qn_err *err)
{
    return qn_fileset_new_ops(env, strcmp(format, "gguf") == 0 ? &gguf_ops : &safetensors_ops, path, out, err);
}

qn_code qn_fileset_new_ops(const qn_env *env, const qn_source_ops *ops, const char *path, qn_source **out, qn_err *err)
{
    *out = NULL;
    qn_source *s = qn_mem_zeros(env->alloc, 1, sizeof *s, err);
    if (!s)
        return QN_E_MEMORY;
    s->env = env;
    qn_arena_init(&s->arena, env->alloc);
    s->path = qn_arena_str(&s->arena, path, strlen(path), err);
    s->impl = qn_mem_zeros(env->alloc, 1, sizeof(qn_fileset), err);
    if (!s->path || !s->impl) {
        qn_fileset_close(s);
        s->impl = NULL;
        qn_source_close(s);
        return QN_E_MEMORY;
    }
    s->ops = ops;
    *out = s;
    return QN_OK;
}

static qn_code room_for_file(qn_source *s, qn_err *err)
{
    qn_fileset *set = s->impl;
    const qn_alloc *a = s->env->alloc;
    const uint64_t n = s->n_files;
    void *p = qn_mem_grow(a, s->files, n, &set->cap_files, n + 1, sizeof *s->files, err);
    s->files = p ? p : s->files;
    void *q = qn_mem_grow(a, set->open, n, &set->cap_open, n + 1, sizeof *set->open, err);
    set->open = q ? q : set->open;
    void *r = qn_mem_grow(a, set->paths, n, &set->cap_paths, n + 1, sizeof *set->paths, err);
    set->paths = r ? r : set->paths;
    void *b = qn_mem_grow(a, set->beneath, n, &set->cap_beneath, n + 1, sizeof *set->beneath, err);
    set->beneath = b ? b : set->beneath;
    return p && q && r && b ? QN_OK : QN_E_MEMORY;
}

static qn_code take_file(qn_source *s, qn_file *f, const char *rel, bool beneath, qn_err *err)
{
    qn_fileset *set = s->impl;
    qn_stat st;
    QN_TRY(room_for_file(s, err));
    QN_TRY(qn_file_stat(f, &st, err));
    if (!st.is_regular)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is neither a file nor a folder"), f->path);
    char *own = qn_arena_str(&s->arena, f->path, strlen(f->path), err), *name = qn_arena_str(&s->arena, rel, strlen(rel), err);
    if (!own || !name)
        return QN_E_MEMORY;
    if (set->n_open >= OPEN_MAX_FILES)
        QN_TRY(qn_file_close(f, err));
    set->n_open += f->fd >= 0;
    set->open[s->n_files] = *f;
    set->paths[s->n_files] = own;
    set->beneath[s->n_files] = beneath;
    s->files[s->n_files++] = (qn_source_file){.path = name, .n_bytes = st.n_bytes, .first_object = s->n_objects};
    *f = QN_FILE_CLOSED;
    return QN_OK;
}

static qn_code add_opened(qn_source *s, qn_file *f, const char *rel, bool beneath, qn_err *err)
{
    const qn_code rc = s->n_files < UINT32_MAX ? take_file(s, f, rel, beneath, err)
                                               : QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than 2^32 files");
    if (rc != QN_OK)
        qn_file_drop(f);
    return rc;
}

qn_code qn_fileset_add_opened(qn_source *s, qn_file *f, const char *rel, qn_err *err)
{
    return add_opened(s, f, rel, false, err);
}

qn_code qn_fileset_add_file(qn_source *s, const char *path, const char *rel, qn_err *err)
{
    qn_file f;
    QN_TRY(qn_file_open(&f, s->env->fs, s->env->alloc, path, QN_OPEN_READ, err));
    return add_opened(s, &f, rel, false, err);
}

qn_code qn_fileset_add_beneath(qn_source *s, const char *rel, qn_err *err)
{
    qn_file f;
    QN_TRY(qn_file_open_beneath(&f, s->env->fs, s->env->alloc, s->path, rel, err));
    return add_opened(s, &f, rel, true, err);
}

qn_code qn_fileset_read(qn_source *s, uint64_t file, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const qn_fileset *set = s->impl;
    if (set->open[file].fd >= 0)
        return qn_file_read(&set->open[file], dst, n, off, err);
    qn_file f;
    if (set->beneath[file])
        QN_TRY(qn_file_open_beneath(&f, s->env->fs, s->env->alloc, s->path, s->files[file].path, err));
    else
        QN_TRY(qn_file_open(&f, s->env->fs, s->env->alloc, set->paths[file], QN_OPEN_READ, err));
    const qn_code rc = qn_file_read(&f, dst, n, off, err);
    qn_file_drop(&f);
    return rc;
}

qn_code qn_fileset_add_object(qn_source *s, const qn_object *o, qn_err *err)
{
    qn_fileset *set = s->impl;
    qn_object *p = qn_mem_grow(s->env->alloc, s->objects, s->n_objects, &set->cap_objects, s->n_objects + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    s->objects = p;
    p[s->n_objects] = *o;
    p[s->n_objects++].file = (uint32_t)(s->n_files - 1);
    s->files[s->n_files - 1].n_objects++;
    return QN_OK;
}

qn_code qn_fileset_add_tensor(qn_source *s, const qn_source_tensor *t, qn_err *err)
{
    qn_fileset *set = s->impl;
    qn_source_tensor *p = qn_mem_grow(s->env->alloc, s->tensors, s->n_tensors, &set->cap_tensors, s->n_tensors + 1, sizeof *p,
                                      err);
    if (!p)
        return QN_E_MEMORY;
    s->tensors = p;
    p[s->n_tensors] = *t;
    p[s->n_tensors++].file = (uint32_t)(s->n_files - 1);
    return QN_OK;
}

qn_code qn_fileset_add_made(qn_source *s, const qn_source_tensor *t, qn_made_fn read, const void *how, qn_err *err)
{
    qn_fileset *set = s->impl;
    const uint64_t i = s->n_tensors;
    qn_made *m = qn_mem_grow(s->env->alloc, set->made, set->n_made, &set->cap_made, i + 1, sizeof *m, err);
    if (!m)
        return QN_E_MEMORY;
    set->made = m;
    while (set->n_made < i)
        m[set->n_made++] = (qn_made){0};
    m[i] = (qn_made){read, how};
    set->n_made = i + 1;
    return qn_fileset_add_tensor(s, t, err);
}

qn_code qn_fileset_read_made(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const qn_fileset *set = s->impl;
    if (tensor >= set->n_made || !set->made[tensor].read)
        return QN_BUG(err, "nothing tells how tensor %llu is read", (unsigned long long)tensor);
    return set->made[tensor].read(s, &s->tensors[tensor], set->made[tensor].how, off, n, dst, err);
}

void qn_fileset_rewind(qn_source *s, uint64_t n_objects, uint64_t n_tensors)
{
    qn_fileset *set = s->impl;
    s->files[s->n_files - 1].n_objects -= s->n_objects - n_objects;
    s->n_objects = n_objects;
    s->n_tensors = n_tensors;
    set->n_made = set->n_made < n_tensors ? set->n_made : n_tensors;
}

qn_code qn_fileset_add_blob(qn_source *s, qn_err *err)
{
    const uint64_t n = s->files[s->n_files - 1].n_bytes;
    return n ? qn_fileset_add_object(s, &(qn_object){.name = "", .n_bytes = n}, err) : QN_OK;
}
