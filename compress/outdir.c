/* outdir.c: see outdir.h. */
#include "compress/outdir.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/hf/build.h"
#include "formats/outfile.h"
#include <errno.h>
#include <string.h>

enum { COPY_BYTES = 1 << 20 };

bool qn_outdir_is_weights(const char *path)
{
    static const char *const tails[] = {".gguf", ".onnx", ".onnx_data", ".pth", ".pt", ".ckpt", ".h5", ".msgpack", ".ot", ".tflite"};
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (qn_text_ends(path, tails[i]))
            return true;
    return qn_hf_is_torch_name(path);
}

qn_code qn_outdir_parents(const qn_env *env, const char *root, char *path, qn_err *err)
{
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        const int r = env->fs->mkdir(env->fs->ctx, path);
        if (r < 0 && r != -EEXIST)
            return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "folder cannot be created"), path);
        *p = '/';
    }
    return QN_OK;
}

qn_code qn_outdir_text(const qn_env *env, const char *path, const char *text, uint64_t n, qn_err *err)
{
    qn_outfile o;
    qn_code rc = qn_outfile_open(&o, env, path, false, err);
    if (rc == QN_OK)
        rc = qn_outfile_add(&o, text, n, err);
    if (rc == QN_OK)
        rc = qn_outfile_seal(&o, err);
    if (rc == QN_OK)
        rc = qn_outfile_publish(&o, err);
    qn_outfile_close(&o);
    return rc;
}

static qn_code copy_objects(const qn_env *env, qn_source *s, uint64_t f, qn_outfile *o, uint8_t *buf, qn_err *err)
{
    const qn_source_file *file = &s->files[f];
    for (uint64_t i = file->first_object; i < file->first_object + file->n_objects; i++)
        for (uint64_t at = 0; at < s->objects[i].n_bytes; at += COPY_BYTES) {
            const uint64_t n = qn_min_u64(COPY_BYTES, s->objects[i].n_bytes - at);
            QN_TRY(qn_source_read(s, i, at, n, buf, err));
            QN_TRY(qn_outfile_add(o, buf, n, err));
            QN_TRY(qn_env_check(env, err));
        }
    return QN_OK;
}

qn_code qn_outdir_copy(const qn_env *env, qn_source *s, uint64_t f, const char *path, qn_err *err)
{
    qn_outfile o;
    uint8_t *buf = qn_mem_get(env->alloc, COPY_BYTES, err);
    if (!buf)
        return QN_E_MEMORY;
    qn_code rc = qn_outfile_open(&o, env, path, false, err);
    if (rc == QN_OK)
        rc = copy_objects(env, s, f, &o, buf, err);
    if (rc == QN_OK)
        rc = qn_outfile_seal(&o, err);
    if (rc == QN_OK)
        rc = qn_outfile_publish(&o, err);
    qn_outfile_close(&o);
    qn_mem_put(env->alloc, buf);
    return rc;
}

qn_code qn_outdir_check(const qn_env *env, const qn_source *s, const char *path, bool overwrite, bool *there, qn_err *err)
{
    qn_stat st, from;
    bool found, is_model;
    QN_TRY(qn_fs_find(env->fs, path, &st, there, err));
    if (!*there)
        return QN_OK;
    if (!overwrite)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "exists: give --force to replace it"), path);
    char *config = qn_path_join(env->alloc, path, "config.json", err);
    qn_code rc = config ? qn_fs_find(env->fs, config, &from, &is_model, err) : QN_E_MEMORY;
    qn_mem_put(env->alloc, config);
    QN_TRY(rc);
    if (!st.is_dir || !is_model)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is there and no model folder: it is not replaced"), path);
    rc = qn_fs_find(env->fs, s->path, &from, &found, err);
    if (rc == QN_OK && found && from.dev == st.dev && from.ino == st.ino)
        rc = qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is the model that is being read: give another name"), path);
    return rc;
}

qn_code qn_outdir_publish(const qn_tmptree *t, const char *path, bool there, qn_err *err)
{
    const qn_env *env = t->env;
    char *old = there ? qn_path_join(env->alloc, t->path, "old", err) : NULL;
    if (there && !old)
        return QN_E_MEMORY;
    qn_code rc = there ? qn_fs_rename(env->fs, path, old, err) : QN_OK;
    if (rc == QN_OK)
        rc = qn_fs_publish(env->fs, env->alloc, t->data, path, err);
    if (there && rc == QN_OK)
        rc = qn_fs_rename(env->fs, old, t->data, err);
    else if (there && qn_fs_exists(env->fs, old))
        QN_IGNORE(qn_fs_rename(env->fs, old, path, NULL));
    qn_mem_put(env->alloc, old);
    return rc;
}
