/* index.c: model.safetensors.index.json, or pytorch_model.bin.index.json: {"metadata": {…}, "weight_map": {tensor: shard}}.
 * Shards are file names, not paths. A stale index hides missing tensors from loaders, so both directions are checked. */
#include "base/err.h"
#include "base/num.h"
#include "formats/hf/hf.h"
#include "formats/json/json.h"
#include <stdio.h>
#include <string.h>

struct reading {
    qn_code (*text)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);
    void *text_ctx;
    uint64_t n_bytes;
    const qn_alloc *alloc;
    qn_code (*pair)(void *ctx, const char *tensor, const char *shard, uint64_t at, qn_err *err);
    void *ctx;
};

static qn_code read_map(struct reading *r, qn_json *j, qn_err *err)
{
    char tensor[QN_JSON_STRING_MAX + 8];
    qn_json_token tok;
    QN_TRY(qn_json_next(j, &tok, err));
    if (tok != QN_JSON_OBJECT)
        return QN_FAIL(err, QN_E_INPUT, j->token_off, "weight_map: an object is expected");
    for (;;) {
        QN_TRY(qn_json_next(j, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return QN_OK;
        const uint64_t at = j->token_off;
        if (j->cut)
            return QN_FAIL(err, QN_E_INPUT, at, "weight_map: a name is too long");
        memcpy(tensor, j->text, j->n_text + 1);
        QN_TRY(qn_json_next(j, &tok, err));
        if (tok != QN_JSON_STRING || j->cut)
            return QN_FAIL(err, QN_E_INPUT, j->token_off, "weight_map: a file name is expected");
        if (!qn_path_is_safe(j->text, j->n_text) || strchr(j->text, '/'))
            return QN_FAIL(err, QN_E_INPUT, j->token_off, "weight_map: a shard must be a plain file name");
        QN_TRY(r->pair(r->ctx, tensor, j->text, at, err));
    }
}

static qn_code read_index(struct reading *r, qn_json *j, qn_err *err)
{
    qn_json_token tok;
    bool found = false;
    QN_TRY(qn_json_next(j, &tok, err));
    if (tok != QN_JSON_OBJECT)
        return QN_FAIL(err, QN_E_INPUT, j->token_off, "the index must be a JSON object");
    for (;;) {
        QN_TRY(qn_json_next(j, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            break;
        if (strcmp(j->text, "weight_map") == 0) {
            if (found)
                return QN_FAIL(err, QN_E_INPUT, j->token_off, "weight_map stands twice");
            found = true;
            QN_TRY(read_map(r, j, err));
        } else {
            QN_TRY(qn_json_next(j, &tok, err));
            QN_TRY(qn_json_skip(j, tok, err));
        }
    }
    if (!found)
        return QN_FAIL(err, QN_E_INPUT, 0, "weight_map is missing");
    return qn_json_next(j, &tok, err);
}

static qn_code read_all(struct reading *r, qn_err *err)
{
    qn_json j;
    qn_code rc = qn_json_open(&j, r->alloc, r->text, r->text_ctx, 0, r->n_bytes, err);
    if (rc == QN_OK)
        rc = read_index(r, &j, err);
    qn_json_release(&j);
    return rc;
}

/* ---- checking a folder's index ---- */

struct check {
    qn_source *s;
    uint64_t file, n_mapped;
    size_t n_dir;   /* bytes of "sub/folder/" in front of the shards' names */
    uint8_t *shard; /* per file: named by the index                          */
    uint8_t *seen;  /* per tensor                                            */
};

static qn_code read_member(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct check *c = ctx;
    return qn_fileset_read(c->s, c->file, off, n, dst, err);
}

static bool lies_in(const struct check *c, const char *path, const char *shard)
{
    return strncmp(path, c->s->files[c->file].path, c->n_dir) == 0 && strcmp(path + c->n_dir, shard) == 0;
}

/* Where the index says a tensor is. Tied tensors of a PyTorch file share an object, so tensors count here, not objects. */
static qn_code check_pair(void *ctx, const char *tensor, const char *shard, uint64_t at, qn_err *err)
{
    struct check *c = ctx;
    uint64_t t = qn_source_tensor_find(c->s, tensor);
    if (t == UINT64_MAX || !lies_in(c, c->s->files[c->s->tensors[t].file].path, shard)) {
        /* another file has the name too and came first: this one's is qualified by its path */
        char qualified[QN_JSON_STRING_MAX + 2048 + 2];
        const int n = snprintf(qualified, sizeof qualified, "%.*s%s:%s", (int)c->n_dir, c->s->files[c->file].path, shard,
                               tensor);
        const uint64_t q = n > 0 && (size_t)n < sizeof qualified ? qn_source_tensor_find(c->s, qualified) : UINT64_MAX;
        t = q == UINT64_MAX ? t : q;
    }
    const char *path = t == UINT64_MAX ? NULL : c->s->files[c->s->tensors[t].file].path;
    if (!path || !lies_in(c, path, shard))
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, at, "the index says it is in %s: it is %s%s", shard,
                                             path ? "in " : "in no file", path ? path : ""), tensor);
    if (c->seen[t])
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, at, "stands twice in the index"), tensor);
    c->seen[t] = 1;
    c->shard[c->s->tensors[t].file] = 1;
    return QN_OK;
}

static qn_code check_unmapped(const struct check *c, qn_err *err)
{
    for (uint64_t i = 0; i < c->s->n_tensors; i++) {
        const qn_source_tensor *t = &c->s->tensors[i];
        if (c->shard[t->file] && !c->seen[i])
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is in %s but not in the index",
                                                 c->s->files[t->file].path), t->name);
    }
    return QN_OK;
}

qn_code qn_hf_check_index(qn_source *s, uint64_t file, qn_err *err)
{
    const char *path = s->files[file].path, *slash = strrchr(path, '/');
    struct check c = {.s = s, .file = file, .n_dir = slash ? (size_t)(slash - path) + 1 : 0};
    c.shard = qn_mem_zeros(s->env->alloc, s->n_files, 1, err);
    c.seen = qn_mem_zeros(s->env->alloc, s->n_tensors, 1, err);
    struct reading r = {.text = read_member, .text_ctx = &c, .n_bytes = s->files[file].n_bytes, .alloc = s->env->alloc,
                        .pair = check_pair, .ctx = &c};
    qn_code rc = c.shard && c.seen ? read_all(&r, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = check_unmapped(&c, err);
    qn_mem_put(s->env->alloc, c.shard);
    qn_mem_put(s->env->alloc, c.seen);
    return qn_err_in_path(err, rc, ((qn_fileset *)s->impl)->paths[file]);
}

/* ---- listing the shards of an index on disk ---- */

struct shards {
    qn_code (*each)(void *ctx, const char *shard, qn_err *err);
    void *ctx;
    qn_file file;
};

static qn_code read_disk(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    struct shards *s = ctx;
    return qn_file_read(&s->file, dst, n, off, err);
}

static qn_code shard_pair(void *ctx, const char *tensor, const char *shard, uint64_t at, qn_err *err)
{
    struct shards *s = ctx;
    (void)tensor;
    (void)at;
    return s->each(s->ctx, shard, err);
}

qn_code qn_hf_each_shard(const qn_env *env, const char *path, qn_code (*each)(void *ctx, const char *shard, qn_err *err),
                         void *ctx, qn_err *err)
{
    struct shards s = {.each = each, .ctx = ctx};
    qn_stat st;
    QN_TRY(qn_file_open(&s.file, env->fs, env->alloc, path, QN_OPEN_READ, err));
    qn_code rc = qn_file_stat(&s.file, &st, err);
    struct reading r = {.text = read_disk, .text_ctx = &s, .n_bytes = st.n_bytes, .alloc = env->alloc,
                        .pair = shard_pair, .ctx = &s};
    if (rc == QN_OK)
        rc = read_all(&r, err);
    qn_file_drop(&s.file);
    return qn_err_in_path(err, rc, path);
}
