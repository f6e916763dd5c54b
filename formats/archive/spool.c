/* spool.c: see spool.h. */
#include "formats/archive/spool.h"
#include "base/alloc.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

void qn_spool_init(qn_spool *sp, const qn_env *env)
{
    const uint64_t most = UINT64_C(16) << 20;
    *sp = (qn_spool){.env = env, .file = QN_FILE_CLOSED};
    sp->memory_max = env->memory_bytes ? qn_min_u64(most, env->memory_bytes / 8) : most;
}

void qn_spool_release(qn_spool *sp)
{
    qn_mem_put(sp->env->alloc, sp->mem);
    qn_file_drop(&sp->file);
    sp->mem = NULL;
}

qn_code qn_spool_append(qn_spool *sp, const void *p, uint64_t n, qn_err *err)
{
    if (sp->file.fd < 0 && n <= sp->memory_max - sp->n_bytes) {
        uint8_t *mem = qn_mem_grow(sp->env->alloc, sp->mem, sp->n_bytes, &sp->cap, sp->n_bytes + n, 1, err);
        if (!mem)
            return QN_E_MEMORY;
        sp->mem = mem;
        memcpy(mem + sp->n_bytes, p, n);
        sp->n_bytes += n;
        return QN_OK;
    }
    if (sp->file.fd < 0) {
        QN_TRY(qn_file_open_unnamed(&sp->file, sp->env->fs, sp->env->alloc, sp->env->tmp_dir, err));
        QN_TRY(qn_file_write(&sp->file, sp->mem, sp->n_bytes, 0, err));
        qn_mem_put(sp->env->alloc, sp->mem);
        sp->mem = NULL;
    }
    QN_TRY(qn_file_write(&sp->file, p, n, sp->n_bytes, err));
    sp->n_bytes += n;
    return QN_OK;
}

qn_code qn_spool_read(const qn_spool *sp, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    if (off > sp->n_bytes || n > sp->n_bytes - off)
        return QN_BUG(err, "read past the end of what was unpacked");
    if (sp->file.fd >= 0)
        return qn_file_read(&sp->file, dst, n, off, err);
    memcpy(dst, sp->mem + off, n);
    return QN_OK;
}
