/* source.c: what all sources share: opening by content, checking, finding by name. */
#include "formats/source.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/registry.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The format that recognises the first bytes, or the folder. */
qn_code qn_source_open(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    qn_probe probe = {.path = path};
    qn_stat st;
    *out = NULL;
    QN_TRY(qn_fs_stat(env->fs, path, &st, err));
    probe.is_dir = st.is_dir;
    probe.file_bytes = st.n_bytes;
    if (!st.is_dir && !st.is_regular)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is neither a file nor a folder"), path);
    if (!st.is_dir) {
        qn_file f;
        QN_TRY(qn_file_open(&f, env->fs, env->alloc, path, QN_OPEN_READ, err));
        probe.n_head = (size_t)qn_min_u64(sizeof probe.head, st.n_bytes);
        const qn_code rc = qn_file_read(&f, probe.head, probe.n_head, 0, err);
        qn_file_drop(&f);
        QN_TRY(rc);
    }
    for (const qn_format *const *f = qn_formats; *f; f++) {
        if (!(*f)->probe(&probe))
            continue;
        if ((*f)->open)
            return (*f)->open(env, path, out, err);
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET,
                                           "is %s, which this version cannot read yet", (*f)->name), path);
    }
    return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, 0, "not a checkpoint: readable are .safetensors files, their "
                                                           "index.json, model folders and .quern files"), path);
}

void qn_source_close(qn_source *s)
{
    if (!s)
        return;
    const qn_alloc *alloc = s->env->alloc;
    if (s->ops)
        s->ops->close(s);
    for (size_t i = 0; i < sizeof s->warnings / sizeof s->warnings[0]; i++)
        qn_mem_put(alloc, s->warnings[i]);
    qn_mem_put(alloc, s->files);
    qn_mem_put(alloc, s->objects);
    qn_mem_put(alloc, s->names.slots);
    qn_arena_release(&s->arena);
    qn_mem_put(alloc, s);
}

qn_code qn_source_read(qn_source *s, uint64_t obj, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    if (obj >= s->n_objects || off > s->objects[obj].n_bytes || n > s->objects[obj].n_bytes - off)
        return QN_BUG(err, "read of %llu bytes at %llu of object %llu", (unsigned long long)n, (unsigned long long)off,
                      (unsigned long long)obj);
    if (n == 0)
        return QN_OK;
    const qn_code rc = s->ops->read(s, obj, off, n, dst, err);
    return qn_err_in_tensor(err, rc, s->objects[obj].kind == QN_OBJECT_TENSOR ? s->objects[obj].name : NULL);
}

static const char *object_name(const void *ctx, uint32_t item)
{
    return ((const qn_source *)ctx)->objects[item].name;
}

uint64_t qn_source_find(const qn_source *s, const char *name)
{
    const uint32_t i = qn_names_find(&s->names, name, object_name, s);
    return i == QN_NAMES_NONE ? UINT64_MAX : i;
}

static qn_code index_names(qn_source *s, qn_err *err)
{
    if (s->n_objects >= UINT32_MAX)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu tensors: below 2^32 are allowed",
                                           (unsigned long long)s->n_objects), s->path);
    const uint64_t n_slots = qn_names_slots(s->n_tensors);
    qn_name_slot *slots = qn_mem_zeros(s->env->alloc, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_names_init(&s->names, slots, n_slots);
    for (uint64_t i = 0; i < s->n_objects; i++) {
        const qn_object *o = &s->objects[i];
        if (o->kind != QN_OBJECT_TENSOR)
            continue;
        const uint32_t twin = qn_names_add(&s->names, o->name, (uint32_t)i, object_name, s);
        if (twin == QN_NAMES_NONE)
            continue;
        const qn_code rc = QN_FAIL(err, QN_E_INPUT, o->off, "two tensors have this name: the other one's data begin at "
                                   "byte 0x%llx of %s", (unsigned long long)s->objects[twin].off,
                                   s->files[s->objects[twin].file].path);
        return qn_err_in_path(err, qn_err_in_tensor(err, rc, o->name), s->files[o->file].path);
    }
    return QN_OK;
}

/* Objects must lie end to end: what restores a file is their concatenation. */
static qn_code check_file(const qn_source *s, uint64_t i, qn_err *err)
{
    const qn_source_file *f = &s->files[i];
    uint64_t at = 0;
    if (!qn_path_is_safe(f->path, strlen(f->path)))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "name cannot be restored: not UTF-8, too long, or with control "
                                                      "bytes or backslashes");
    if (i > 0 && strcmp(s->files[i - 1].path, f->path) >= 0)
        return QN_BUG(err, "files are not sorted: '%s'", f->path);
    for (uint64_t k = f->first_object; k < f->first_object + f->n_objects; k++) {
        if (s->objects[k].off != at || s->objects[k].file != i)
            return QN_BUG(err, "object %llu does not follow the one before", (unsigned long long)k);
        at += s->objects[k].n_bytes;
    }
    return at == f->n_bytes ? QN_OK : QN_BUG(err, "objects cover %llu of %llu bytes", (unsigned long long)at,
                                             (unsigned long long)f->n_bytes);
}

qn_code qn_source_seal(qn_source *s, qn_err *err)
{
    for (uint64_t i = 0; i < s->n_files; i++)
        QN_TRY(qn_err_in_path(err, check_file(s, i, err), s->files[i].path));
    s->n_tensors = 0;
    for (uint64_t i = 0; i < s->n_objects; i++)
        s->n_tensors += s->objects[i].kind == QN_OBJECT_TENSOR;
    return index_names(s, err);
}

void qn_source_warn(qn_source *s, const char *fmt, ...)
{
    const uint64_t kept = sizeof s->warnings / sizeof s->warnings[0];
    const uint64_t at = s->n_warnings++;
    if (at >= kept)
        return;
    enum { WARNING_BYTES = 512 };
    s->warnings[at] = qn_mem_get(s->env->alloc, WARNING_BYTES, NULL);
    if (!s->warnings[at])
        return;
    char raw[WARNING_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    qn_printable(s->warnings[at], WARNING_BYTES, raw, strlen(raw));
}

static bool is_this_file(const qn_source *s, const char *path, const qn_stat *st)
{
    qn_stat mine;
    return s->env->fs->stat(s->env->fs->ctx, path, &mine) == 0 && mine.dev == st->dev && mine.ino == st->ino;
}

bool qn_source_is_file(const qn_source *s, const qn_stat *st)
{
    if (is_this_file(s, s->path, st))
        return true;
    bool hit = false;
    for (uint64_t i = 0; i < s->n_files && s->is_dir && !hit; i++) {
        char *path = qn_path_join(s->env->alloc, s->path, s->files[i].path, NULL);
        hit = path && is_this_file(s, path, st);
        qn_mem_put(s->env->alloc, path);
    }
    return hit;
}
