/* lockfile.c: see lockfile.h. */
#include "compress/lockfile.h"
#include "base/err.h"
#include <errno.h>

enum { TRIES = 100 };

static qn_code open_or_create(qn_file *f, const qn_env *env, const char *path, bool *is_new, qn_err *err)
{
    for (int i = 0;; i++) {
        qn_err why;
        qn_err_clear(&why);
        *is_new = i % 2;
        const qn_code rc = qn_file_open(f, env->fs, env->alloc, path,
                                        *is_new ? QN_OPEN_NEW : QN_OPEN_RDWR | QN_OPEN_NOFOLLOW, &why);
        if (rc == QN_OK)
            return QN_OK;
        /* it may come and go between two calls */
        if (i < TRIES && why.sys == (*is_new ? EEXIST : ENOENT))
            continue;
        if (err && err->code == QN_OK)
            *err = why;
        return rc;
    }
}

static qn_code still_named(const qn_file *f, bool *yes, qn_err *err)
{
    qn_stat mine, named;
    QN_TRY(qn_file_stat(f, &mine, err));
    QN_TRY(qn_fs_find(f->fs, f->path, &named, yes, err));
    *yes = *yes && mine.dev == named.dev && mine.ino == named.ino;
    return QN_OK;
}

qn_code qn_lockfile_open(qn_file *f, const qn_env *env, const char *path, bool *is_new, qn_err *err)
{
    bool held = true;
    for (int i = 0; i < TRIES && held; i++) {
        bool named = false;
        QN_TRY(open_or_create(f, env, path, is_new, err));
        qn_code rc = qn_file_lock(f, &held, err);
        if (rc == QN_OK && held)
            rc = still_named(f, &named, err);
        if (rc == QN_OK && named)
            return QN_OK;
        if (rc != QN_OK && *is_new)
            (void)env->fs->unlink(env->fs->ctx, path);
        qn_file_drop(f);
        if (rc != QN_OK)
            return rc;
    }
    return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "another run is writing this output"), path);
}
