/* hf_out.c: see hf_out.h. */
#include "compress/export/hf_out.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/folder.h"
#include <stdio.h>
#include <string.h>

struct out {
    qn_export_job *j;
    const qn_hf_out *o;
    const char *root;   /* where it grows */
    uint64_t n_shards, *first; /* first[k] … first[k + 1]: tensors of shard k */
    char *metadata;
};

static qn_code count_bytes(struct out *x, const char *path, qn_err *err)
{
    qn_stat st;
    bool there;
    QN_TRY(qn_fs_find(x->j->env->fs, path, &st, &there, err));
    x->j->n_bytes += there ? st.n_bytes : 0;
    return QN_OK;
}

/* --- other files ---------------------------------------------------------------------------------------------------- */

static bool is_replaced(const qn_hf_out *o, const char *path)
{
    for (unsigned i = 0; i < o->n_texts; i++)
        if (strcmp(o->texts[i].path, path) == 0)
            return true;
    return false;
}

static bool is_weights(const qn_source *s, uint64_t f)
{
    for (uint64_t t = 0; t < s->n_tensors; t++)
        if (s->tensors[t].file == f)
            return true;
    return qn_text_ends(s->files[f].path, ".index.json") || qn_text_ends(s->files[f].path, ".safetensors") ||
           qn_folder_is_other_weights(s->files[f].path);
}

static qn_code put_file(struct out *x, const char *rel, uint64_t f, const qn_hf_out_text *text, qn_err *err)
{
    const qn_env *env = x->j->env;
    char *path = qn_path_join(env->alloc, x->root, rel, err);
    qn_code rc = path ? qn_folder_parents(env, x->root, path, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = text ? qn_folder_text(env, path, text->text, text->n_bytes, err) : qn_folder_copy(env, x->j->src, f, path, err);
    if (rc == QN_OK)
        rc = count_bytes(x, path, err);
    qn_mem_put(env->alloc, path);
    return rc;
}

static qn_code put_files(struct out *x, qn_err *err)
{
    const qn_source *s = x->j->src;
    for (uint64_t f = 0; s->is_dir && f < s->n_files; f++)
        if (!is_replaced(x->o, s->files[f].path) && !is_weights(s, f))
            QN_TRY(put_file(x, s->files[f].path, f, NULL, err));
    for (unsigned i = 0; i < x->o->n_texts; i++)
        QN_TRY(put_file(x, x->o->texts[i].path, 0, &x->o->texts[i], err));
    return QN_OK;
}

/* --- weights --------------------------------------------------------------------------------------------------------- */

/* In the order given, so that layers stay together. first == NULL: counts only. */
static uint64_t cut(const qn_hf_out *o, uint64_t most, uint64_t *first)
{
    uint64_t shards = 0, held = 0;
    for (uint64_t i = 0; i < o->n; i++) {
        if (i == 0 || held + o->t[i].n_bytes > most) {
            if (first)
                first[shards] = i;
            shards++;
            held = 0;
        }
        held += o->t[i].n_bytes;
    }
    if (first)
        first[shards] = o->n;
    return shards;
}

static void shard_name(const struct out *x, uint64_t k, char name[64])
{
    if (x->n_shards == 1)
        (void)snprintf(name, 64, "model.safetensors");
    else
        (void)snprintf(name, 64, "model-%05llu-of-%05llu.safetensors", (unsigned long long)k + 1, (unsigned long long)x->n_shards);
}

static qn_code put_shard(struct out *x, uint64_t k, qn_err *err)
{
    const qn_env *env = x->j->env;
    const uint64_t n = x->first[k + 1] - x->first[k];
    const qn_safetensors_options opt = {.metadata = x->metadata};
    char name[64];
    shard_name(x, k, name);
    char *path = qn_path_join(env->alloc, x->root, name, err);
    qn_out_tensor *t = path ? qn_mem_get(env->alloc, n * sizeof *t, err) : NULL;
    qn_code rc = t ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK) {
        memcpy(t, x->o->t + x->first[k], n * sizeof *t); /* they are sorted there */
        rc = qn_safetensors_write(env, path, t, n, x->o->read, x->o->ctx, &opt, err);
    }
    if (rc == QN_OK)
        rc = count_bytes(x, path, err);
    qn_mem_put(env->alloc, t);
    qn_mem_put(env->alloc, path);
    return rc;
}

static qn_code put_index(struct out *x, qn_err *err)
{
    const qn_env *env = x->j->env;
    qn_text text = {.alloc = env->alloc};
    uint64_t total = 0;
    qn_shard_entry *e = qn_mem_zeros(env->alloc, x->o->n + 1, sizeof *e, err);
    char(*names)[64] = e ? qn_mem_zeros(env->alloc, x->n_shards, sizeof *names, err) : NULL;
    qn_code rc = names ? QN_OK : QN_E_MEMORY;
    for (uint64_t k = 0; k < x->n_shards && rc == QN_OK; k++) {
        shard_name(x, k, names[k]);
        for (uint64_t i = x->first[k]; i < x->first[k + 1]; i++) {
            e[i] = (qn_shard_entry){x->o->t[i].name, names[k]};
            total += x->o->t[i].n_bytes;
        }
    }
    if (rc == QN_OK)
        rc = qn_safetensors_index_text(&text, e, x->o->n, total, err);
    if (rc == QN_OK)
        rc = put_file(x, "model.safetensors.index.json", 0, &(qn_hf_out_text){.text = text.p, .n_bytes = text.n}, err);
    qn_mem_put(env->alloc, text.p);
    qn_mem_put(env->alloc, names);
    qn_mem_put(env->alloc, e);
    return rc;
}

static qn_code put_weights(struct out *x, qn_err *err)
{
    const uint64_t most = x->j->wish->shard_bytes ? x->j->wish->shard_bytes : QN_HF_OUT_SHARD_BYTES;
    if (!x->o->n)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "no tensors");
    x->n_shards = cut(x->o, most, NULL);
    if (x->n_shards > 99999)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%llu files of at most %llu bytes: at most 99999 can be named", (unsigned long long)x->n_shards,
                       (unsigned long long)most);
    x->first = qn_mem_get(x->j->env->alloc, (x->n_shards + 1) * sizeof *x->first, err);
    if (!x->first)
        return QN_E_MEMORY;
    (void)cut(x->o, most, x->first);
    QN_TRY(qn_safetensors_metadata(x->j->src, &x->metadata, err));
    for (uint64_t k = 0; k < x->n_shards; k++)
        QN_TRY(put_shard(x, k, err));
    return x->n_shards > 1 ? put_index(x, err) : QN_OK;
}

/* Our own reader must take the whole. */
static qn_code check(const struct out *x, qn_err *err)
{
    qn_source *s;
    QN_TRY(qn_source_open(x->j->env, x->root, &s, err));
    const bool all = s->n_tensors == x->o->n;
    qn_source_close(s);
    return all ? QN_OK : QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "tensors are missing in what was written");
}

qn_code qn_hf_out_write(qn_export_job *j, const qn_hf_out *o, qn_err *err)
{
    struct out x = {.j = j, .o = o};
    qn_tmptree tmp = {0};
    bool there;
    j->n_bytes = 0;
    QN_TRY(qn_folder_check(j->env, j->input, j->path, j->overwrite, "exported", &there, err));
    qn_code rc = qn_tmptree_open(&tmp, j->env, j->path, ".quern-export", err);
    x.root = tmp.data;
    if (rc == QN_OK)
        rc = qn_folder_make(j->env, x.root, err);
    if (rc == QN_OK)
        rc = put_files(&x, err);
    if (rc == QN_OK)
        rc = put_weights(&x, err);
    if (rc == QN_OK)
        rc = check(&x, err);
    if (rc == QN_OK)
        rc = qn_folder_publish(&tmp, j->path, there, err);
    qn_tmptree_close(&tmp);
    qn_mem_put(j->env->alloc, x.first);
    qn_mem_put(j->src->env->alloc, x.metadata);
    return rc;
}

/* --- configuration ---------------------------------------------------------------------------------------------------- */

bool qn_hf_out_has_config(const qn_source *s)
{
    for (uint64_t f = 0; f < s->n_files; f++)
        if (strcmp(s->files[f].path, "config.json") == 0)
            return true;
    return false;
}

qn_code qn_hf_out_config(qn_export_job *j, const qn_config_change *c, uint32_t n, qn_hf_out_text *out, qn_err *err)
{
    char *text;
    uint64_t n_bytes;
    qn_text t = {.alloc = j->env->alloc};
    QN_TRY(qn_folder_read(j->env, j->src, "config.json", &text, &n_bytes, err));
    if (!text)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "there is no config.json, which has to say how the weights are stored");
    qn_code rc = qn_config_edit(text, n_bytes, c, n, &t, err);
    const char *kept = rc == QN_OK ? qn_arena_str(j->arena, t.p, t.n, err) : NULL;
    if (rc == QN_OK && !kept)
        rc = QN_E_MEMORY;
    *out = (qn_hf_out_text){.path = "config.json", .text = kept, .n_bytes = t.n};
    qn_mem_put(j->env->alloc, t.p);
    qn_mem_put(j->env->alloc, text);
    return rc;
}
