/* tmptree.c: see tmptree.h. */
#include "compress/tmptree.h"
#include "base/alloc.h"
#include "base/err.h"
#include "base/path.h"
#include "compress/lockfile.h"
#include <errno.h>
#include <string.h>

enum { DEPTH_MAX = 20, ROUNDS_MAX = 1000, TRIES = 100 };

struct removal {
    const qn_env *env;
    const char *dir;
    unsigned depth;
    uint64_t n;
};

static int remove_tree(const qn_env *env, const char *path, unsigned depth);

static int remove_entry(void *ctx, const char *name)
{
    struct removal *r = ctx;
    char *path = qn_path_join(r->env->alloc, r->dir, name, NULL);
    const int rc = path ? remove_tree(r->env, path, r->depth + 1) : -ENOMEM;
    qn_mem_put(r->env->alloc, path);
    r->n++;
    return rc;
}

/* Never follows a symlink: unlink removes the link itself. */
static int remove_tree(const qn_env *env, const char *path, unsigned depth)
{
    const qn_fs *fs = env->fs;
    const int r = fs->unlink(fs->ctx, path);
    if ((r != -EISDIR && r != -EPERM) || depth > DEPTH_MAX)
        return r == -ENOENT ? 0 : r;
    /* a listing may skip entries while others are removed: until one finds nothing */
    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct removal sub = {.env = env, .dir = path, .depth = depth};
        const int listed = fs->list(fs->ctx, path, remove_entry, &sub);
        if (listed != 0)
            return listed;
        if (sub.n == 0)
            break;
    }
    return fs->rmdir(fs->ctx, path);
}

static int is_strange(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "lock") != 0 && strcmp(name, "data") != 0;
}

/* A folder that someone else has given this name is not ours to empty. */
static qn_code make_or_adopt(const qn_tmptree *t, qn_err *err)
{
    const qn_fs *fs = t->env->fs;
    const int made = fs->mkdir(fs->ctx, t->path);
    if (made == 0)
        return QN_OK;
    if (made != -EEXIST)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -made, "folder cannot be created"), t->path);
    const int r = fs->list(fs->ctx, t->path, is_strange, NULL);
    if (r < 0 && r != -ENOTDIR && r != -ENOENT)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "folder cannot be read"), t->path);
    return r == 0 || r == -ENOENT ? QN_OK : qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is in the way and not ours: move it"),
                                           t->path);
}

/* A run that ends takes the folder away: perhaps between our two steps. */
static qn_code make_and_lock(qn_tmptree *t, qn_err *err)
{
    for (int i = 0;; i++) {
        bool is_new;
        qn_err why;
        qn_err_clear(&why);
        QN_TRY(make_or_adopt(t, err));
        const qn_code rc = qn_lockfile_open(&t->lock, t->env, t->lock_path, &is_new, &why);
        if (rc == QN_OK)
            return QN_OK;
        (void)t->env->fs->rmdir(t->env->fs->ctx, t->path); /* does nothing unless it is empty */
        if (rc == QN_E_IO && why.sys == ENOENT && i < TRIES)
            continue;
        if (err && err->code == QN_OK)
            *err = why;
        return rc;
    }
}

static qn_code open_in(qn_tmptree *t, qn_err *err)
{
    t->lock_path = qn_path_join(t->env->alloc, t->path, "lock", err);
    t->data = qn_path_join(t->env->alloc, t->path, "data", err);
    if (!t->lock_path || !t->data)
        return QN_E_MEMORY;
    QN_TRY(make_and_lock(t, err));
    t->open = true;
    const int r = remove_tree(t->env, t->data, 0);
    if (r < 0)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "left by an earlier run, cannot be removed"), t->data);
    return QN_OK;
}

qn_code qn_tmptree_open(qn_tmptree *t, const qn_env *env, const char *out_path, const char *suffix, qn_err *err)
{
    *t = (qn_tmptree){.env = env, .lock = QN_FILE_CLOSED};
    size_t n = strlen(out_path);
    t->path = qn_path_cat(env->alloc, out_path, suffix, err);
    if (!t->path)
        return QN_E_MEMORY;
    while (n > 1 && t->path[n - 1] == '/') /* "out/" and "out" are one folder */
        n--;
    memcpy(t->path + n, suffix, strlen(suffix) + 1);
    return open_in(t, err);
}

void qn_tmptree_close(qn_tmptree *t)
{
    if (!t->env)
        return;
    const qn_fs *fs = t->env->fs;
    if (t->open && remove_tree(t->env, t->data, 0) == 0) {
        (void)fs->unlink(fs->ctx, t->lock_path);
        (void)fs->rmdir(fs->ctx, t->path);
    }
    qn_file_drop(&t->lock);
    qn_mem_put(t->env->alloc, t->path);
    qn_mem_put(t->env->alloc, t->lock_path);
    qn_mem_put(t->env->alloc, t->data);
    *t = (qn_tmptree){0};
}
