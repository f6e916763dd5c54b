/* source.c (torch): a checkpoint file as a source. */
#include "base/err.h"
#include "base/num.h"
#include "formats/torch/torch.h"
#include "formats/zip/zip.h"
#include <string.h>

static const qn_source_ops torch_ops = {.format = "torch", .read = qn_fileset_read_object, .read_tensor = qn_fileset_read_made,
                                        .close = qn_fileset_close};

static qn_code read_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qn_torch_file *f = ctx;
    return qn_fileset_read(f->s, f->file, off, n, dst, err);
}

typedef qn_code (*read_fn)(qn_torch_file *f, qn_err *err);

static qn_code add(qn_source *s, read_fn read, const char *prefix, const char *record_prefix, qn_err *err)
{
    const qn_alloc *a = s->env->alloc;
    qn_torch_file f = {.s = s, .file = s->n_files - 1, .prefix = prefix, .record_prefix = record_prefix};
    f.n_bytes = s->files[f.file].n_bytes;
    qn_pickle_init(&f.pickle, a, read_file, &f);
    qn_code rc = read(&f, err);
    if (rc == QN_OK)
        rc = qn_torch_walk(&f, err);
    if (rc == QN_OK)
        rc = qn_torch_lay_out(&f, err);
    if (rc == QN_OK && f.n_tensors == 0)
        qn_source_warn(s, "%s: no tensors in it", s->files[f.file].path);
    qn_pickle_release(&f.pickle);
    qn_mem_put(a, f.tensors);
    qn_mem_put(a, f.places);
    qn_mem_put(a, f.keys.slots);
    return qn_err_in_path(err, rc, ((qn_fileset *)s->impl)->paths[s->n_files - 1]);
}

static qn_code open_file(const qn_env *env, const char *path, read_fn read, qn_source **out, qn_err *err)
{
    const char *slash = strrchr(path, '/');
    qn_source *s;
    *out = NULL;
    QN_TRY(qn_fileset_new(env, "torch", path, &s, err));
    s->ops = &torch_ops;
    qn_code rc = qn_fileset_add_file(s, path, slash ? slash + 1 : path, err);
    if (rc == QN_OK)
        rc = add(s, read, "", "", err);
    if (rc == QN_OK)
        rc = qn_source_seal(s, err);
    if (rc != QN_OK) {
        qn_source_close(s);
        return rc;
    }
    *out = s;
    return QN_OK;
}

static qn_code open_zip(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    return open_file(env, path, qn_torch_read_zip, out, err);
}

static qn_code open_legacy(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    return open_file(env, path, qn_torch_read_legacy, out, err);
}

static bool ends_with(const char *s, size_t n, const char *tail)
{
    const size_t t = strlen(tail);
    return n >= t && memcmp(s + n - t, tail, t) == 0;
}

/* PyTorch's writer puts data.pkl first; other zip tools put what they like, so the extension counts too. */
static bool probe_zip(const qn_probe *p)
{
    static const char *const tails[] = {".pt", ".pth", ".ckpt", ".th"};
    if (p->is_dir || !qn_zip_begins(p->head, p->n_head))
        return false;
    if (p->n_head >= 30) {
        const char *name = (const char *)p->head + 30;
        const size_t n = (size_t)qn_min_u64(qn_load16(p->head + 26), p->n_head - 30);
        if (ends_with(name, n, "/data.pkl"))
            return true;
    }
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (ends_with(p->path, strlen(p->path), tails[i]))
            return true;
    return false;
}

static const uint8_t legacy_magic[] = {0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
enum { PROTO = 2, FRAME = 9, LEGACY_HEAD = PROTO + FRAME + sizeof legacy_magic };

/* The magic number is the first thing in a pickle of protocol 2, or of 4 and 5 behind a frame's head. */
static bool is_legacy(const uint8_t *head, size_t n)
{
    return n >= LEGACY_HEAD && head[0] == 0x80 && (memcmp(head + PROTO, legacy_magic, sizeof legacy_magic) == 0 ||
                                                   memcmp(head + PROTO + FRAME, legacy_magic, sizeof legacy_magic) == 0);
}

static bool probe_legacy(const qn_probe *p)
{
    return !p->is_dir && is_legacy(p->head, p->n_head);
}

qn_code qn_torch_add(qn_source *s, const char *prefix, const char *record_prefix, qn_err *err)
{
    uint8_t head[LEGACY_HEAD];
    const uint64_t file = s->n_files - 1;
    const size_t n = (size_t)qn_min_u64(sizeof head, s->files[file].n_bytes);
    QN_TRY(qn_fileset_read(s, file, 0, n, head, err));
    const bool zip = qn_zip_begins(head, n);
    if (!zip && !is_legacy(head, n))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, 0, "not what torch.save writes: neither a zip nor its older "
                                                                     "stream"), ((qn_fileset *)s->impl)->paths[file]);
    return add(s, zip ? qn_torch_read_zip : qn_torch_read_legacy, prefix, record_prefix, err);
}

const qn_format qn_format_torch_zip = {"a PyTorch checkpoint", probe_zip, open_zip};
const qn_format qn_format_torch_legacy = {"a PyTorch checkpoint", probe_legacy, open_legacy};
