/* source.c (gguf): one file as a source; the keys of a source. */
#include "base/err.h"
#include "formats/fileset.h"
#include "formats/gguf/gguf.h"
#include <string.h>

static bool probe(const qn_probe *p)
{
    if (p->is_dir)
        return false;
    const size_t n = strlen(p->path);
    if (n >= 5 && strcmp(p->path + n - 5, ".gguf") == 0)
        return true; /* so that a damaged one is told what is wrong with it */
    return p->n_head >= 4 && memcmp(p->head, "GGUF", 4) == 0;
}

static qn_code read_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_fileset_read(ctx, 0, off, n, dst, err);
}

/* One part of several is a checkpoint of the tensors that it holds; the user should know. */
static qn_code warn_of_parts(const qn_gguf *g, qn_source *s, qn_err *err)
{
    uint64_t count, no;
    if (!qn_gguf_find(g, "split.count") || !qn_gguf_find(g, "split.no"))
        return QN_OK;
    QN_TRY(qn_gguf_get_u64(g, "split.count", &count, err));
    QN_TRY(qn_gguf_get_u64(g, "split.no", &no, err));
    if (count > 1)
        qn_source_warn(s, "part %llu of %llu: the other parts are not read", (unsigned long long)no + 1,
                       (unsigned long long)count);
    return QN_OK;
}

static qn_code fill(qn_source *s, qn_err *err)
{
    qn_gguf g;
    QN_TRY(qn_gguf_parse(&g, &s->arena, read_file, s, s->files[0].n_bytes, err));
    QN_TRY(qn_gguf_add_tensors(&g, s, err));
    QN_TRY(warn_of_parts(&g, s, err));
    return qn_source_seal(s, err);
}

static qn_code open_file(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    const char *slash = strrchr(path, '/');
    qn_source *s;
    *out = NULL;
    QN_TRY(qn_fileset_new(env, "gguf", path, &s, err));
    qn_code rc = qn_fileset_add_file(s, path, slash ? slash + 1 : path, err);
    if (rc == QN_OK)
        rc = qn_err_in_path(err, fill(s, err), path);
    if (rc != QN_OK) {
        qn_source_close(s);
        return rc;
    }
    *out = s;
    return QN_OK;
}

static qn_code read_blob(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_source_read(ctx, 0, off, n, dst, err);
}

qn_code qn_gguf_open(qn_gguf *g, qn_arena *arena, qn_source *s, qn_err *err)
{
    uint8_t magic[4] = {0};
    if (!s->is_dir && s->n_objects > 0 && s->objects[0].kind == QN_OBJECT_BLOB && s->objects[0].n_bytes >= sizeof magic)
        QN_TRY(read_blob(s, magic, sizeof magic, 0, err));
    if (memcmp(magic, "GGUF", 4) != 0)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "has no GGUF keys"), s->path);
    return qn_err_in_path(err, qn_gguf_parse(g, arena, read_blob, s, s->objects[0].n_bytes, err), s->path);
}

const qn_format qn_format_gguf = {"a GGUF file", probe, open_file};
