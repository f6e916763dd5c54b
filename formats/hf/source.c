/* source.c (hf): which files belong to a model: every regular file below a folder, or those that an index or a model.json
 * names. Symlinks are followed (the HF cache is made of them). What is made of them: build.c. */
#include "base/err.h"
#include "base/num.h"
#include "formats/hf/build.h"
#include "formats/hf/hf.h"
#include "formats/tfjs/tfjs.h"
#include <string.h>

enum { DEPTH_MAX = 8, FILES_MAX = 1 << 20 };

/* Relative paths found, before they are sorted. */
struct found {
    qn_source *s;
    char **rel;
    uint64_t n, cap;
    qn_err *err;
    qn_code rc;
    unsigned depth;
    const char *dir; /* the folder being listed, relative, "" for the top */
};

static qn_code list_dir(struct found *f, const char *dir, unsigned depth, qn_err *err);

static qn_code found_entry(struct found *f, const char *name, qn_err *err)
{
    const qn_env *env = f->s->env;
    char *rel = f->dir[0] ? qn_path_join(env->alloc, f->dir, name, err) : qn_path_cat(env->alloc, name, "", err);
    char *path = rel ? qn_path_join(env->alloc, f->s->path, rel, err) : NULL;
    qn_stat st;
    qn_code rc = path ? qn_fs_stat(env->fs, path, &st, err) : QN_E_MEMORY;
    if (rc == QN_OK && st.is_dir) {
        if (strcmp(rel, ".git") == 0) {
            qn_source_warn(f->s, "%s/.git is left out: it is history, not the model", f->s->path);
        } else if (f->depth == DEPTH_MAX) {
            rc = qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "folders nested deeper than %d", DEPTH_MAX),
                                path);
        } else {
            rc = list_dir(f, rel, f->depth + 1, err);
        }
    } else if (rc == QN_OK) {
        char **p = f->n < FILES_MAX ? qn_mem_grow(env->alloc, f->rel, f->n, &f->cap, f->n + 1, sizeof *p, err) : NULL;
        char *own = p ? qn_arena_str(&f->s->arena, rel, strlen(rel), err) : NULL;
        f->rel = p ? p : f->rel;
        if (own)
            f->rel[f->n++] = own;
        else
            rc = QN_FAIL(err, f->n < FILES_MAX ? QN_E_MEMORY : QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than %d files",
                         FILES_MAX);
    }
    qn_mem_put(env->alloc, rel);
    qn_mem_put(env->alloc, path);
    return rc;
}

static int each_entry(void *ctx, const char *name)
{
    struct found *f = ctx;
    f->rc = found_entry(f, name, f->err);
    return f->rc != QN_OK;
}

static qn_code list_dir(struct found *f, const char *dir, unsigned depth, qn_err *err)
{
    const qn_env *env = f->s->env;
    const char *outer_dir = f->dir;
    const unsigned outer_depth = f->depth;
    char *path = dir[0] ? qn_path_join(env->alloc, f->s->path, dir, err) : qn_path_cat(env->alloc, f->s->path, "", err);
    if (!path)
        return QN_E_MEMORY;
    f->dir = dir;
    f->depth = depth;
    f->rc = QN_OK;
    const int r = env->fs->list(env->fs->ctx, path, each_entry, f);
    qn_code rc = f->rc;
    if (rc == QN_OK && r < 0)
        rc = qn_err_in_path(err, QN_FAIL_SYS(err, -r, "folder cannot be read"), path);
    f->dir = outer_dir;
    f->depth = outer_depth;
    qn_mem_put(env->alloc, path);
    return rc;
}

static bool probe_dir(const qn_probe *p)
{
    return p->is_dir;
}

static qn_code open_dir(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    qn_source *s;
    *out = NULL;
    QN_TRY(qn_fileset_new_ops(env, &qn_hf_ops, path, &s, err));
    s->is_dir = true;
    s->whole_dir = true;
    struct found f = {.s = s, .err = err, .dir = ""};
    qn_code rc = list_dir(&f, "", 0, err);
    if (rc == QN_OK)
        rc = qn_hf_build(s, f.rel, f.n, NULL, err);
    qn_mem_put(env->alloc, f.rel);
    if (rc != QN_OK) {
        qn_source_close(s);
        return rc;
    }
    *out = s;
    return QN_OK;
}

/* ---- a set by its index ---- */

static bool probe_index(const qn_probe *p)
{
    return !p->is_dir && (qn_text_ends(p->path, ".safetensors.index.json") || qn_text_ends(p->path, ".bin.index.json"));
}

static qn_code add_shard(void *ctx, const char *shard, qn_err *err)
{
    struct found *f = ctx;
    if (f->n > 0 && strcmp(f->rel[f->n - 1], shard) == 0) /* names come in runs; build() drops the other doubles */
        return QN_OK;
    char **p = qn_mem_grow(f->s->env->alloc, f->rel, f->n, &f->cap, f->n + 1, sizeof *p, err);
    char *own = p ? qn_arena_str(&f->s->arena, shard, strlen(shard), err) : NULL;
    f->rel = p ? p : f->rel;
    if (!own)
        return QN_E_MEMORY;
    f->rel[f->n++] = own;
    return QN_OK;
}

/* A source over the folder of the file `path`; the file's own name is *name. */
static qn_code open_beside(const qn_env *env, const char *path, qn_source **out, const char **name, qn_err *err)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    *out = NULL;
    char *dir = qn_path_dir(env->alloc, path, err);
    if (!dir)
        return QN_E_MEMORY;
    const qn_code rc = qn_fileset_new_ops(env, &qn_hf_ops, dir, out, err);
    qn_mem_put(env->alloc, dir);
    QN_TRY(rc);
    (*out)->is_dir = true;
    return QN_OK;
}

static qn_code open_index(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    const char *name;
    qn_source *s;
    *out = NULL;
    QN_TRY(open_beside(env, path, &s, &name, err));
    struct found f = {.s = s, .err = err, .dir = ""};
    qn_code rc = qn_hf_each_shard(env, path, add_shard, &f, err);
    if (rc == QN_OK)
        rc = add_shard(&f, name, err);
    if (rc == QN_OK)
        rc = qn_hf_build(s, f.rel, f.n, NULL, err);
    qn_mem_put(env->alloc, f.rel);
    if (rc != QN_OK) {
        qn_source_close(s);
        return rc;
    }
    *out = s;
    return QN_OK;
}

/* ---- a TensorFlow.js model by its model.json ---- */

static bool contains(const uint8_t *p, size_t n, const char *word)
{
    const size_t m = strlen(word);
    for (size_t i = 0; i + m <= n; i++)
        if (memcmp(p + i, word, m) == 0)
            return true;
    return false;
}

static bool probe_tfjs(const qn_probe *p)
{
    const char *slash = strrchr(p->path, '/');
    if (p->is_dir || !qn_text_ends(p->path, ".json"))
        return false;
    return strcmp(slash ? slash + 1 : p->path, "model.json") == 0 || contains(p->head, p->n_head, "\"layers-model\"") ||
           contains(p->head, p->n_head, "\"graph-model\"") || contains(p->head, p->n_head, "\"modelTopology\"") ||
           contains(p->head, p->n_head, "\"weightsManifest\"");
}

static qn_code add_tfjs(qn_source *s, const char *path, const char *name, qn_err *err)
{
    qn_fileset *set = s->impl;
    qn_tfjs_model *m;
    QN_TRY(qn_tfjs_read(s, path, &m, err));
    if (!m)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no weightsManifest: not a TensorFlow.js model"), path);
    set->own = m;
    struct found f = {.s = s, .err = err, .dir = ""};
    qn_code rc = add_shard(&f, name, err);
    for (uint64_t i = 0; i < m->n_shards && rc == QN_OK; i++)
        rc = add_shard(&f, m->shards[i].path, err);
    if (rc == QN_OK)
        rc = qn_hf_build(s, f.rel, f.n, name, err);
    qn_mem_put(s->env->alloc, f.rel);
    return rc;
}

static qn_code open_tfjs(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    const char *name;
    qn_source *s;
    *out = NULL;
    QN_TRY(open_beside(env, path, &s, &name, err));
    const qn_code rc = add_tfjs(s, path, name, err);
    if (rc != QN_OK) {
        qn_source_close(s);
        return rc;
    }
    *out = s;
    return QN_OK;
}

const qn_format qn_format_tfjs = {"a TensorFlow.js model", probe_tfjs, open_tfjs};
const qn_format qn_format_hf = {"a model folder", probe_dir, open_dir};
const qn_format qn_format_shard_index = {"an index of weight files", probe_index, open_index};
