/* emit_hf.c: a model folder, cut: the weights in as many safetensors files as before, config.json with the new widths, the index anew, every other
 * file byte for byte. Weights in other formats beside them (.bin next to .safetensors, .gguf, .onnx …) are those of the dense model and left out.
 *
 * The folder grows in a temporary one beside it, is opened again there, and then takes its name. */
#include "base/err.h"
#include "base/num.h"
#include "compress/outdir.h"
#include "compress/prune/emit_config.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file of the source. */
enum role { COPY, CONFIG, RECORD, INDEX, WEIGHTS, LEFT_OUT };

struct file {
    enum role role;
    char *name;        /* then, relative; NULL: it is not there */
    uint64_t n;        /* WEIGHTS: tensors then                 */
    size_t dir_bytes;  /* of its folder in the path             */
};

struct folder {
    const qn_env *env;
    qn_emit_plan plan;
    qn_emit_content content;
    qn_source *s;
    const char *record, *root; /* root: where it is being made */
    struct file *files;
    qn_out_tensor *tensors;    /* those that are written, by file */
    uint64_t n_tensors;
    char *metadata;
};

static bool ends(const char *s, const char *tail)
{
    return qn_text_ends(s, tail);
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- which file is what ---- */

static void sort_files(struct folder *x)
{
    for (uint64_t f = 0; f < x->s->n_files; f++) {
        const char *path = x->s->files[f].path;
        struct file *to = &x->files[f];
        to->dir_bytes = (size_t)(base_of(path) - path);
        to->role = !strcmp(path, "config.json") ? CONFIG : !strcmp(path, "pruning.json") ? RECORD : ends(path, ".index.json") ? INDEX
                   : qn_outdir_is_weights(path) ? LEFT_OUT
                                                : COPY;
    }
    for (uint64_t t = 0; t < x->s->n_tensors; t++)
        x->files[x->s->tensors[t].file].role = WEIGHTS;
    /* A second copy under the same names has them behind its path: consolidated.safetensors:tok_embeddings.weight. */
    for (uint64_t t = 0; t < x->s->n_tensors; t++) {
        const uint32_t f = x->s->tensors[t].file;
        const char *path = x->s->files[f].path, *name = x->s->tensors[t].name;
        if (x->plan.value_of[t] == QN_NO_VALUE && !strncmp(name, path, strlen(path)) && name[strlen(path)] == ':')
            x->files[f].role = LEFT_OUT;
    }
}

/* ---- which tensor goes where ---- */

static qn_code list_tensors(struct folder *x, qn_err *err)
{
    qn_arena *ar = &x->plan.arena;
    x->tensors = qn_arena_get(ar, (x->s->n_tensors + 1) * sizeof *x->tensors, 8, err);
    if (!x->tensors)
        return QN_E_MEMORY;
    for (uint64_t t = 0; t < x->s->n_tensors; t++) {
        const qn_source_tensor *from = &x->s->tensors[t];
        char name[512];
        bool gone;
        uint64_t dims[QN_RANK_MAX];
        qn_out_tensor *o = &x->tensors[x->n_tensors];
        if (x->files[from->file].role != WEIGHTS)
            continue;
        QN_TRY(qn_emit_name(&x->plan, t, name, sizeof name, &gone, err));
        if (gone)
            continue;
        *o = (qn_out_tensor){.id = t, .dtype = from->dtype, .rank = from->rank};
        QN_TRY(qn_emit_dims(&x->plan, t, dims, &o->n_bytes, err));
        uint64_t *kept = qn_arena_get(ar, (from->rank + 1u) * sizeof *kept, 8, err);
        o->name = kept ? qn_arena_str(ar, name, strlen(name), err) : NULL;
        if (!o->name)
            return QN_E_MEMORY;
        memcpy(kept, dims, from->rank * sizeof *kept);
        o->dims = kept;
        x->files[from->file].n++;
        x->n_tensors++;
    }
    return QN_OK;
}

/* ---- names of files ---- */

static bool same_folder(const struct folder *x, uint64_t a, uint64_t b)
{
    return x->files[a].dir_bytes == x->files[b].dir_bytes && !memcmp(x->s->files[a].path, x->s->files[b].path, x->files[a].dir_bytes);
}

/* Files with tensors in the folder of file f: before, then, and of those how many stand before f. */
static void count_shards(const struct folder *x, uint64_t f, unsigned *old, unsigned *now, unsigned *before)
{
    *old = *now = *before = 0;
    for (uint64_t i = 0; i < x->s->n_files; i++) {
        if (x->files[i].role != WEIGHTS || !same_folder(x, i, f))
            continue;
        ++*old;
        *now += x->files[i].n > 0;
        *before += i < f && x->files[i].n > 0;
    }
}

/* "pytorch_model-00001-of-00002.bin" → "model-00001-of-00002.safetensors"; a shard fewer: all are numbered anew. */
static void name_weights(const struct folder *x, uint64_t f, char *name, size_t cap)
{
    const char *path = x->s->files[f].path, *base = base_of(path);
    unsigned old, now, before;
    count_shards(x, f, &old, &now, &before);
    if (now < old && now == 1)
        snprintf(name, cap, "%.*smodel.safetensors", (int)x->files[f].dir_bytes, path);
    else if (now < old)
        snprintf(name, cap, "%.*smodel-%05u-of-%05u.safetensors", (int)x->files[f].dir_bytes, path, before + 1, now);
    else if (ends(base, ".safetensors"))
        snprintf(name, cap, "%s", path);
    else {
        const char *dot = strrchr(base, '.');
        base += !strncmp(base, "pytorch_model", 13) ? 8 : 0;
        snprintf(name, cap, "%.*s%.*s.safetensors", (int)x->files[f].dir_bytes, path, dot ? (int)(dot - base) : (int)strlen(base), base);
    }
}

static qn_code name_files(struct folder *x, qn_err *err)
{
    for (uint64_t f = 0; f < x->s->n_files; f++) {
        const char *path = x->s->files[f].path;
        char name[1100];
        unsigned old, now, before;
        count_shards(x, f, &old, &now, &before);
        const bool without = x->files[f].role == LEFT_OUT || x->files[f].role == RECORD || (x->files[f].role == WEIGHTS && !x->files[f].n) ||
                             (x->files[f].role == INDEX && (!now || (now == 1 && old > 1)));
        if (without)
            continue;
        snprintf(name, sizeof name, "%s", path);
        if (x->files[f].role == WEIGHTS)
            name_weights(x, f, name, sizeof name);
        else if (x->files[f].role == INDEX && !ends(path, ".safetensors.index.json"))
            snprintf(name, sizeof name, "%.*smodel.safetensors.index.json", (int)x->files[f].dir_bytes, path);
        x->files[f].name = qn_arena_str(&x->plan.arena, name, strlen(name), err);
        if (!x->files[f].name)
            return QN_E_MEMORY;
    }
    return QN_OK;
}

/* ---- writing ---- */

static qn_code write_weights(struct folder *x, uint64_t f, const char *path, qn_err *err)
{
    const qn_safetensors_options opt = {.metadata = x->metadata};
    qn_out_tensor *t = qn_mem_zeros(x->env->alloc, x->files[f].n, sizeof *t, err);
    uint64_t n = 0;
    if (!t)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < x->n_tensors; i++)
        if (x->s->tensors[x->tensors[i].id].file == f)
            t[n++] = x->tensors[i];
    const qn_code rc = qn_safetensors_write(x->env, path, t, n, qn_emit_read, &x->content, &opt, err);
    qn_mem_put(x->env->alloc, t);
    return rc;
}

/* The index of the set in its folder. */
static qn_code write_index(const struct folder *x, uint64_t f, const char *path, qn_err *err)
{
    qn_textbuf j = {.alloc = x->env->alloc};
    uint64_t n = 0, total = 0;
    qn_shard_entry *e = qn_mem_zeros(x->env->alloc, x->n_tensors + 1, sizeof *e, err);
    if (!e)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < x->n_tensors; i++) {
        const uint32_t in = x->s->tensors[x->tensors[i].id].file;
        if (!same_folder(x, in, f))
            continue;
        e[n++] = (qn_shard_entry){x->tensors[i].name, base_of(x->files[in].name)};
        total += x->tensors[i].n_bytes;
    }
    qn_code rc = qn_safetensors_index_text(&j, e, n, total, err);
    if (rc == QN_OK)
        rc = qn_outdir_text(x->env, path, j.text, j.n, err);
    qn_mem_put(x->env->alloc, j.text);
    qn_mem_put(x->env->alloc, e);
    return rc;
}

static qn_code write_config(struct folder *x, const char *path, qn_err *err)
{
    qn_textbuf t = {.alloc = x->env->alloc};
    qn_code rc = qn_emit_config(&x->plan, &t, err);
    if (rc == QN_OK)
        rc = qn_outdir_text(x->env, path, t.text, t.n, err);
    qn_mem_put(x->env->alloc, t.text);
    return rc;
}

static qn_code write_one(struct folder *x, uint64_t f, qn_err *err)
{
    char *path = qn_path_join(x->env->alloc, x->root, x->files[f].name, err);
    qn_code rc = path ? qn_outdir_parents(x->env, x->root, path, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        switch (x->files[f].role) {
        case CONFIG:
            rc = write_config(x, path, err);
            break;
        case INDEX:
            rc = write_index(x, f, path, err);
            break;
        case WEIGHTS:
            rc = write_weights(x, f, path, err);
            break;
        default:
            rc = qn_outdir_copy(x->env, x->s, f, path, err);
        }
    qn_mem_put(x->env->alloc, path);
    return rc;
}

static qn_code write_all(struct folder *x, qn_err *err)
{
    const int r = x->env->fs->mkdir(x->env->fs->ctx, x->root);
    if (r < 0)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "folder cannot be created"), x->root);
    for (uint64_t f = 0; f < x->s->n_files; f++)
        if (x->files[f].name)
            QN_TRY(write_one(x, f, err));
    if (!x->record)
        return QN_OK;
    char *path = qn_path_join(x->env->alloc, x->root, "pruning.json", err);
    const qn_code rc = path ? qn_outdir_text(x->env, path, x->record, strlen(x->record), err) : QN_E_MEMORY;
    qn_mem_put(x->env->alloc, path);
    return rc;
}

/* ---- all together ---- */

static qn_code prepare(struct folder *x, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_emit_options *o, qn_err *err)
{
    QN_TRY(qn_emit_plan_make(x->env, g, c, d, o, false, &x->plan, err));
    x->files = qn_arena_get(&x->plan.arena, (x->s->n_files + 1) * sizeof *x->files, 8, err);
    if (!x->files)
        return QN_E_MEMORY;
    memset(x->files, 0, x->s->n_files * sizeof *x->files);
    sort_files(x);
    QN_TRY(list_tensors(x, err));
    QN_TRY(name_files(x, err));
    return qn_safetensors_metadata(x->s, &x->metadata, err);
}

qn_code qn_emit_hf(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_overlay *w, const char *path,
                   const qn_emit_options *o, qn_err *err)
{
    struct folder x = {.env = env, .s = g->source, .record = o->record};
    qn_tmptree tmp = {0};
    bool there;
    x.content = (qn_emit_content){.plan = &x.plan, .overlay = w, .tensor = UINT64_MAX};
    qn_code rc = prepare(&x, g, c, d, o, err);
    if (rc == QN_OK)
        rc = qn_outdir_check(env, g->source, path, o->overwrite, &there, err);
    if (rc == QN_OK)
        rc = qn_tmptree_open(&tmp, env, path, ".quern-emit", err);
    x.root = tmp.data;
    if (rc == QN_OK)
        rc = write_all(&x, err);
    if (rc == QN_OK)
        rc = qn_emit_verify(&x.plan, x.root, err);
    if (rc == QN_OK)
        rc = qn_outdir_publish(&tmp, path, there, err);
    qn_tmptree_close(&tmp);
    qn_emit_content_release(&x.content);
    qn_mem_put(g->source->env->alloc, x.metadata);
    qn_emit_plan_release(&x.plan);
    return rc;
}
