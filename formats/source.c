/* source.c: what all sources share: opening by content, checking, finding by name. */
#include "formats/source.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/dfloat11/dfloat11.h"
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
    return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, 0, "not a checkpoint: readable are .safetensors and .gguf files, "
                                                           "index.json of shards, model folders, ONNX, PyTorch, "
                                                           "TensorFlow.js, .npy, .npz and .quern files, and archives of "
                                                           "these"), path);
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
    qn_mem_put(alloc, s->tensors);
    qn_mem_put(alloc, s->tensor_names.slots);
    qn_mem_put(alloc, s->names.slots);
    qn_arena_release(&s->arena);
    void (*const release)(void *) = s->release;
    void *const under = s->under;
    qn_mem_put(alloc, s);
    if (release)
        release(under);
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

static const char *tensor_name(const void *ctx, uint32_t item)
{
    return ((const qn_source *)ctx)->tensors[item].name;
}

/* Tensors that seal has listed are in the order of their objects: no table of their own. */
static uint64_t tensor_of_object(const qn_source *s, uint64_t object)
{
    uint64_t lo = 0, hi = s->n_tensors;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (s->tensors[mid].object < object)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint64_t qn_source_tensor_find(const qn_source *s, const char *name)
{
    if (!s->tensor_names.slots) {
        const uint64_t o = qn_source_find(s, name);
        return o == UINT64_MAX ? o : tensor_of_object(s, o);
    }
    const uint32_t i = qn_names_find(&s->tensor_names, name, tensor_name, s);
    return i == QN_NAMES_NONE ? UINT64_MAX : i;
}

qn_code qn_source_tensor_read(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    if (tensor >= s->n_tensors || off > s->tensors[tensor].n_bytes || n > s->tensors[tensor].n_bytes - off)
        return QN_BUG(err, "read of %llu bytes at %llu of tensor %llu", (unsigned long long)n, (unsigned long long)off,
                      (unsigned long long)tensor);
    const qn_source_tensor *t = &s->tensors[tensor];
    if (n == 0)
        return QN_OK;
    if (t->object != QN_NO_OBJECT)
        return qn_source_read(s, t->object, off, n, dst, err);
    const bool coded = s->df11 && tensor >= s->df11->first;
    return qn_err_in_tensor(err, coded ? qn_df11_read_weight(s, tensor, off, n, dst, err) : s->ops->read_tensor(s, tensor, off, n, dst, err), t->name);
}

qn_code qn_source_file_read(qn_source *s, uint64_t file, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const qn_source_file *f = &s->files[file];
    const qn_object *o = s->objects + f->first_object;
    if (off > f->n_bytes || n > f->n_bytes - off)
        return QN_FAIL(err, QN_E_INPUT, off, "%llu bytes at this place are not inside the %llu bytes of the file", (unsigned long long)n,
                       (unsigned long long)f->n_bytes);
    uint64_t lo = 0, hi = f->n_objects;
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (o[mid].off <= off)
            lo = mid;
        else
            hi = mid;
    }
    for (uint8_t *p = dst; n; lo++) {
        const uint64_t at = off - o[lo].off, some = qn_min_u64(n, o[lo].n_bytes - at);
        if (some)
            QN_TRY(qn_source_read(s, f->first_object + lo, at, some, p, err));
        p += some;
        off += some;
        n -= some;
    }
    return QN_OK;
}

/* Unless the format has listed them: a tensor for each TENSOR object. */
static qn_code list_tensors(qn_source *s, qn_err *err)
{
    s->tensors = qn_mem_get(s->env->alloc, s->n_tensor_objects * sizeof *s->tensors, err);
    if (!s->tensors)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_objects; i++) {
        const qn_object *o = &s->objects[i];
        if (o->kind == QN_OBJECT_TENSOR)
            s->tensors[s->n_tensors++] = (qn_source_tensor){.name = o->name, .dims = o->dims, .n_bytes = o->n_bytes,
                                                            .object = i, .file = o->file, .dtype = o->dtype,
                                                            .rank = o->rank};
    }
    return QN_OK;
}

static qn_code check_tensor(const qn_source *s, const qn_source_tensor *t, qn_err *err)
{
    uint64_t n_elems, n_bytes;
    if (!qn_shape_bytes((qn_dtype)t->dtype, t->dims, t->rank, &n_elems, &n_bytes) || n_bytes != t->n_bytes)
        return QN_BUG(err, "tensor '%s' has another length than its shape", t->name);
    if (t->object == QN_NO_OBJECT ? !s->ops->read_tensor && !s->df11
                                  : t->object >= s->n_objects || s->objects[t->object].n_bytes != n_bytes ||
                                        s->objects[t->object].file != t->file)
        return QN_BUG(err, "tensor '%s' stands for an object that it does not fit", t->name);
    if (t->file >= s->n_files)
        return QN_BUG(err, "tensor '%s' lies in no file", t->name);
    return QN_OK;
}

static qn_code index_tensors(qn_source *s, qn_err *err)
{
    if (s->n_tensors >= UINT32_MAX)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu tensors: below 2^32 are allowed",
                                           (unsigned long long)s->n_tensors), s->path);
    const uint64_t n_slots = qn_names_slots(s->n_tensors);
    qn_name_slot *slots = qn_mem_zeros(s->env->alloc, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_names_init(&s->tensor_names, slots, n_slots);
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        QN_TRY(check_tensor(s, t, err));
        if (qn_names_add(&s->tensor_names, t->name, (uint32_t)i, tensor_name, s) != QN_NAMES_NONE)
            return qn_err_in_path(err, qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                                                                     "two tensors have this name"), t->name), s->path);
    }
    return QN_OK;
}

static qn_code index_names(qn_source *s, qn_err *err)
{
    if (s->n_objects >= UINT32_MAX)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu tensors: below 2^32 are allowed",
                                           (unsigned long long)s->n_objects), s->path);
    const uint64_t n_slots = qn_names_slots(s->n_tensor_objects);
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
    s->n_tensor_objects = 0;
    for (uint64_t i = 0; i < s->n_objects; i++)
        s->n_tensor_objects += s->objects[i].kind == QN_OBJECT_TENSOR;
    QN_TRY(index_names(s, err));
    return s->tensors ? index_tensors(s, err) : list_tensors(s, err);
}

qn_code qn_source_relist(qn_source *s, qn_source_tensor *t, uint64_t n, qn_err *err)
{
    qn_mem_put(s->env->alloc, s->tensors);
    qn_mem_put(s->env->alloc, s->tensor_names.slots);
    s->tensor_names = (qn_names){0};
    s->tensors = t;
    s->n_tensors = n;
    return index_tensors(s, err);
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
