/* shelf.c: see shelf.h. */
#include "analysis/exec/shelf.h"
#include "base/err.h"
#include "base/num.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { NAMES_TRIED = 1000 };

/* A file that has no name any more: gone with the process, however it ends. The name lives for a moment only, so one that
 * is taken belongs to a run that does the same just now, or to one that was killed in that moment. */
static qn_code open_spill(qn_shelf *s, const char *dir, qn_err *err)
{
    char path[4096];
    if (!dir)
        dir = s->env->tmp_dir && *s->env->tmp_dir ? s->env->tmp_dir : "/tmp";
    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        const int n = snprintf(path, sizeof path, "%s/quern-spill.%u", dir, i);
        if (n < 0 || (size_t)n >= sizeof path)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the path of the temporary folder is too long");
        qn_err why = {.off = QN_NO_OFFSET};
        const qn_code rc = qn_file_open(&s->file, s->env->fs, s->env->alloc, path, QN_OPEN_NEW, &why);
        if (rc != QN_OK && why.sys == EEXIST && i + 1 < NAMES_TRIED)
            continue;
        if (rc != QN_OK) {
            if (err && err->code == QN_OK)
                *err = why;
            return rc;
        }
        s->env->fs->unlink(s->env->fs->ctx, path);
        return QN_OK;
    }
    return QN_BUG(err, "no name for a temporary file");
}

qn_code qn_shelf_open(qn_shelf *s, const qn_env *env, qn_pool *pool, uint64_t n_slots, bool spill, const char *tmp_dir, qn_err *err)
{
    *s = (qn_shelf){.env = env, .pool = pool, .n_slots = n_slots, .spill = spill, .file = QN_FILE_CLOSED};
    s->slots = qn_mem_zeros(env->alloc, n_slots + 1, sizeof *s->slots, err);
    s->offs = s->slots ? qn_mem_zeros(env->alloc, n_slots + 1, sizeof *s->offs, err) : NULL;
    qn_code rc = s->offs ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK && spill)
        rc = open_spill(s, tmp_dir, err);
    if (rc != QN_OK)
        qn_shelf_close(s);
    return rc;
}

qn_code qn_shelf_put(qn_shelf *s, uint64_t slot, qn_array *a, qn_err *err)
{
    qn_array_release(&s->slots[slot]);
    if (!s->spill) {
        s->slots[slot] = *a;
        memset(a, 0, sizeof *a);
        return QN_OK;
    }
    const uint64_t n_bytes = qn_array_bytes(a);
    s->offs[slot] = s->end_off;
    const qn_code rc = qn_file_write(&s->file, a->data, n_bytes, s->end_off, err);
    s->end_off += n_bytes;
    s->slots[slot] = *a;
    s->slots[slot].buffer = NULL;
    s->slots[slot].data = NULL;
    qn_array_release(a);
    return rc;
}

qn_code qn_shelf_get(qn_shelf *s, uint64_t slot, qn_array *a, qn_err *err)
{
    const qn_array *have = &s->slots[slot];
    if (!s->spill || have->dtype == QN_BYTES) {
        qn_array_share(have, a);
        return QN_OK;
    }
    QN_TRY(qn_array_new(s->pool, a, (qn_dtype)have->dtype, have->dims, have->rank, err));
    const qn_code rc = qn_file_read(&s->file, a->data, qn_array_bytes(a), s->offs[slot], err);
    if (rc != QN_OK)
        qn_array_release(a);
    return rc;
}

void qn_shelf_close(qn_shelf *s)
{
    if (!s->env)
        return;
    for (uint64_t i = 0; s->slots && i < s->n_slots; i++)
        qn_array_release(&s->slots[i]);
    qn_mem_put(s->env->alloc, s->slots);
    qn_mem_put(s->env->alloc, s->offs);
    if (s->file.fd >= 0)
        qn_file_drop(&s->file);
    *s = (qn_shelf){.file = QN_FILE_CLOSED};
}
