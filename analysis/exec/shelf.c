/* shelf.c: see shelf.h. */
#include "analysis/exec/shelf.h"
#include "base/err.h"
#include <string.h>

qn_code qn_shelf_open(qn_shelf *s, const qn_env *env, qn_pool *pool, uint64_t n_slots, bool spill, qn_err *err)
{
    *s = (qn_shelf){.env = env, .pool = pool, .n_slots = n_slots, .spill = spill, .file = QN_FILE_CLOSED};
    s->slots = qn_mem_zeros(env->alloc, n_slots + 1, sizeof *s->slots, err);
    s->offs = s->slots ? qn_mem_zeros(env->alloc, n_slots + 1, sizeof *s->offs, err) : NULL;
    qn_code rc = s->offs ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK && spill)
        rc = qn_file_open_unnamed(&s->file, env->fs, env->alloc, env->tmp_dir, err);
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
