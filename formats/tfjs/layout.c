/* layout.c (tfjs): where the weights of a manifest lie in its files: objects of the files, tensors of the source.
 *
 * A weight that lies whole in one file is an object there, of the dtype its bytes have. Strings, and parts of weights that lie
 * in several files, are blobs. */
#include "base/err.h"
#include "base/num.h"
#include "formats/tfjs/tfjs.h"
#include <string.h>

void qn_tfjs_release(qn_tfjs_model *m)
{
    if (!m)
        return;
    const qn_alloc *a = m->s->env->alloc;
    qn_mem_put(a, m->groups);
    qn_mem_put(a, m->shards);
    qn_mem_put(a, m->weights);
    qn_mem_put(a, m->paths.slots);
    *m = (qn_tfjs_model){.s = m->s};
}

static const char *shard_path(const void *ctx, uint32_t item)
{
    return ((const qn_tfjs_model *)ctx)->shards[item].path;
}

qn_tfjs_shard *qn_tfjs_find_shard(const qn_tfjs_model *m, const char *path)
{
    const uint32_t i = qn_names_find(&m->paths, path, shard_path, m);
    return i == QN_NAMES_NONE ? NULL : &m->shards[i];
}

static qn_code index_shards(qn_tfjs_model *m, qn_err *err)
{
    const uint64_t n_slots = qn_names_slots(m->n_shards);
    qn_name_slot *slots = qn_mem_zeros(m->s->env->alloc, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_names_init(&m->paths, slots, n_slots);
    for (uint64_t i = 0; i < m->n_shards; i++)
        if (qn_names_add(&m->paths, m->shards[i].path, (uint32_t)i, shard_path, m) != QN_NAMES_NONE)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "weightsManifest: '%.200s' stands twice in paths", m->shards[i].path);
    return QN_OK;
}

static qn_code size_shards(qn_tfjs_model *m, const char *dir, qn_err *err)
{
    const qn_env *env = m->s->env;
    bool ovf = false;
    for (uint64_t i = 0; i < m->n_shards; i++) {
        qn_tfjs_shard *h = &m->shards[i];
        qn_tfjs_group *g = &m->groups[h->group];
        qn_stat st;
        char *path = qn_path_join(env->alloc, dir, h->path, err);
        qn_code rc = path ? qn_fs_stat(env->fs, path, &st, err) : QN_E_MEMORY;
        if (rc == QN_OK && !st.is_regular)
            rc = qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is no file: weightsManifest names it"), path);
        qn_mem_put(env->alloc, path);
        QN_TRY(rc);
        h->off = g->n_bytes;
        h->n_bytes = st.n_bytes;
        g->n_bytes = qn_add(g->n_bytes, st.n_bytes, &ovf);
    }
    return ovf ? QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "files of more than 2^64 bytes") : QN_OK;
}

/* ---- strings have no length of their own: u32 bytes, text, for each element. Files are not in the source yet ---- */

struct strings {
    const qn_tfjs_model *m;
    const char *dir;
    uint64_t shard; /* that is open, or UINT64_MAX */
    qn_file file;
};

static qn_code read_shards(struct strings *r, const qn_tfjs_group *g, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    const qn_env *env = r->m->s->env;
    for (uint64_t i = g->first_shard; i < g->first_shard + g->n_shards && n > 0; i++) {
        const qn_tfjs_shard *h = &r->m->shards[i];
        if (off >= h->off + h->n_bytes)
            continue;
        if (r->shard != i) {
            char *path = qn_path_join(env->alloc, r->dir, h->path, err);
            qn_file_drop(&r->file);
            r->shard = UINT64_MAX;
            const qn_code rc = path ? qn_file_open(&r->file, env->fs, env->alloc, path, QN_OPEN_READ, err) : QN_E_MEMORY;
            qn_mem_put(env->alloc, path);
            QN_TRY(rc);
            r->shard = i;
        }
        const uint64_t take = qn_min_u64(n, h->off + h->n_bytes - off);
        QN_TRY(qn_file_read(&r->file, dst, take, off - h->off, err));
        dst += take;
        off += take;
        n -= take;
    }
    return QN_OK;
}

static qn_code measure_strings(struct strings *r, qn_tfjs_weight *w, qn_err *err)
{
    enum { WINDOW = 64 << 10 };
    const qn_tfjs_group *g = &r->m->groups[w->group];
    const uint64_t room = g->n_bytes - w->off; /* off ≤ n_bytes: checked */
    uint64_t at = w->off, win_at = 0, win_n = 0;
    if (w->n_elems > room / 4)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%llu strings do not fit into the %llu bytes that are left",
                       (unsigned long long)w->n_elems, (unsigned long long)room);
    uint8_t *win = qn_mem_get(r->m->s->env->alloc, WINDOW, err);
    qn_code rc = win ? QN_OK : QN_E_MEMORY;
    for (uint64_t i = 0; i < w->n_elems && rc == QN_OK; i++) {
        if (g->n_bytes - at < 4) {
            rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the data end before string %llu", (unsigned long long)i);
            break;
        }
        if (at < win_at || at + 4 > win_at + win_n) {
            win_at = at;
            win_n = qn_min_u64(WINDOW, g->n_bytes - at);
            rc = qn_env_check(r->m->s->env, err);
            if (rc == QN_OK)
                rc = read_shards(r, g, win_at, win_n, win, err);
            if (rc != QN_OK)
                break;
        }
        const uint64_t n = qn_load32(win + (at - win_at));
        at += 4;
        if (n > g->n_bytes - at)
            rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "string %llu of %llu bytes: %llu are left", (unsigned long long)i,
                         (unsigned long long)n, (unsigned long long)(g->n_bytes - at));
        else
            at += n;
    }
    qn_mem_put(r->m->s->env->alloc, win);
    w->n_bytes = at - w->off;
    return rc;
}

static qn_code place_group(struct strings *r, uint64_t i, qn_err *err)
{
    const qn_tfjs_model *m = r->m;
    const qn_tfjs_group *g = &m->groups[i];
    uint64_t at = 0;
    for (uint64_t k = g->first_weight; k < g->first_weight + g->n_weights; k++) {
        qn_tfjs_weight *w = &m->weights[k];
        w->off = at;
        if (w->dtype == QN_BYTES)
            QN_TRY(qn_err_in_tensor(err, measure_strings(r, w, err), w->name));
        if (w->n_bytes > g->n_bytes - at)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "needs %llu bytes: %llu are left in the files "
                                                 "of its group", (unsigned long long)w->n_bytes,
                                                 (unsigned long long)(g->n_bytes - at)), w->name);
        at += w->n_bytes;
    }
    if (at < g->n_bytes)
        qn_source_warn(m->s, "%s: %llu bytes behind the last weight of group %llu are kept but belong to no tensor", m->s->path,
                       (unsigned long long)(g->n_bytes - at), (unsigned long long)(i + 1));
    return QN_OK;
}

qn_code qn_tfjs_place(qn_tfjs_model *m, const char *dir, qn_err *err)
{
    QN_TRY(index_shards(m, err));
    QN_TRY(size_shards(m, dir, err));
    struct strings r = {.m = m, .dir = dir, .shard = UINT64_MAX, .file = QN_FILE_CLOSED};
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < m->n_groups && rc == QN_OK; i++)
        rc = place_group(&r, i, err);
    qn_file_drop(&r.file);
    return rc;
}

/* ---- objects and tensors ---- */

static qn_code add_blob(qn_source *s, uint64_t from, uint64_t to, qn_err *err)
{
    return from == to ? QN_OK : qn_fileset_add_object(s, &(qn_object){.name = "", .off = from, .n_bytes = to - from}, err);
}

static uint8_t lies_as(const qn_tfjs_weight *w)
{
    static const uint8_t as[] = {0, QN_U8, QN_U16, QN_F16};
    return w->kind == QN_TFJS_PLAIN ? w->dtype : as[w->kind];
}

/* The first weight of the group that ends behind `off`: they lie in order. */
static uint64_t first_behind(const qn_tfjs_model *m, const qn_tfjs_group *g, uint64_t off)
{
    uint64_t lo = g->first_weight, hi = g->first_weight + g->n_weights;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (m->weights[mid].off + m->weights[mid].n_bytes <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

qn_code qn_tfjs_add_shard(qn_tfjs_model *m, qn_tfjs_shard *h, qn_err *err)
{
    qn_source *s = m->s;
    const qn_tfjs_group *g = &m->groups[h->group];
    h->file = (uint32_t)(s->n_files - 1);
    if (s->files[h->file].n_bytes != h->n_bytes)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "has changed while it was read"), s->files[h->file].path);
    uint64_t at = 0;
    for (uint64_t k = first_behind(m, g, h->off); k < g->first_weight + g->n_weights; k++) {
        qn_tfjs_weight *w = &m->weights[k];
        if (w->off >= h->off + h->n_bytes)
            break;
        if (w->n_bytes == 0 || w->dtype == QN_BYTES || w->off < h->off || w->n_bytes > h->off + h->n_bytes - w->off)
            continue;
        QN_TRY(add_blob(s, at, w->off - h->off, err));
        w->object = s->n_objects;
        at = w->off - h->off;
        QN_TRY(qn_fileset_add_object(s, &(qn_object){.name = w->object_name, .dims = w->dims, .n_bytes = w->n_bytes, .off = at,
                                                     .kind = QN_OBJECT_TENSOR, .dtype = lies_as(w), .rank = w->rank}, err));
        at += w->n_bytes;
    }
    return add_blob(s, at, h->n_bytes, err);
}

qn_code qn_tfjs_list(qn_tfjs_model *m, qn_err *err)
{
    qn_source *s = m->s;
    uint64_t n_strings = 0;
    for (uint64_t i = 0; i < m->n_shards; i++)
        if (m->shards[i].file == UINT32_MAX)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "weightsManifest names '%.200s', which is not among the files of the model",
                           m->shards[i].path);
    for (uint64_t i = 0; i < m->n_weights; i++) {
        const qn_tfjs_weight *w = &m->weights[i];
        const qn_tfjs_group *g = &m->groups[w->group];
        uint64_t n_elems, n_bytes, shard = g->first_shard;
        n_strings += w->dtype == QN_BYTES;
        if (w->dtype == QN_BYTES)
            continue;
        while (shard + 1 < g->first_shard + g->n_shards && w->off >= m->shards[shard].off + m->shards[shard].n_bytes)
            shard++;
        (void)qn_shape_bytes((qn_dtype)w->dtype, w->dims, w->rank, &n_elems, &n_bytes); /* passed already */
        const qn_source_tensor t = {.name = w->name, .dims = w->dims, .n_bytes = n_bytes,
                                    .object = w->kind == QN_TFJS_PLAIN ? w->object : QN_NO_OBJECT, .dtype = w->dtype, .rank = w->rank};
        QN_TRY(qn_fileset_add_made(s, &t, qn_tfjs_read_weight, w, err));
        s->tensors[s->n_tensors - 1].file = shard < g->first_shard + g->n_shards ? m->shards[shard].file : 0;
    }
    if (n_strings)
        qn_source_warn(s, "%s: %llu weight%s of strings: kept, but no tensor%s", s->path, (unsigned long long)n_strings,
                       n_strings == 1 ? "" : "s", n_strings == 1 ? "" : "s");
    return QN_OK;
}
