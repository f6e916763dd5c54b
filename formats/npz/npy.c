/* npy.c: one numpy array file as a source of one tensor; see npy.h. */
#include "formats/npz/npy.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/fileset.h"
#include <string.h>

static qn_code read_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_fileset_read(ctx, 0, off, n, dst, err);
}

static const qn_npy_head *head_of(const qn_source *s)
{
    return ((const qn_fileset *)s->impl)->own;
}

static qn_code read_elements(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_fileset_read(ctx, 0, head_of(ctx)->head_bytes + off, n, dst, err);
}

static qn_code read_tensor(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    (void)tensor;
    return qn_npy_gather(head_of(s), s->env->alloc, read_elements, s, false, off, n, dst, err);
}

static void close_file(qn_source *s)
{
    qn_mem_put(s->env->alloc, ((qn_fileset *)s->impl)->own);
    qn_fileset_close(s);
}

static const qn_source_ops ops = {.format = "npy", .read = qn_fileset_read_object, .read_tensor = read_tensor,
                                  .close = close_file};

/* The file's name without its ending; all of it when nothing else would be left. */
static const char *name_of(qn_source *s, qn_err *err)
{
    const char *path = s->files[0].path;
    const size_t n = strlen(path), n_end = 4;
    const bool ends = n > n_end && strcmp(path + n - n_end, ".npy") == 0;
    return qn_arena_str(&s->arena, path, ends ? n - n_end : n, err);
}

static qn_code list(qn_source *s, const qn_npy_head *h, qn_err *err)
{
    const uint64_t n_file = s->files[0].n_bytes, room = n_file - h->head_bytes, end = h->head_bytes + h->n_bytes;
    if (h->n_bytes > room)
        return QN_FAIL(err, QN_E_INPUT, n_file, "array needs %llu bytes, %llu follow its header",
                       (unsigned long long)h->n_bytes, (unsigned long long)room);
    if (end < n_file)
        qn_source_warn(s, "%s: %llu bytes behind the array are kept but not looked at", s->files[0].path,
                       (unsigned long long)(n_file - end));
    qn_source_tensor t = {.name = name_of(s, err), .dims = h->dims, .n_bytes = h->n_bytes, .object = QN_NO_OBJECT,
                          .dtype = h->dtype, .rank = h->rank};
    qn_object o = {.name = "", .n_bytes = h->head_bytes};
    if (!t.name)
        return QN_E_MEMORY;
    QN_TRY(qn_fileset_add_object(s, &o, err));
    o = (qn_object){.name = "", .n_bytes = h->n_bytes, .off = h->head_bytes};
    if (!qn_npy_is_gathered(h)) {
        o.name = t.name;
        o.dims = t.dims;
        o.kind = QN_OBJECT_TENSOR;
        o.dtype = t.dtype;
        o.rank = t.rank;
        t.object = s->n_objects;
    }
    QN_TRY(qn_fileset_add_object(s, &o, err));
    if (end < n_file)
        QN_TRY(qn_fileset_add_object(s, &(qn_object){.name = "", .n_bytes = n_file - end, .off = end}, err));
    return qn_fileset_add_tensor(s, &t, err);
}

static qn_code build(qn_source *s, const char *path, qn_err *err)
{
    const char *slash = strrchr(path, '/');
    qn_fileset *set = s->impl;
    QN_TRY(qn_fileset_add_file(s, path, slash ? slash + 1 : path, err));
    qn_npy_head *h = set->own = qn_mem_zeros(s->env->alloc, 1, sizeof *h, err);
    if (!h)
        return QN_E_MEMORY;
    qn_code rc = qn_npy_read_head(h, s->env->alloc, read_file, s, s->files[0].n_bytes, 0, err);
    if (rc == QN_OK)
        rc = list(s, h, err);
    return rc == QN_OK ? qn_source_seal(s, err) : rc;
}

static qn_code open_file(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    qn_source *s;
    *out = NULL;
    QN_TRY(qn_fileset_new_ops(env, &ops, path, &s, err));
    const qn_code rc = build(s, path, err);
    if (rc != QN_OK) {
        qn_source_close(s);
        return qn_err_in_path(err, rc, path);
    }
    *out = s;
    return QN_OK;
}

static bool probe(const qn_probe *p)
{
    if (p->is_dir)
        return false;
    const size_t n = strlen(p->path);
    if (n >= 4 && strcmp(p->path + n - 4, ".npy") == 0)
        return true; /* so that a damaged one is told what is wrong with it */
    return p->n_head >= 6 && memcmp(p->head, "\x93NUMPY", 6) == 0;
}

const qn_format qn_format_npy = {"a numpy array", probe, open_file};
