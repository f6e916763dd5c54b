/* write.c: see write.h. The order of calls is the point: payloads and index are on the disk before the footer that vouches
 * for them is written, and the footer before the next block begins. */
#include "analysis/stats/write.h"
#include "analysis/stats/write_impl.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "base/path.h"
#include <math.h>

static const char *key_of(const void *ctx, uint32_t item)
{
    return ((const qn_stats_writer *)ctx)->keys[item];
}

/* ---- bytes ---- */

static qn_code flush(qn_stats_writer *w, qn_err *err)
{
    QN_TRY(qn_env_check(w->env, err));
    if (w->buf_used)
        QN_TRY(qn_file_write(&w->file, w->buf, w->buf_used, w->at, err));
    w->at += w->buf_used;
    w->buf_used = 0;
    return QN_OK;
}

/* Room for n ≤ QN_STATS_BUF_BYTES more. */
static qn_code reserve(qn_stats_writer *w, uint64_t n, qn_err *err)
{
    return n > QN_STATS_BUF_BYTES - w->buf_used ? flush(w, err) : QN_OK;
}

static qn_code put_bytes(qn_stats_writer *w, const void *p, uint64_t n, qn_err *err)
{
    const uint8_t *from = p;
    qn_hasher_add(&w->hash, p, (size_t)n);
    while (n > 0) {
        QN_TRY(reserve(w, qn_min_u64(n, QN_STATS_BUF_BYTES), err));
        const uint64_t some = qn_min_u64(n, QN_STATS_BUF_BYTES - w->buf_used);
        memcpy(w->buf + w->buf_used, from, (size_t)some);
        w->buf_used += some;
        from += some;
        n -= some;
    }
    return QN_OK;
}

static qn_code put_padding(qn_stats_writer *w, qn_err *err)
{
    static const uint8_t zeros[QN_STATS_ALIGN];
    return put_bytes(w, zeros, -(w->at + w->buf_used) % QN_STATS_ALIGN, err);
}

static qn_code put_f64s(qn_stats_writer *w, const double *v, uint64_t n, qn_err *err)
{
    uint8_t b[512];
    for (uint64_t i = 0; i < n;) {
        size_t k = 0;
        for (; k < sizeof b && i < n; k += 8, i++) {
            uint64_t bits;
            memcpy(&bits, &v[i], 8);
            qn_store64(b + k, bits);
        }
        QN_TRY(put_bytes(w, b, k, err));
    }
    return QN_OK;
}

static qn_code put_f32s(qn_stats_writer *w, const float *v, uint64_t n, qn_err *err)
{
    uint8_t b[4096];
    for (uint64_t i = 0; i < n;) {
        size_t k = 0;
        for (; k < sizeof b && i < n; k += 4, i++)
            qn_store32(b + k, qn_f32_bits(v[i]));
        QN_TRY(put_bytes(w, b, k, err));
    }
    return QN_OK;
}

/* ---- names ---- */

static qn_code rehash(qn_stats_writer *w, uint64_t n, qn_err *err)
{
    const uint64_t n_slots = qn_names_slots(n);
    if (n_slots <= w->n_slots)
        return QN_OK;
    qn_name_slot *slots = qn_mem_zeros(w->env->alloc, n_slots * 2, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_mem_put(w->env->alloc, w->slots);
    w->slots = slots;
    w->n_slots = n_slots * 2;
    qn_names_init(&w->names, slots, w->n_slots);
    for (uint64_t i = 0; i < w->n_keys; i++)
        (void)qn_names_add(&w->names, w->keys[i], (uint32_t)i, key_of, w);
    return QN_OK;
}

qn_code qn_stats_writer_add_key(qn_stats_writer *w, const char *name, uint32_t expert, qn_err *err)
{
    if (w->n_keys >= QN_NAMES_NONE - 1)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "2^32 names: fewer are allowed");
    QN_TRY(rehash(w, w->n_keys + 1, err));
    const char **keys = qn_mem_grow(w->env->alloc, w->keys, w->n_keys, &w->cap_keys, w->n_keys + 1, sizeof *keys, err);
    if (!keys)
        return QN_E_MEMORY;
    w->keys = keys;
    char *key = qn_stats_key(&w->arena, name, expert, err);
    if (!key)
        return QN_E_MEMORY;
    w->keys[w->n_keys] = key;
    if (qn_names_add(&w->names, key, (uint32_t)w->n_keys, key_of, w) != QN_NAMES_NONE)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "has statistics already"), name);
    w->n_keys++;
    return QN_OK;
}

/* ---- opening ---- */

static qn_code copy_meta(qn_stats_writer *w, const qn_stats_meta *m, qn_err *err)
{
    qn_stats_source *s = qn_arena_get(&w->arena, m->n_sources * sizeof *s, 8, err);
    qn_stats_prop *v = qn_arena_get(&w->arena, m->n_props * sizeof *v, 8, err);
    if (!s || !v)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < m->n_sources; i++) {
        s[i] = m->sources[i];
        if (!(s[i].label = qn_arena_str(&w->arena, s[i].label, strlen(s[i].label), err)))
            return QN_E_MEMORY;
    }
    for (uint32_t i = 0; i < m->n_props; i++) {
        v[i].key = qn_arena_str(&w->arena, m->props[i].key, strlen(m->props[i].key), err);
        v[i].value = qn_arena_str(&w->arena, m->props[i].value, strlen(m->props[i].value), err);
        if (!v[i].key || !v[i].value)
            return QN_E_MEMORY;
    }
    w->meta = *m;
    w->meta.sources = s;
    w->meta.props = v;
    return QN_OK;
}

static qn_code open_writer(qn_stats_writer *w, const char *path, const qn_stats_meta *meta, qn_err *err)
{
    w->path = qn_path_cat(w->env->alloc, path, "", err);
    w->partial = qn_path_cat(w->env->alloc, path, w->opt.resumable ? ".partial" : ".quern-export", err);
    w->buf = qn_mem_get(w->env->alloc, QN_STATS_BUF_BYTES, err);
    if (!w->path || !w->partial || !w->buf)
        return QN_E_MEMORY;
    QN_TRY(qn_hasher_open(&w->hash, err));
    QN_TRY(copy_meta(w, meta, err));
    QN_TRY(qn_fs_check_target(w->env->fs, w->path, w->opt.overwrite, err));
    return qn_stats_writer_open_partial(w, err);
}

qn_code qn_stats_writer_open(qn_stats_writer **out, const qn_env *env, const char *path, const qn_stats_meta *meta,
                             const qn_stats_write_options *opt, qn_err *err)
{
    qn_stats_writer *w = qn_mem_zeros(env->alloc, 1, sizeof *w, err);
    *out = NULL;
    if (!w)
        return QN_E_MEMORY;
    w->env = env;
    w->opt = *opt;
    w->file = QN_FILE_CLOSED;
    qn_arena_init(&w->arena, env->alloc);
    const qn_code rc = open_writer(w, path, meta, err);
    if (rc != QN_OK)
        qn_stats_writer_close(w);
    else
        *out = w;
    return rc;
}

uint32_t qn_stats_writer_done(const qn_stats_writer *w)
{
    return w->n_done_before;
}

/* ---- appending ---- */

static qn_code copy_input(qn_stats_writer *w, const qn_stats_input *in, qn_stats_input **out, qn_err *err)
{
    if (in->n == 0 || in->n > QN_STATS_COLUMNS_MAX || in->n_names == 0 ||
        (in->expert != QN_STATS_NO_EXPERT && in->expert > QN_STATS_EXPERT_MAX))
        return QN_BUG(err, "statistics of %lu columns and %lu names", (unsigned long)in->n, (unsigned long)in->n_names);
    qn_stats_input *list = qn_mem_grow(w->env->alloc, w->inputs, w->n_inputs, &w->cap_inputs, w->n_inputs + 1, sizeof *list,
                                       err);
    if (!list)
        return QN_E_MEMORY;
    w->inputs = list;
    qn_stats_name *names = qn_arena_get(&w->arena, in->n_names * sizeof *names, 8, err);
    if (!names)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < in->n_names; i++) {
        const char *name = in->names[i].name;
        const size_t n = strlen(name);
        if (n == 0 || n > QN_STATS_NAME_MAX || !qn_utf8_is_valid(name, n))
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "name of %zu bytes: 1 to %d of UTF-8 "
                                                 "are allowed", n, QN_STATS_NAME_MAX), name);
        QN_TRY(qn_stats_writer_add_key(w, name, in->expert, err));
        names[i].n_outputs = in->names[i].n_outputs;
        names[i].name = qn_arena_str(&w->arena, name, n, err);
        if (!names[i].name)
            return QN_E_MEMORY;
    }
    *out = &list[w->n_inputs];
    **out = *in;
    (*out)->names = names;
    (*out)->vectors_digest = (*out)->h_digest = (qn_digest){{0}};
    return QN_OK;
}

static qn_code put_vectors(qn_stats_writer *w, const qn_stats_input *in, const qn_stats_data *d, qn_err *err)
{
    QN_TRY(put_f64s(w, d->sum_sq, in->n, err));
    if (in->parts & QN_STATS_HAS_SUMS) {
        QN_TRY(put_f64s(w, d->sum, in->n, err));
        QN_TRY(put_f64s(w, d->sum_abs, in->n, err));
    }
    if (in->parts & QN_STATS_HAS_EXTREMES) {
        QN_TRY(put_f32s(w, d->min, in->n, err));
        QN_TRY(put_f32s(w, d->max, in->n, err));
    }
    for (uint32_t i = 0; i < in->n_names; i++)
        if (in->names[i].n_outputs)
            QN_TRY(put_f64s(w, d->outputs[i], in->names[i].n_outputs, err));
    return put_padding(w, err);
}

static qn_code put_h(qn_stats_writer *w, const qn_stats_input *in, const qn_stats_data *d, float *row, qn_err *err)
{
    for (uint32_t i = 0; i < in->n; i++) {
        QN_TRY(d->h_row(d->ctx, i, row, err));
        for (uint32_t j = i; j < in->n; j++)
            if (!isfinite(row[j - i]))
                return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "H of columns %lu and %lu is beyond the range of f32",
                               (unsigned long)i, (unsigned long)j);
        QN_TRY(put_f32s(w, row, in->n - i, err));
    }
    return put_padding(w, err);
}

static qn_code append(qn_stats_writer *w, const qn_stats_input *from, const qn_stats_data *d, qn_err *err)
{
    qn_stats_input *in = NULL;
    QN_TRY(copy_input(w, from, &in, err));
    qn_hasher_reset(&w->hash);
    QN_TRY(put_vectors(w, in, d, err));
    in->vectors_digest = qn_hasher_digest(&w->hash);
    if (in->parts & QN_STATS_HAS_H) {
        float *row = qn_mem_get(w->env->alloc, (uint64_t)in->n * sizeof *row, err);
        if (!row)
            return QN_E_MEMORY;
        qn_hasher_reset(&w->hash);
        const qn_code rc = qn_err_in_tensor(err, put_h(w, in, d, row, err), in->names[0].name);
        qn_mem_put(w->env->alloc, row);
        QN_TRY(rc);
        in->h_digest = qn_hasher_digest(&w->hash);
    }
    w->n_inputs++;
    return QN_OK;
}

qn_code qn_stats_writer_add(qn_stats_writer *w, const qn_stats_input *in, const qn_stats_data *data, qn_err *err)
{
    if (w->failed || w->finished)
        return QN_BUG(err, "a writer of statistics is used after it has ended");
    const qn_code rc = append(w, in, data, err);
    w->failed = rc != QN_OK;
    return rc;
}

static qn_code append_cost(qn_stats_writer *w, const qn_stats_cost *c, qn_err *err)
{
    if (c->tokens == 0 || !isfinite(c->noise) || c->noise <= 0 || !isfinite(c->kl))
        return QN_BUG(err, "a sensitivity of %g nats by noise of %g", c->kl, c->noise);
    const char *key = qn_stats_key(&w->arena, c->name, c->expert, err);
    if (!key)
        return QN_E_MEMORY;
    if (w->n_keys == 0 || qn_names_find(&w->names, key, key_of, w) == QN_NAMES_NONE)
        return qn_err_in_tensor(err, QN_BUG(err, "a sensitivity of what has no statistics"), c->name);
    qn_stats_cost *list = qn_mem_grow(w->env->alloc, w->costs, w->n_costs, &w->cap_costs, w->n_costs + 1, sizeof *list, err);
    if (!list)
        return QN_E_MEMORY;
    w->costs = list;
    list[w->n_costs] = *c;
    if (!(list[w->n_costs].name = qn_arena_str(&w->arena, c->name, strlen(c->name), err)))
        return QN_E_MEMORY;
    w->n_costs++;
    return QN_OK;
}

qn_code qn_stats_writer_add_cost(qn_stats_writer *w, const qn_stats_cost *c, qn_err *err)
{
    if (w->failed || w->finished)
        return QN_BUG(err, "a writer of statistics is used after it has ended");
    const qn_code rc = append_cost(w, c, err);
    w->failed = rc != QN_OK;
    return rc;
}

qn_code qn_stats_writer_read(const qn_stats_writer *w, qn_stats_file *f, qn_err *err)
{
    qn_file file = QN_FILE_CLOSED;
    *f = QN_STATS_FILE_CLOSED;
    QN_TRY(qn_file_open(&file, w->env->fs, w->env->alloc, w->partial, QN_OPEN_READ, err));
    const qn_code rc = qn_stats_file_open_at(f, w->env, &file, w->prev_end, err);
    if (rc != QN_OK)
        qn_stats_file_close(f);
    return rc;
}

/* ---- segments ---- */

static qn_code end_segment(qn_stats_writer *w, bool complete, qn_err *err)
{
    const qn_stats_index ix = {.meta = w->meta, .complete = complete, .n_inputs = (uint32_t)w->n_inputs, .inputs = w->inputs,
                               .n_costs = (uint32_t)w->n_costs, .costs = w->costs};
    uint8_t foot[QN_STATS_FOOTER_BYTES], *bytes;
    qn_stats_footer f = {.prev_end = w->prev_end, .index_off = w->at + w->buf_used};
    QN_TRY(qn_stats_index_write(&ix, w->env->alloc, &bytes, &f.index_bytes, err));
    qn_hasher_reset(&w->hash);
    qn_code rc = put_bytes(w, bytes, f.index_bytes, err);
    qn_mem_put(w->env->alloc, bytes);
    QN_TRY(rc);
    QN_TRY(put_padding(w, err));
    f.digest = qn_hasher_digest(&w->hash);
    QN_TRY(flush(w, err));
    QN_TRY(qn_file_sync(&w->file, err));
    f.end = w->at + sizeof foot;
    qn_stats_footer_put(foot, &f);
    QN_TRY(put_bytes(w, foot, sizeof foot, err));
    QN_TRY(flush(w, err));
    QN_TRY(qn_file_sync(&w->file, err));
    w->prev_end = w->at;
    w->n_inputs = w->n_costs = 0;
    w->n_done += !complete;
    return QN_OK;
}

qn_code qn_stats_writer_checkpoint(qn_stats_writer *w, qn_err *err)
{
    if (w->failed || w->finished)
        return QN_BUG(err, "a writer of statistics is used after it has ended");
    const qn_code rc = end_segment(w, false, err);
    w->failed = rc != QN_OK;
    return rc;
}

static qn_code read_back(const qn_stats_writer *w, qn_err *err)
{
    qn_stats_file f = QN_STATS_FILE_CLOSED;
    qn_err why;
    qn_err_clear(&why);
    (void)w->env->fs->advise_done(w->env->fs->ctx, w->file.fd, 0, 0); /* so that it is read back from the disk */
    qn_code rc = qn_stats_file_open(&f, w->env, w->partial, &why);
    if (rc == QN_OK)
        rc = qn_stats_check(&f, &why);
    qn_stats_file_close(&f);
    if (rc == QN_E_INPUT)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_VERIFY, why.off, "what was written does not read back: %s", why.text),
                              w->partial);
    if (rc != QN_OK && err && err->code == QN_OK)
        *err = why;
    return rc;
}

static qn_code finish(qn_stats_writer *w, const qn_stats_meta *meta, qn_err *err)
{
    if (w->n_inputs || w->n_costs)
        QN_TRY(end_segment(w, false, err));
    if (meta) {
        QN_TRY(qn_stats_writer_same_run(w, meta, err));
        QN_TRY(copy_meta(w, meta, err));
    }
    QN_TRY(end_segment(w, true, err));
    QN_TRY(read_back(w, err));
    QN_TRY(qn_fs_check_target(w->env->fs, w->path, w->opt.overwrite, err)); /* once more: measuring may have taken hours */
    QN_TRY(qn_fs_publish(w->env->fs, w->env->alloc, w->partial, w->path, err));
    w->ours = false;
    return QN_OK;
}

qn_code qn_stats_writer_finish(qn_stats_writer *w, const qn_stats_meta *meta, qn_err *err)
{
    if (w->failed || w->finished)
        return QN_BUG(err, "a writer of statistics is used after it has ended");
    const qn_code rc = finish(w, meta, err);
    w->failed = rc != QN_OK;
    w->finished = rc == QN_OK;
    return rc;
}

void qn_stats_writer_close(qn_stats_writer *w)
{
    if (!w)
        return;
    const qn_alloc *a = w->env->alloc;
    if (w->ours && (!w->opt.resumable || w->n_done == 0))
        (void)w->env->fs->unlink(w->env->fs->ctx, w->partial);
    qn_file_drop(&w->file);
    qn_hasher_close(&w->hash);
    qn_arena_release(&w->arena);
    qn_mem_put(a, w->inputs);
    qn_mem_put(a, w->costs);
    qn_mem_put(a, w->keys);
    qn_mem_put(a, w->slots);
    qn_mem_put(a, w->buf);
    qn_mem_put(a, w->path);
    qn_mem_put(a, w->partial);
    qn_mem_put(a, w);
}
