/* inputs.c: see inputs.h. */
#include "compress/inputs.h"
#include "base/err.h"
#include <string.h>

struct qn_input {
    char *path; /* owned */
    qn_stat st;
};

static qn_code add(qn_inputs *in, const char *dir, const char *name, qn_err *err)
{
    const qn_alloc *a = in->env->alloc;
    struct qn_input *p = qn_mem_grow(a, in->items, in->n, &in->cap, in->n + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    in->items = p;
    p += in->n;
    p->path = name ? qn_path_join(a, dir, name, err) : qn_path_cat(a, dir, "", err);
    if (!p->path)
        return QN_E_MEMORY;
    in->n++;
    return qn_fs_stat(in->env->fs, p->path, &p->st, err);
}

static qn_code changed(const char *path, qn_err *err)
{
    return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "has changed while it was read"), path);
}

qn_code qn_inputs_add(qn_inputs *in, const qn_env *env, const qn_source *src, qn_err *err)
{
    qn_stat st;
    in->env = env;
    if (src->bundle) /* its members cannot change by themselves */
        return add(in, src->bundle, NULL, err);
    QN_TRY(qn_fs_stat(env->fs, src->path, &st, err));
    /* the files of a .quern are inside it; everywhere else they are what is read */
    const bool inside = strcmp(src->ops->format, "quern") == 0;
    if (!st.is_dir) {
        QN_TRY(add(in, src->path, NULL, err));
        return inside || st.n_bytes == src->files[0].n_bytes ? QN_OK : changed(src->path, err);
    }
    for (uint64_t i = 0; i < src->n_files; i++) {
        QN_TRY(add(in, src->path, src->files[i].path, err));
        if (in->items[in->n - 1].st.n_bytes != src->files[i].n_bytes)
            return changed(in->items[in->n - 1].path, err);
    }
    return QN_OK;
}

qn_code qn_inputs_refuse(const qn_inputs *in, const char *path, qn_err *err)
{
    qn_stat st;
    bool there;
    QN_TRY(qn_fs_find(in->env->fs, path, &st, &there, err));
    for (uint64_t i = 0; there && i < in->n; i++)
        if (st.dev == in->items[i].st.dev && st.ino == in->items[i].st.ino)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                                               "is an input, and would be overwritten on the way: give the output "
                                               "another name"), path);
    return QN_OK;
}

qn_code qn_inputs_unchanged(const qn_inputs *in, qn_err *err)
{
    for (uint64_t i = 0; i < in->n; i++) {
        const qn_stat *was = &in->items[i].st;
        qn_stat st;
        QN_TRY(qn_fs_stat(in->env->fs, in->items[i].path, &st, err));
        if (st.dev != was->dev || st.ino != was->ino || st.n_bytes != was->n_bytes || st.mtime_ns != was->mtime_ns)
            return changed(in->items[i].path, err);
    }
    return QN_OK;
}

void qn_inputs_release(qn_inputs *in)
{
    const qn_alloc *a = in->env ? in->env->alloc : NULL;
    for (uint64_t i = 0; i < in->n; i++)
        qn_mem_put(a, in->items[i].path);
    qn_mem_put(a, in->items);
    *in = (qn_inputs){0};
}
