/* folder.c: see folder.h. */
#include "compress/export/folder.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/outdir.h"
#include "formats/hf/config.h"
#include "formats/hf/config_edit.h"
#include "formats/json/write.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define SHARD_BYTES 5000000000u

struct folder {
    qn_export_job *j;
    const qn_export_folder *f;
    const char *root;
    char *metadata;
    uint64_t n_shards;
    qn_shard_entry *index;
};

/* ---- weights ---- */

static bool is_full(uint64_t bytes, uint64_t more, uint64_t limit)
{
    return bytes > 0 && (more > limit || bytes > limit - more);
}

static uint64_t count_shards(const qn_export_folder *f, uint64_t limit)
{
    uint64_t n = 1, bytes = 0;
    for (uint64_t i = 0; i < f->n; i++) {
        if (is_full(bytes, f->tensors[i].n_bytes, limit)) {
            n++;
            bytes = 0;
        }
        bytes += f->tensors[i].n_bytes;
    }
    return n;
}

static qn_code write_shard(struct folder *x, uint64_t shard, uint64_t first, uint64_t n, qn_err *err)
{
    const qn_env *env = x->j->env;
    const qn_safetensors_options opt = {.metadata = x->metadata};
    char name[64];
    snprintf(name, sizeof name, "model.safetensors");
    if (x->n_shards > 1)
        snprintf(name, sizeof name, "model-%05llu-of-%05llu.safetensors", (unsigned long long)shard + 1, (unsigned long long)x->n_shards);
    const char *kept = qn_arena_str(x->j->arena, name, strlen(name), err);
    char *path = kept ? qn_path_join(env->alloc, x->root, name, err) : NULL;
    if (!path)
        return QN_E_MEMORY;
    for (uint64_t i = first; i < first + n; i++)
        x->index[i] = (qn_shard_entry){x->f->tensors[i].name, kept};
    const qn_code rc = qn_safetensors_write(env, path, x->f->tensors + first, n, x->f->read, x->f->ctx, &opt, err);
    qn_mem_put(env->alloc, path);
    return rc;
}

static qn_code write_weights(struct folder *x, qn_err *err)
{
    const qn_export_folder *f = x->f;
    const qn_env *env = x->j->env;
    const uint64_t limit = x->j->wish->shard_bytes ? x->j->wish->shard_bytes : SHARD_BYTES;
    uint64_t first = 0, bytes = 0, shard = 0, total = 0;
    x->n_shards = count_shards(f, limit);
    if (x->n_shards > 99999)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%llu files of weights: at most 99999 can be named; allow larger ones",
                       (unsigned long long)x->n_shards);
    for (uint64_t i = 0; i <= f->n; i++) {
        if (i == f->n || is_full(bytes, f->tensors[i].n_bytes, limit)) {
            QN_TRY(write_shard(x, shard++, first, i - first, err));
            first = i;
            bytes = 0;
        }
        bytes += i < f->n ? f->tensors[i].n_bytes : 0;
        total += i < f->n ? f->tensors[i].n_bytes : 0;
    }
    if (x->n_shards == 1)
        return QN_OK;
    qn_textbuf t = {.alloc = env->alloc};
    char *path = qn_path_join(env->alloc, x->root, "model.safetensors.index.json", err);
    qn_code rc = path ? qn_safetensors_index_text(&t, x->index, f->n, total, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = qn_outdir_text(env, path, t.text, t.n, err);
    qn_mem_put(env->alloc, t.text);
    qn_mem_put(env->alloc, path);
    return rc;
}

/* ---- config.json ---- */

/* Behind the first brace, with a line of its own when the text has lines. */
static void insert(qn_textbuf *t, const char *text, uint64_t n, const char *key, const char *json)
{
    const char *brace = memchr(text, '{', (size_t)n);
    const uint64_t at = brace ? (uint64_t)(brace - text) + 1 : n;
    const bool lines = at < n && text[at] == '\n';
    uint64_t next = at;
    while (next < n && strchr(" \t\r\n", text[next]))
        next++;
    qn_textbuf_add(t, text, at);
    qn_textbuf_puts(t, lines ? "\n  " : "");
    qn_json_string(t, key);
    qn_textbuf_puts(t, ": ");
    qn_textbuf_puts(t, json);
    qn_textbuf_puts(t, next < n && text[next] == '}' ? "" : lines ? "," : ", ");
    qn_textbuf_add(t, text + at, n - at);
}

static qn_code config_text(const struct folder *x, qn_textbuf *t, qn_err *err)
{
    const qn_alloc *alloc = x->j->src->env->alloc;
    qn_config c = {0};
    char *text = NULL;
    uint64_t n = 0;
    const bool there = qn_config_exists(x->j->src);
    qn_code rc = there ? qn_config_text(x->j->src, &text, &n, err) : QN_OK;
    if (rc == QN_OK && there)
        rc = qn_config_open(&c, x->j->src, err);
    qn_textbuf_add(t, there ? text : "{\n}\n", there ? n : 4);
    for (uint32_t i = 0; i < x->f->n_changes && rc == QN_OK && !qn_textbuf_failed(t); i++) {
        const qn_config_change *change = &x->f->changes[i];
        qn_textbuf next = {.alloc = x->j->env->alloc};
        if (there && json_object_get(c.root, change->key))
            rc = qn_config_edit(t->text, t->n, change, 1, &next, err);
        else
            insert(&next, t->text, t->n, change->key, change->json);
        qn_mem_put(t->alloc, t->text);
        *t = next;
    }
    qn_config_release(&c);
    qn_mem_put(alloc, text);
    return rc;
}

static qn_code write_config(struct folder *x, qn_err *err)
{
    const qn_env *env = x->j->env;
    qn_textbuf t = {.alloc = env->alloc};
    qn_config check = {0};
    char *path = qn_path_join(env->alloc, x->root, "config.json", err);
    qn_code rc = path ? config_text(x, &t, err) : QN_E_MEMORY;
    if (rc == QN_OK && qn_textbuf_failed(&t))
        rc = QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a configuration wanted");
    if (rc == QN_OK)
        rc = qn_config_parse(&check, t.text, (size_t)t.n, path, err);
    qn_config_release(&check);
    if (rc == QN_OK)
        rc = qn_outdir_text(env, path, t.text, t.n, err);
    qn_mem_put(env->alloc, t.text);
    qn_mem_put(env->alloc, path);
    return rc;
}

/* ---- the rest ---- */

static qn_code copy_one(struct folder *x, uint64_t f, qn_err *err)
{
    char *path = qn_path_join(x->j->env->alloc, x->root, x->j->src->files[f].path, err);
    qn_code rc = path ? qn_outdir_parents(x->j->env, x->root, path, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = qn_outdir_copy(x->j->env, x->j->src, f, path, err);
    qn_mem_put(x->j->env->alloc, path);
    return rc;
}

static qn_code copy_files(struct folder *x, qn_err *err)
{
    const qn_source *s = x->j->src;
    if (!s->is_dir)
        return QN_OK;
    uint8_t *weights = qn_mem_zeros(x->j->env->alloc, s->n_files, 1, err);
    qn_code rc = weights ? QN_OK : QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_objects && rc == QN_OK; i++)
        weights[s->objects[i].file] |= s->objects[i].kind == QN_OBJECT_TENSOR;
    for (uint64_t i = 0; i < s->n_tensors && rc == QN_OK; i++)
        weights[s->tensors[i].file] = 1;
    for (uint64_t i = 0; i < s->n_files && rc == QN_OK; i++) {
        const char *path = s->files[i].path;
        if (!weights[i] && !qn_outdir_is_weights(path) && !qn_text_ends(path, ".index.json") && strcmp(path, "config.json") &&
            (!x->f->extra || strcmp(path, x->f->extra)))
            rc = copy_one(x, i, err);
    }
    qn_mem_put(x->j->env->alloc, weights);
    return rc;
}

/* Every file as it will be opened, and how large they are. */
static qn_code look_again(struct folder *x, qn_err *err)
{
    qn_source *s;
    QN_TRY(qn_source_open(x->j->env, x->root, &s, err));
    for (uint64_t i = 0; i < s->n_files; i++)
        x->j->n_bytes += s->files[i].n_bytes;
    qn_source_close(s);
    return QN_OK;
}

static qn_code write_extra(struct folder *x, qn_err *err)
{
    char *path = qn_path_join(x->j->env->alloc, x->root, x->f->extra, err);
    const qn_code rc = path ? qn_outdir_text(x->j->env, path, x->f->extra_text, strlen(x->f->extra_text), err) : QN_E_MEMORY;
    qn_mem_put(x->j->env->alloc, path);
    return rc;
}

static qn_code write_all(struct folder *x, qn_err *err)
{
    const qn_env *env = x->j->env;
    const int r = env->fs->mkdir(env->fs->ctx, x->root);
    if (r < 0)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "folder cannot be created"), x->root);
    QN_TRY(copy_files(x, err));
    if (x->f->n_changes || qn_config_exists(x->j->src))
        QN_TRY(write_config(x, err));
    if (x->f->extra)
        QN_TRY(write_extra(x, err));
    QN_TRY(write_weights(x, err));
    return look_again(x, err);
}

qn_code qn_export_folder_write(qn_export_job *j, const qn_export_folder *f, qn_err *err)
{
    struct folder x = {.j = j, .f = f};
    qn_tmptree tmp = {0};
    bool there = false;
    QN_TRY(qn_outdir_check(j->env, j->input, j->path, j->overwrite, &there, err));
    x.index = qn_mem_zeros(j->env->alloc, f->n + 1, sizeof *x.index, err);
    qn_code rc = x.index ? qn_tmptree_open(&tmp, j->env, j->path, ".quern-export", err) : QN_E_MEMORY;
    x.root = tmp.data;
    if (rc == QN_OK)
        rc = qn_safetensors_metadata(j->src, &x.metadata, err);
    j->n_bytes = 0;
    if (rc == QN_OK)
        rc = write_all(&x, err);
    if (rc == QN_OK)
        rc = qn_outdir_publish(&tmp, j->path, there, err);
    qn_tmptree_close(&tmp);
    qn_mem_put(j->src->env->alloc, x.metadata);
    qn_mem_put(j->env->alloc, x.index);
    return rc;
}
