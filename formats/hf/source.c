/* source.c (hf): every regular file below a folder, in the byte order of their paths. *.safetensors files are parsed
 * into tensors; all others are carried as they are. Symlinks are followed (the HF cache is made of them). */
#include "base/err.h"
#include "base/num.h"
#include "formats/hf/hf.h"
#include "formats/safetensors/safetensors.h"
#include <stdlib.h>
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

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), t = strlen(tail);
    return n >= t && strcmp(s + n - t, tail) == 0;
}

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

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Tensor names so far, rebuilt larger when full. Two files may hold the same names (consolidated beside model, fp16
 * variants, adapters in folders): the later file's are then qualified by its path. */
struct names {
    qn_names table;
    uint64_t n, room;
};

static const char *object_name(const void *ctx, uint32_t item)
{
    return ((const qn_source *)ctx)->objects[item].name;
}

static qn_code names_grow(struct names *t, const qn_source *s, uint64_t n_more, qn_err *err)
{
    if (t->n + n_more <= t->room && t->table.slots)
        return QN_OK;
    struct names bigger = {.n = t->n, .room = (t->n + n_more) * 2};
    const uint64_t n_slots = qn_names_slots(bigger.room);
    qn_name_slot *slots = qn_mem_zeros(s->env->alloc, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_names_init(&bigger.table, slots, n_slots);
    for (uint64_t i = 0; t->table.slots && i <= t->table.mask; i++) {
        const uint32_t item = t->table.slots[i].item;
        if (item)
            (void)qn_names_add(&bigger.table, s->objects[item - 1].name, item - 1, object_name, s);
    }
    qn_mem_put(s->env->alloc, t->table.slots);
    *t = bigger;
    return QN_OK;
}

/* Do the objects from `first` on bring a name that is there already? If not, they are added. */
static qn_code names_add(struct names *t, const qn_source *s, uint64_t first, bool *collide, qn_err *err)
{
    if (s->n_objects >= UINT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than 2^32 tensors");
    QN_TRY(names_grow(t, s, s->n_objects - first, err));
    *collide = false;
    for (uint64_t i = first; i < s->n_objects && !*collide; i++)
        *collide = s->objects[i].kind == QN_OBJECT_TENSOR &&
                   qn_names_find(&t->table, s->objects[i].name, object_name, s) != QN_NAMES_NONE;
    for (uint64_t i = first; i < s->n_objects && !*collide; i++)
        if (s->objects[i].kind == QN_OBJECT_TENSOR)
            t->n += qn_names_add(&t->table, s->objects[i].name, (uint32_t)i, object_name, s) == QN_NAMES_NONE;
    return QN_OK;
}

static qn_code requalify(qn_source *s, uint64_t file, qn_err *err)
{
    char *prefix = qn_path_cat(s->env->alloc, s->files[file].path, ":", err);
    if (!prefix)
        return QN_E_MEMORY;
    s->n_objects = s->files[file].first_object;
    s->files[file].n_objects = 0;
    const qn_code rc = qn_safetensors_add(s, prefix, err);
    qn_mem_put(s->env->alloc, prefix);
    return rc;
}

static qn_code add_file(qn_source *s, const char *rel, struct names *names, qn_err *err)
{
    char *path = qn_path_join(s->env->alloc, s->path, rel, err);
    if (!path)
        return QN_E_MEMORY;
    const uint64_t first_new = s->n_objects, file = s->n_files;
    qn_code rc = qn_fileset_add_file(s, path, rel, err);
    qn_mem_put(s->env->alloc, path);
    if (rc == QN_OK && !ends_with(rel, ".safetensors"))
        return qn_fileset_add_blob(s, err);
    if (rc == QN_OK)
        rc = qn_safetensors_add(s, "", err);
    bool collide = false;
    if (rc == QN_OK)
        rc = names_add(names, s, first_new, &collide, err);
    if (rc == QN_OK && collide)
        rc = requalify(s, file, err); /* what still collides now, qn_source_seal refuses */
    return rc;
}

static qn_code build(qn_source *s, char **rel, uint64_t n, qn_err *err)
{
    if (n)
        qsort(rel, n, sizeof *rel, by_bytes);
    uint64_t n_kept = 0; /* an index names its shards over and over */
    for (uint64_t i = 0; i < n; i++)
        if (n_kept == 0 || strcmp(rel[n_kept - 1], rel[i]) != 0)
            rel[n_kept++] = rel[i];
    n = n_kept;
    struct names names = {0};
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < n && rc == QN_OK; i++)
        rc = add_file(s, rel[i], &names, err);
    qn_mem_put(s->env->alloc, names.table.slots);
    QN_TRY(rc);
    QN_TRY(qn_source_seal(s, err));
    if (s->n_tensors == 0)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no tensors found: a folder with "
                                                                          ".safetensors files is expected"), s->path);
    for (uint64_t i = 0; i < s->n_files; i++)
        if (ends_with(s->files[i].path, ".safetensors.index.json"))
            QN_TRY(qn_hf_check_index(s, i, err));
    return QN_OK;
}

static bool probe_dir(const qn_probe *p)
{
    return p->is_dir;
}

static qn_code open_dir(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    qn_source *s;
    *out = NULL;
    QN_TRY(qn_fileset_new(env, "hf", path, &s, err));
    s->is_dir = true;
    s->whole_dir = true;
    struct found f = {.s = s, .err = err, .dir = ""};
    qn_code rc = list_dir(&f, "", 0, err);
    if (rc == QN_OK)
        rc = build(s, f.rel, f.n, err);
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
    return !p->is_dir && ends_with(p->path, ".safetensors.index.json");
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

static qn_code open_index(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    const char *slash = strrchr(path, '/');
    qn_source *s = NULL;
    *out = NULL;
    char *dir = qn_path_dir(env->alloc, path, err);
    if (!dir)
        return QN_E_MEMORY;
    qn_code rc = qn_fileset_new(env, "hf", dir, &s, err);
    qn_mem_put(env->alloc, dir);
    QN_TRY(rc);
    s->is_dir = true;
    struct found f = {.s = s, .err = err, .dir = ""};
    rc = qn_hf_each_shard(env, path, add_shard, &f, err);
    if (rc == QN_OK)
        rc = add_shard(&f, slash ? slash + 1 : path, err);
    if (rc == QN_OK)
        rc = build(s, f.rel, f.n, err);
    qn_mem_put(env->alloc, f.rel);
    if (rc != QN_OK) {
        qn_source_close(s);
        return rc;
    }
    *out = s;
    return QN_OK;
}

const qn_format qn_format_hf = {"a model folder", probe_dir, open_dir};
const qn_format qn_format_safetensors_index = {"an index of safetensors files", probe_index, open_index};
