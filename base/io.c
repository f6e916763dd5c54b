/* io.c: loops and messages on top of a qn_fs; see io.h. */
#include "base/io.h"
#include "base/alloc.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One call moves at most this much: Linux cuts at 2 GiB − 4 KiB anyway. */
enum { IO_MAX_BYTES = 1 << 30 };

static qn_code fail_path(qn_err *err, int rc, const char *path, const char *what)
{
    return qn_err_in_path(err, QN_FAIL_SYS(err, -rc, "%s", what), path);
}

qn_code qn_file_open(qn_file *f, const qn_fs *fs, const qn_alloc *alloc, const char *path, int mode, qn_err *err)
{
    *f = (qn_file){.fs = fs, .fd = -1, .alloc = alloc};
    f->path = qn_path_cat(alloc, path, "", err);
    if (!f->path)
        return QN_E_MEMORY;
    int fd;
    do
        fd = fs->open(fs->ctx, path, mode);
    while (fd == -EINTR);
    if (fd < 0) {
        qn_mem_put(alloc, f->path);
        *f = QN_FILE_CLOSED;
        return fail_path(err, fd, path, mode & QN_OPEN_NEW ? "cannot be created" : "cannot be opened");
    }
    f->fd = fd;
    return QN_OK;
}

enum { NAMES_TRIED = 1000 };

qn_code qn_file_open_unnamed(qn_file *f, const qn_fs *fs, const qn_alloc *alloc, const char *dir, qn_err *err)
{
    /* The name lives for a moment: one that is taken is that of a run that does the same just now, or was killed in its moment. */
    for (unsigned i = 0;; i++) {
        char name[32];
        qn_err why = {.off = QN_NO_OFFSET};
        snprintf(name, sizeof name, "quern-tmp.%u", i);
        char *path = qn_path_join(alloc, dir ? dir : "/tmp", name, err);
        if (!path)
            return QN_E_MEMORY;
        const qn_code rc = qn_file_open(f, fs, alloc, path, QN_OPEN_NEW | QN_OPEN_PRIVATE, &why);
        if (rc == QN_OK)
            (void)fs->unlink(fs->ctx, path); /* if it cannot, it stays: worse than tidy, but no error */
        qn_mem_put(alloc, path);
        if (rc == QN_OK || why.sys != EEXIST || i + 1 == NAMES_TRIED) {
            if (rc != QN_OK && err && err->code == QN_OK)
                *err = why;
            return rc;
        }
    }
}

static qn_code refuse(qn_file *f, const char *what, qn_err *err)
{
    const qn_code rc = qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s", what), f->path);
    qn_file_drop(f);
    return rc;
}

qn_code qn_file_open_beneath(qn_file *f, const qn_fs *fs, const qn_alloc *alloc, const char *dir, const char *rel,
                             qn_err *err)
{
    *f = (qn_file){.fs = fs, .fd = -1, .alloc = alloc};
    f->path = qn_path_join(alloc, dir, rel, err);
    if (!f->path)
        return QN_E_MEMORY;
    do
        f->fd = fs->open_beneath(fs->ctx, dir, rel);
    while (f->fd == -EINTR);
    if (f->fd < 0) {
        const int r = f->fd;
        if (r == -ELOOP)
            return refuse(f, "a symlink lies on the way: files that a model names must be plain files below its folder", err);
        if (r == -EXDEV)
            return refuse(f, "leads out of the model's folder", err);
        const qn_code rc = fail_path(err, r, f->path, "cannot be opened");
        qn_file_drop(f);
        return rc;
    }
    qn_stat st;
    const qn_code rc = qn_file_stat(f, &st, err);
    if (rc != QN_OK) {
        qn_file_drop(f);
        return rc;
    }
    if (!st.is_regular)
        return refuse(f, "is not a regular file", err);
    if (st.n_links != 1)
        return refuse(f, "has a second name (hard link): files that a model names must have one", err);
    return QN_OK;
}

qn_code qn_file_close(qn_file *f, qn_err *err)
{
    qn_code rc = QN_OK;
    if (f->fd >= 0) {
        const int r = f->fs->close(f->fs->ctx, f->fd);
        /* after EINTR Linux has closed it: trying again could hit someone else's */
        if (r < 0 && r != -EINTR)
            rc = fail_path(err, r, f->path, "closing failed");
    }
    qn_mem_put(f->alloc, f->path);
    *f = QN_FILE_CLOSED;
    return rc;
}

void qn_file_drop(qn_file *f)
{
    QN_IGNORE(qn_file_close(f, NULL));
}

qn_code qn_file_stat(const qn_file *f, qn_stat *st, qn_err *err)
{
    int r;
    do
        r = f->fs->fstat(f->fs->ctx, f->fd, st);
    while (r == -EINTR);
    return r < 0 ? fail_path(err, r, f->path, "its size cannot be read") : QN_OK;
}

qn_code qn_file_read(const qn_file *f, void *buf, uint64_t n, uint64_t off, qn_err *err)
{
    uint8_t *p = buf;
    if (off > INT64_MAX || n > (uint64_t)INT64_MAX - off)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, off, "%llu bytes wanted past the end of all files",
                                           (unsigned long long)n), f->path);
    while (n > 0) {
        const ssize_t r = f->fs->pread(f->fs->ctx, f->fd, p, (size_t)qn_min_u64(n, IO_MAX_BYTES), off);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return fail_path(err, (int)r, f->path, "reading failed");
        if (r == 0)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, off, "ends early: %llu more bytes expected",
                                               (unsigned long long)n), f->path);
        p += r;
        off += (uint64_t)r;
        n -= (uint64_t)r;
    }
    return QN_OK;
}

qn_code qn_file_write(const qn_file *f, const void *buf, uint64_t n, uint64_t off, qn_err *err)
{
    const uint8_t *p = buf;
    while (n > 0) {
        const ssize_t r = f->fs->pwrite(f->fs->ctx, f->fd, p, (size_t)qn_min_u64(n, IO_MAX_BYTES), off);
        if (r == -EINTR)
            continue;
        if (r <= 0) {
            const int sys = r < 0 ? (int)-r : EIO;
            return qn_err_in_path(err, qn_err_set(err, QN_E_IO, sys, off, __FILE__, __LINE__,
                                                  "writing %llu bytes failed", (unsigned long long)n), f->path);
        }
        p += r;
        off += (uint64_t)r;
        n -= (uint64_t)r;
    }
    return QN_OK;
}

qn_code qn_file_sync(const qn_file *f, qn_err *err)
{
    int r;
    do
        r = f->fs->sync(f->fs->ctx, f->fd);
    while (r == -EINTR);
    return r < 0 ? fail_path(err, r, f->path, "writing to the disk failed") : QN_OK;
}

qn_code qn_file_truncate(const qn_file *f, uint64_t n_bytes, qn_err *err)
{
    int r;
    do
        r = f->fs->truncate(f->fs->ctx, f->fd, n_bytes);
    while (r == -EINTR);
    return r < 0 ? fail_path(err, r, f->path, "its length cannot be set") : QN_OK;
}

qn_code qn_file_reserve(const qn_file *f, uint64_t n_bytes, qn_err *err)
{
    int r;
    do
        r = f->fs->reserve(f->fs->ctx, f->fd, n_bytes);
    while (r == -EINTR);
    if (r == -ENOSPC || r == -EFBIG || r == -EDQUOT)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "%llu bytes are needed", (unsigned long long)n_bytes), f->path);
    return QN_OK;
}

qn_code qn_file_lock(const qn_file *f, bool *held, qn_err *err)
{
    int r;
    do
        r = f->fs->lock(f->fs->ctx, f->fd);
    while (r == -EINTR);
    *held = r != -EWOULDBLOCK;
    if (r < 0 && r != -EWOULDBLOCK && r != -ENOSYS && r != -EOPNOTSUPP && r != -ENOLCK && r != -EINVAL)
        return fail_path(err, r, f->path, "cannot be locked");
    return QN_OK;
}

static int stat_call(const qn_fs *fs, const char *path, qn_stat *st)
{
    int r;
    do
        r = fs->stat(fs->ctx, path, st);
    while (r == -EINTR);
    return r;
}

qn_code qn_fs_stat(const qn_fs *fs, const char *path, qn_stat *st, qn_err *err)
{
    const int r = stat_call(fs, path, st);
    return r < 0 ? fail_path(err, r, path, "cannot be opened") : QN_OK;
}

qn_code qn_fs_find(const qn_fs *fs, const char *path, qn_stat *st, bool *there, qn_err *err)
{
    const int r = stat_call(fs, path, st);
    *there = r == 0;
    return r < 0 && r != -ENOENT && r != -ENOTDIR ? fail_path(err, r, path, "cannot be looked at") : QN_OK;
}

bool qn_fs_exists(const qn_fs *fs, const char *path)
{
    qn_stat st;
    return stat_call(fs, path, &st) == 0;
}

qn_code qn_fs_rename(const qn_fs *fs, const char *from, const char *to, qn_err *err)
{
    const int r = fs->rename(fs->ctx, from, to);
    return r < 0 ? fail_path(err, r, to, "cannot be given its final name") : QN_OK;
}

static qn_code sync_dir(const qn_fs *fs, const char *dir, qn_err *err)
{
    int r;
    do
        r = fs->sync_dir(fs->ctx, dir);
    while (r == -EINTR);
    if (r < 0 && r != -EINVAL && r != -ENOTSUP) /* some file systems have nothing to sync there */
        return fail_path(err, r, dir, "writing the folder to the disk failed");
    return QN_OK;
}

qn_code qn_fs_sync_parent(const qn_fs *fs, const qn_alloc *alloc, const char *path, qn_err *err)
{
    char *dir = qn_path_dir(alloc, path, err);
    const qn_code rc = dir ? sync_dir(fs, dir, err) : QN_E_MEMORY;
    qn_mem_put(alloc, dir);
    return rc;
}

qn_code qn_fs_publish(const qn_fs *fs, const qn_alloc *alloc, const char *from, const char *to, qn_err *err)
{
    char *dir = qn_path_dir(alloc, to, err); /* before the rename, after which nothing but the disk may fail */
    qn_code rc = dir ? qn_fs_rename(fs, from, to, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = sync_dir(fs, dir, err);
    qn_mem_put(alloc, dir);
    return rc;
}

qn_code qn_fs_check_target(const qn_fs *fs, const char *path, bool overwrite, qn_err *err)
{
    qn_stat st;
    bool there;
    QN_TRY(qn_fs_find(fs, path, &st, &there, err));
    if (there && st.is_dir)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is a folder: name the file to write"), path);
    if (there && !overwrite)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "exists: give --force to replace it"), path);
    return QN_OK;
}
