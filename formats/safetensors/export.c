/* export.c: the tensors of any source as one safetensors file or as a sharded set; see write.h. */
#include "base/err.h"
#include "base/num.h"
#include "formats/json/json.h"
#include "formats/json/write.h"
#include "formats/safetensors/write.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qn_code read_tensor(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    return qn_source_tensor_read(ctx, id, off, n, dst, err);
}

/* ---- the metadata that the source came with ---- */

struct blob {
    qn_source *s;
    uint64_t object;
};

static qn_code read_blob(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct blob *b = ctx;
    return qn_source_read(b->s, b->object, off, n, dst, err);
}

/* Where the metadata object stands in the blob; *n = 0 when there is none. */
static qn_code find_metadata(qn_json *j, uint64_t *at, uint64_t *n, qn_err *err)
{
    qn_json_token tok;
    *n = 0;
    QN_TRY(qn_json_next(j, &tok, err));
    for (;;) {
        QN_TRY(qn_json_next(j, &tok, err));
        if (tok != QN_JSON_KEY)
            return QN_OK;
        const bool is_it = strcmp(j->text, "__metadata__") == 0;
        QN_TRY(qn_json_next(j, &tok, err));
        *at = j->token_off;
        if (!is_it || tok != QN_JSON_OBJECT) {
            QN_TRY(qn_json_skip(j, tok, err));
            continue;
        }
        for (;;) {
            QN_TRY(qn_json_next(j, &tok, err));
            if (tok == QN_JSON_OBJECT_END) {
                *n = j->token_off + 1 - *at;
                return QN_OK;
            }
            QN_TRY(qn_json_next(j, &tok, err));
            if (tok != QN_JSON_STRING)
                return QN_OK; /* not what the format allows: a header that no reader of ours has passed */
        }
    }
}

static bool is_header(qn_source *s, uint64_t i)
{
    uint8_t head[9];
    const qn_object *o = &s->objects[i];
    if (o->kind != QN_OBJECT_BLOB || o->off != 0 || o->n_bytes < 10 || s->files[o->file].n_objects < 2)
        return false;
    return qn_source_read(s, i, 0, sizeof head, head, NULL) == QN_OK && qn_load64(head) == o->n_bytes - 8 && head[8] == '{';
}

qn_code qn_safetensors_metadata(qn_source *s, char **out, qn_err *err)
{
    *out = NULL;
    for (uint64_t i = 0; i < s->n_objects; i++) {
        if (!is_header(s, i))
            continue;
        struct blob b = {s, i};
        qn_json j;
        uint64_t at = 0, n = 0;
        qn_code rc = qn_json_open(&j, s->env->alloc, read_blob, &b, 8, s->objects[i].n_bytes - 8, err);
        if (rc == QN_OK)
            rc = find_metadata(&j, &at, &n, err);
        qn_json_release(&j);
        QN_TRY(rc);
        if (n == 0)
            return QN_OK; /* the first header speaks for all */
        *out = qn_mem_get(s->env->alloc, n + 1, err);
        if (!*out)
            return QN_E_MEMORY;
        (*out)[n] = '\0';
        rc = qn_source_read(s, i, at, n, *out, err);
        if (rc != QN_OK || strcmp(*out, "{}") == 0) { /* loaders want a format in it */
            qn_mem_put(s->env->alloc, *out);
            *out = NULL;
        }
        return rc;
    }
    return QN_OK;
}

/* ---- one file ---- */

static qn_code list_tensors(const qn_env *env, const qn_source *s, qn_out_tensor **out, qn_err *err)
{
    qn_out_tensor *t = qn_mem_zeros(env->alloc, s->n_tensors, sizeof *t, err);
    if (!t)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *o = &s->tensors[i];
        t[i] = (qn_out_tensor){.name = o->name, .dims = o->dims, .n_bytes = o->n_bytes, .id = i, .dtype = o->dtype,
                               .rank = o->rank};
    }
    *out = t;
    return QN_OK;
}

qn_code qn_safetensors_write_file(const qn_env *env, qn_source *s, const char *path, const qn_safetensors_options *opt,
                                  qn_err *err)
{
    qn_out_tensor *t;
    char *kept = NULL;
    qn_safetensors_options o = *opt;
    QN_TRY(list_tensors(env, s, &t, err));
    qn_code rc = o.metadata ? QN_OK : qn_safetensors_metadata(s, &kept, err);
    o.metadata = o.metadata ? o.metadata : kept;
    if (rc == QN_OK)
        rc = qn_safetensors_write(env, path, t, s->n_tensors, read_tensor, s, &o, err);
    qn_mem_put(s->env->alloc, kept);
    qn_mem_put(env->alloc, t);
    return rc;
}

/* ---- a set ---- */

struct set {
    const qn_env *env;
    qn_source *s;
    const char *dir, *metadata;
    qn_out_tensor *t;
    uint64_t n, n_shards, *first; /* first[k] … first[k + 1]: the tensors of shard k, in source order */
    char **tmp, **path;           /* one per shard, and the index at the end                          */
};

/* Greedy, in source order, so that layers stay together. `first` may be NULL: counts only. */
static uint64_t split(const qn_out_tensor *t, uint64_t n, uint64_t limit, uint64_t *first)
{
    uint64_t shards = 0, in_shard = 0, bytes = 0;
    for (uint64_t i = 0; i < n; i++) {
        const bool full = limit && in_shard && t[i].n_bytes && (t[i].n_bytes > limit || bytes > limit - t[i].n_bytes);
        if (i == 0 || full) {
            if (first)
                first[shards] = i;
            shards++;
            in_shard = bytes = 0;
        }
        in_shard++;
        bytes += t[i].n_bytes;
    }
    if (first)
        first[shards] = n;
    return shards;
}

static char *shard_path(const struct set *x, uint64_t k, qn_err *err)
{
    char name[64];
    if (x->n_shards <= 1)
        snprintf(name, sizeof name, "%s", k ? "model.safetensors.index.json" : "model.safetensors");
    else if (k == x->n_shards)
        snprintf(name, sizeof name, "model.safetensors.index.json");
    else
        snprintf(name, sizeof name, "model-%05llu-of-%05llu.safetensors", (unsigned long long)k + 1,
                 (unsigned long long)x->n_shards);
    return qn_path_join(x->env->alloc, x->dir, name, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const qn_shard_entry *)a)->tensor, ((const qn_shard_entry *)b)->tensor);
}

qn_code qn_safetensors_index_text(qn_textbuf *j, qn_shard_entry *e, uint64_t n, uint64_t n_bytes, qn_err *err)
{
    if (n)
        qsort(e, (size_t)n, sizeof *e, by_name);
    qn_textbuf_puts(j, "{\n  \"metadata\": {\n    \"total_size\": ");
    qn_textbuf_u64(j, n_bytes);
    qn_textbuf_puts(j, "\n  },\n  \"weight_map\": {\n");
    for (uint64_t i = 0; i < n; i++) {
        qn_textbuf_puts(j, "    ");
        qn_json_string(j, e[i].tensor);
        qn_textbuf_puts(j, ": ");
        qn_json_string(j, e[i].shard);
        qn_textbuf_puts(j, i + 1 < n ? ",\n" : "\n");
    }
    qn_textbuf_puts(j, "  }\n}\n");
    return qn_textbuf_failed(j) ? QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: an index wanted") : QN_OK;
}

static qn_code index_text(const struct set *x, qn_textbuf *j, qn_err *err)
{
    uint64_t total = 0;
    qn_shard_entry *e = qn_mem_zeros(x->env->alloc, x->n, sizeof *e, err);
    if (!e)
        return QN_E_MEMORY;
    for (uint64_t k = 0; k < x->n_shards; k++)
        for (uint64_t i = x->first[k]; i < x->first[k + 1]; i++) {
            const char *slash = strrchr(x->path[k], '/');
            e[i] = (qn_shard_entry){x->t[i].name, slash ? slash + 1 : x->path[k]};
            total += x->t[i].n_bytes;
        }
    const qn_code rc = qn_safetensors_index_text(j, e, x->n, total, err);
    qn_mem_put(x->env->alloc, e);
    return rc;
}

static qn_code write_index(struct set *x, qn_err *err)
{
    const qn_env *env = x->env;
    qn_textbuf j = {.alloc = env->alloc};
    qn_file f = QN_FILE_CLOSED;
    qn_code rc = index_text(x, &j, err);
    char *tmp = rc == QN_OK ? qn_path_cat(env->alloc, x->path[x->n_shards], ".quern-export", err) : NULL;
    if (rc == QN_OK && !tmp)
        rc = QN_E_MEMORY;
    if (rc == QN_OK && qn_fs_exists(env->fs, tmp))
        (void)env->fs->unlink(env->fs->ctx, tmp);
    if (rc == QN_OK)
        rc = qn_file_open(&f, env->fs, env->alloc, tmp, QN_OPEN_NEW, err);
    if (rc == QN_OK) {
        x->tmp[x->n_shards] = tmp;
        rc = qn_file_write(&f, j.text, j.n, 0, err);
        if (rc == QN_OK)
            rc = qn_file_sync(&f, err);
        if (rc == QN_OK)
            rc = qn_file_close(&f, err);
    } else {
        qn_mem_put(env->alloc, tmp);
    }
    qn_file_drop(&f);
    qn_mem_put(env->alloc, j.text);
    return rc;
}

static qn_code write_set(struct set *x, bool overwrite, qn_err *err)
{
    const qn_env *env = x->env;
    const uint64_t n_files = x->n_shards + (x->n_shards > 1);
    for (uint64_t k = 0; k < n_files; k++) {
        x->path[k] = shard_path(x, k, err);
        if (!x->path[k])
            return QN_E_MEMORY;
        qn_stat st;
        bool there;
        QN_TRY(qn_fs_find(env->fs, x->path[k], &st, &there, err));
        if (!overwrite && there)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                                               "exists: give --force to replace it"), x->path[k]);
    }
    for (uint64_t k = 0; k < x->n_shards; k++)
        QN_TRY(qn_safetensors_write_tmp(env, x->path[k], x->t + x->first[k], x->first[k + 1] - x->first[k], read_tensor,
                                        x->s, x->metadata, &x->tmp[k], err));
    if (n_files > x->n_shards)
        QN_TRY(write_index(x, err));
    for (uint64_t k = 0; k < n_files; k++) {
        QN_TRY(qn_fs_publish(env->fs, env->alloc, x->tmp[k], x->path[k], err));
        qn_mem_put(env->alloc, x->tmp[k]);
        x->tmp[k] = NULL;
    }
    return QN_OK;
}

qn_code qn_safetensors_write_dir(const qn_env *env, qn_source *s, const char *dir, const qn_safetensors_options *opt,
                                 uint64_t *n_shards, qn_err *err)
{
    struct set x = {.env = env, .s = s, .dir = dir, .n = s->n_tensors};
    char *kept = NULL;
    QN_TRY(list_tensors(env, s, &x.t, err));
    x.n_shards = qn_max_u64(1, split(x.t, x.n, opt->shard_bytes, NULL));
    x.first = qn_mem_zeros(env->alloc, x.n_shards + 1, sizeof *x.first, err);
    x.tmp = qn_mem_zeros(env->alloc, x.n_shards + 1, sizeof *x.tmp, err);
    x.path = qn_mem_zeros(env->alloc, x.n_shards + 1, sizeof *x.path, err);
    qn_code rc = x.first && x.tmp && x.path ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK && x.n_shards > 99999)
        rc = QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%llu shards: at most 99999 can be named; allow larger ones",
                     (unsigned long long)x.n_shards);
    if (rc == QN_OK && !opt->metadata)
        rc = qn_safetensors_metadata(s, &kept, err);
    x.metadata = opt->metadata ? opt->metadata : kept;
    if (rc == QN_OK) {
        (void)split(x.t, x.n, opt->shard_bytes, x.first);
        rc = write_set(&x, opt->overwrite, err);
    }
    for (uint64_t k = 0; x.tmp && x.path && k <= x.n_shards; k++) {
        if (x.tmp[k])
            (void)env->fs->unlink(env->fs->ctx, x.tmp[k]);
        qn_mem_put(env->alloc, x.tmp[k]);
        qn_mem_put(env->alloc, x.path[k]);
    }
    qn_mem_put(s->env->alloc, kept);
    qn_mem_put(env->alloc, x.first);
    qn_mem_put(env->alloc, x.tmp);
    qn_mem_put(env->alloc, x.path);
    qn_mem_put(env->alloc, x.t);
    if (rc == QN_OK && n_shards)
        *n_shards = x.n_shards;
    return rc;
}
