/* place.c: see place.h. Files and folders are told apart by device and inode, so links cannot hide them. */
#include "compress/place.h"
#include "base/err.h"

/* The parent of a folder that may be given through symlinks: the file system's own, not the name's. Frees dir. */
static char *parent_of(const qn_alloc *alloc, char *dir, qn_err *err)
{
    char *up = qn_path_join(alloc, dir, "..", err);
    qn_mem_put(alloc, dir);
    return up;
}

qn_code qn_place_outside(const qn_source *src, const char *path, qn_err *err)
{
    enum { LEVELS = 64 };
    const qn_fs *fs = src->env->fs;
    const qn_alloc *alloc = src->env->alloc;
    qn_stat top, at, below = {0};
    if (!src->whole_dir || fs->stat(fs->ctx, src->path, &top) != 0)
        return QN_OK;
    char *dir = qn_path_dir(alloc, path, err);
    qn_code rc = QN_OK;
    for (unsigned i = 0; i < LEVELS && dir && fs->stat(fs->ctx, dir, &at) == 0; i++) {
        if (at.dev == top.dev && at.ino == top.ino) {
            rc = qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "lies in the folder that is to be packed: give "
                                                                            "the output another place"), path);
            break;
        }
        if (at.dev == below.dev && at.ino == below.ino)
            break; /* the root is its own parent */
        below = at;
        dir = parent_of(alloc, dir, err);
    }
    if (!dir)
        rc = QN_E_MEMORY;
    qn_mem_put(alloc, dir);
    return rc;
}
