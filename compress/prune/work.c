/* work.c: where a pruned checkpoint grows. */
#include "compress/prune/work.h"
#include "base/err.h"
#include "base/path.h"
#include <errno.h>
#include <string.h>

qn_code qn_prune_work_check(const qn_env *env, const char *out, bool folder, bool overwrite, qn_err *err)
{
    qn_stat st;
    bool there;
    QN_TRY(qn_fs_find(env->fs, out, &st, &there, err));
    if (!there)
        return QN_OK;
    if (st.is_dir != folder)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is a %s, but a %s is written", st.is_dir ? "folder" : "file",
                                           folder ? "folder" : "file"), out);
    if (!overwrite)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "exists: give --force to replace it"), out);
    if (!folder)
        return QN_OK;
    /* A whole folder is taken away: it had better be a model. */
    char *config = qn_path_join(env->alloc, out, "config.json", err);
    if (!config)
        return QN_E_MEMORY;
    const bool model = qn_fs_exists(env->fs, config);
    qn_mem_put(env->alloc, config);
    return model ? QN_OK : qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is a folder without a config.json: it is not replaced"),
                                          out);
}

qn_code qn_prune_work_open(qn_prune_work *w, const qn_env *env, const char *out, qn_err *err)
{
    QN_TRY(qn_tmptree_open(&w->tree, env, out, ".quern-prune", err));
    const int made = env->fs->mkdir(env->fs->ctx, w->tree.data);
    if (made != 0)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -made, "folder cannot be created"), w->tree.data);
    w->prepared = qn_path_join(env->alloc, w->tree.data, "prepared-model.onnx", err);
    char *name = qn_path_last(env->alloc, out, err);
    w->result = name ? qn_path_join(env->alloc, w->tree.data, name, err) : NULL;
    qn_mem_put(env->alloc, name);
    return w->prepared && w->result ? QN_OK : QN_E_MEMORY;
}

qn_code qn_prune_work_publish(qn_prune_work *w, const char *out, bool folder, bool overwrite, qn_err *err)
{
    const qn_env *env = w->tree.env;
    QN_TRY(qn_prune_work_check(env, out, folder, overwrite, err));
    if (folder && qn_fs_exists(env->fs, out)) {
        char *old = qn_path_join(env->alloc, w->tree.data, "replaced", err);
        const qn_code rc = old ? qn_fs_rename(env->fs, out, old, err) : QN_E_MEMORY;
        qn_mem_put(env->alloc, old);
        QN_TRY(rc);
    }
    char *data = qn_path_cat(env->alloc, w->result, ".data", err), *out_data = qn_path_cat(env->alloc, out, ".data", err);
    qn_code rc = data && out_data ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK && !folder && qn_fs_exists(env->fs, data))
        rc = qn_fs_publish(env->fs, env->alloc, data, out_data, err);
    qn_mem_put(env->alloc, data);
    qn_mem_put(env->alloc, out_data);
    return rc == QN_OK ? qn_fs_publish(env->fs, env->alloc, w->result, out, err) : rc;
}

void qn_prune_work_close(qn_prune_work *w)
{
    if (!w->tree.env)
        return;
    const qn_alloc *alloc = w->tree.env->alloc;
    qn_mem_put(alloc, w->prepared);
    qn_mem_put(alloc, w->result);
    qn_tmptree_close(&w->tree);
    *w = (qn_prune_work){0};
}

struct sum {
    const qn_env *env;
    const char *dir;
    uint64_t n_bytes;
};

static int add_entry(void *ctx, const char *name)
{
    struct sum *s = ctx;
    char *path = qn_path_join(s->env->alloc, s->dir, name, NULL);
    qn_stat st;
    if (!path)
        return -ENOMEM;
    int r = s->env->fs->stat(s->env->fs->ctx, path, &st);
    if (r == 0 && st.is_dir) {
        struct sum below = {.env = s->env, .dir = path};
        r = s->env->fs->list(s->env->fs->ctx, path, add_entry, &below);
        s->n_bytes += below.n_bytes;
    } else if (r == 0) {
        s->n_bytes += st.n_bytes;
    }
    qn_mem_put(s->env->alloc, path);
    return r;
}

qn_code qn_prune_work_bytes(const qn_env *env, const char *path, uint64_t *n_bytes, qn_err *err)
{
    qn_stat st;
    QN_TRY(qn_fs_stat(env->fs, path, &st, err));
    *n_bytes = st.n_bytes;
    if (!st.is_dir) {
        char *data = qn_path_cat(env->alloc, path, ".data", err);
        bool there = false;
        const qn_code rc = data ? qn_fs_find(env->fs, data, &st, &there, err) : QN_E_MEMORY;
        if (rc == QN_OK && there)
            *n_bytes += st.n_bytes;
        qn_mem_put(env->alloc, data);
        return rc;
    }
    struct sum s = {.env = env, .dir = path};
    const int r = env->fs->list(env->fs->ctx, path, add_entry, &s);
    *n_bytes = s.n_bytes;
    return r == 0 ? QN_OK : qn_err_in_path(err, QN_FAIL_SYS(err, -r, "folder cannot be read"), path);
}
