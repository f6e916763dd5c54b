/* outfile.c: see outfile.h. */
#include "formats/outfile.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"

enum { BUF_BYTES = 1 << 20 };

qn_code qn_outfile_open(qn_outfile *o, const qn_env *env, const char *path, bool overwrite, qn_err *err)
{
    *o = QN_OUTFILE_CLOSED;
    o->env = env;
    o->overwrite = overwrite;
    o->path = qn_path_cat(env->alloc, path, "", err);
    o->tmp = qn_path_cat(env->alloc, path, ".quern-export", err);
    o->buf = qn_mem_get(env->alloc, BUF_BYTES, err);
    if (!o->path || !o->tmp || !o->buf)
        return QN_E_MEMORY;
    QN_TRY(qn_hasher_open(&o->hash, err));
    QN_TRY(qn_fs_check_target(o->env->fs, o->path, o->overwrite, err));
    if (qn_fs_exists(env->fs, o->tmp))
        (void)env->fs->unlink(env->fs->ctx, o->tmp);
    QN_TRY(qn_file_open(&o->file, env->fs, env->alloc, o->tmp, QN_OPEN_NEW, err));
    o->made = true;
    return QN_OK;
}

static qn_code flush(qn_outfile *o, qn_err *err)
{
    if (o->buf_used)
        QN_TRY(qn_file_write(&o->file, o->buf, o->buf_used, o->at - o->buf_used, err));
    o->buf_used = 0;
    return qn_env_check(o->env, err);
}

qn_code qn_outfile_add(qn_outfile *o, const void *p, uint64_t n, qn_err *err)
{
    const uint8_t *from = p;
    if (n)
        qn_hasher_add(&o->hash, p, (size_t)n);
    while (n > 0) {
        const uint64_t some = qn_min_u64(n, BUF_BYTES - o->buf_used);
        memcpy(o->buf + o->buf_used, from, (size_t)some);
        o->buf_used += some;
        o->at += some;
        from += some;
        n -= some;
        if (o->buf_used == BUF_BYTES)
            QN_TRY(flush(o, err));
    }
    return QN_OK;
}

qn_code qn_outfile_pad(qn_outfile *o, uint64_t align, qn_err *err)
{
    static const uint8_t zeros[4096];
    for (uint64_t n = -o->at & (align - 1); n > 0;) {
        const uint64_t some = qn_min_u64(n, sizeof zeros);
        QN_TRY(qn_outfile_add(o, zeros, some, err));
        n -= some;
    }
    return QN_OK;
}

qn_code qn_outfile_seal(qn_outfile *o, qn_err *err)
{
    QN_TRY(flush(o, err));
    QN_TRY(qn_file_sync(&o->file, err));
    (void)o->env->fs->advise_done(o->env->fs->ctx, o->file.fd, 0, 0); /* so that it is read back from the disk */
    const qn_digest want = qn_hasher_digest(&o->hash);
    qn_hasher_reset(&o->hash);
    for (uint64_t off = 0; off < o->at;) {
        const uint64_t n = qn_min_u64(BUF_BYTES, o->at - off);
        QN_TRY(qn_file_read(&o->file, o->buf, n, off, err));
        qn_hasher_add(&o->hash, o->buf, (size_t)n);
        off += n;
        QN_TRY(qn_env_check(o->env, err));
    }
    const qn_digest got = qn_hasher_digest(&o->hash);
    if (!qn_digest_equal(&want, &got))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "what was written does not read back"), o->tmp);
    return qn_file_close(&o->file, err);
}

qn_code qn_outfile_publish(qn_outfile *o, qn_err *err)
{
    QN_TRY(qn_fs_check_target(o->env->fs, o->path, o->overwrite, err)); /* once more: writing may have taken long */
    QN_TRY(qn_fs_publish(o->env->fs, o->env->alloc, o->tmp, o->path, err));
    o->made = false;
    return QN_OK;
}

void qn_outfile_close(qn_outfile *o)
{
    if (!o->env)
        return;
    const qn_alloc *a = o->env->alloc;
    qn_file_drop(&o->file);
    if (o->made && qn_fs_exists(o->env->fs, o->tmp))
        (void)o->env->fs->unlink(o->env->fs->ctx, o->tmp);
    qn_hasher_close(&o->hash);
    qn_mem_put(a, o->buf);
    qn_mem_put(a, o->tmp);
    qn_mem_put(a, o->path);
    *o = QN_OUTFILE_CLOSED;
}
