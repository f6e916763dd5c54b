/* emit_gguf.c: a GGUF file, cut: keys with the new widths in place of the old ones, tensors sliced, all else as it stands. Rows of llama's q and k
 * are permuted inside each head for its rotary pairs; whole heads keep that. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/prune/emit_plan.h"
#include "formats/gguf/write.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CHANGES_MAX = 16, PIECE_BYTES = 4 << 20 };

struct change {
    char key[128];
    uint64_t value;
    double real;
    bool is_real, done;
};

struct file {
    const qn_env *env;
    qn_emit_plan plan;
    qn_emit_content content;
    qn_gguf keys;
    qn_gguf_writer w;
    struct change list[CHANGES_MAX];
    unsigned n;
    char arch[64];
};

/* The first of the alternatives that the file has, else the first. */
static struct change *add(struct file *x, const char *keys)
{
    struct change *c = &x->list[x->n++];
    for (const char *k = keys; *k; k += strcspn(k, "|"), k += *k == '|') {
        snprintf(c->key, sizeof c->key, "%s.%.*s", x->arch, (int)strcspn(k, "|"), k);
        if (qn_gguf_find(&x->keys, c->key))
            return c;
    }
    snprintf(c->key, sizeof c->key, "%s.%.*s", x->arch, (int)strcspn(keys, "|"), keys);
    return c;
}

/* What the plan changes; at most 12 keys. */
static void list_changes(struct file *x)
{
    const qn_emit_plan *p = &x->plan;
    const qn_emit_arch *a = p->arch;
    const bool heads = p->now[QN_EMIT_HEADS] != p->old[QN_EMIT_HEADS], hidden = p->now[QN_EMIT_HIDDEN] != p->old[QN_EMIT_HIDDEN];
    const struct {
        const char *keys;
        uint64_t old, now;
        bool always;
    } rows[] = {
        {a->layers, p->n_layers, p->n_kept, false},
        {a->hidden, p->old[QN_EMIT_HIDDEN], p->now[QN_EMIT_HIDDEN], false},
        {a->ffn, p->old[QN_EMIT_FFN], p->now[QN_EMIT_FFN], false},
        {a->expert_ffn, p->old[QN_EMIT_EXPERT_FFN], p->now[QN_EMIT_EXPERT_FFN], false},
        {a->experts, p->old[QN_EMIT_EXPERTS], p->now[QN_EMIT_EXPERTS], false},
        {a->heads, p->old[QN_EMIT_HEADS], p->now[QN_EMIT_HEADS], false},
        {a->kv_heads, p->kv_old, p->kv_now, heads},
        /* readers take embedding length / heads where nothing is said */
        {a->head_dim, p->head_dim, p->head_dim, heads || hidden},
        {"attention.value_length", p->head_dim, p->head_dim, heads || hidden},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].keys && (rows[i].old != rows[i].now || rows[i].always))
            add(x, rows[i].keys)->value = rows[i].now;
    struct change *rope = heads || hidden ? add(x, "rope.dimension_count") : NULL;
    if (rope) {
        uint64_t v = p->head_dim;
        if (qn_gguf_find(&x->keys, rope->key) && qn_gguf_get_u64(&x->keys, rope->key, &v, NULL) != QN_OK)
            v = p->head_dim;
        rope->value = v;
    }
    if (p->eps >= 0) {
        struct change *eps = add(x, a->eps);
        eps->real = p->eps;
        eps->is_real = true;
    }
}

static qn_code put_change(struct file *x, struct change *c, const qn_gguf_key *key, qn_err *err)
{
    c->done = true;
    if (c->is_real) {
        union {
            double d;
            uint64_t u;
        } bits = {.d = c->real};
        if (key && key->type == QN_GGUF_F64)
            return qn_gguf_put_number(&x->w, c->key, QN_GGUF_F64, bits.u, err);
        return qn_gguf_put_f32(&x->w, c->key, (float)c->real, err);
    }
    const bool narrow = c->value <= UINT32_MAX && (!key || key->type == QN_GGUF_U32 || key->type == QN_GGUF_I32);
    return narrow ? qn_gguf_put_number(&x->w, c->key, key ? (qn_gguf_type)key->type : QN_GGUF_U32, c->value, err)
                  : qn_gguf_put_u64(&x->w, c->key, c->value, err);
}

/* An array with one bool for each layer: those of the layers that stay. */
static qn_code put_of_layers(struct file *x, const qn_gguf_key *key, qn_err *err)
{
    QN_TRY(qn_gguf_put_array(&x->w, key->name, (qn_gguf_type)key->elem, x->plan.n_kept, err));
    for (uint32_t i = 0; i < x->plan.n_layers; i++) {
        uint8_t b[8] = {0};
        if (x->plan.layers[i].to == QN_EMIT_GONE)
            continue;
        QN_TRY(qn_gguf_get_elems(&x->keys, key->name, (qn_gguf_type)key->elem, i, 1, b, err));
        QN_TRY(qn_gguf_put_array_numbers(&x->w, &(uint64_t){qn_load64(b)}, 1, err));
    }
    return QN_OK;
}

static qn_code put_keys(struct file *x, qn_err *err)
{
    char windows[128];
    snprintf(windows, sizeof windows, "%s.attention.sliding_window_pattern", x->arch);
    for (uint64_t i = 0; i < x->keys.n_keys; i++) {
        const qn_gguf_key *key = &x->keys.keys[i];
        struct change *c = NULL;
        for (unsigned k = 0; k < x->n && !c; k++)
            c = strcmp(x->list[k].key, key->name) ? NULL : &x->list[k];
        if (c)
            QN_TRY(put_change(x, c, key, err));
        else if (!strcmp(key->name, windows) && key->type == QN_GGUF_ARRAY && key->elem != QN_GGUF_STR && key->n == x->plan.n_layers)
            QN_TRY(put_of_layers(x, key, err));
        else if (strcmp(key->name, "general.alignment") || x->w.alignment == 32)
            QN_TRY(qn_gguf_put_copy(&x->w, &x->keys, key, err));
    }
    for (unsigned k = 0; k < x->n; k++)
        if (!x->list[k].done)
            QN_TRY(put_change(x, &x->list[k], NULL, err));
    return QN_OK;
}

static qn_code put_tensors(struct file *x, qn_err *err)
{
    const qn_source *s = x->plan.g->source;
    for (uint64_t t = 0; t < s->n_tensors; t++) {
        char name[128];
        bool gone;
        uint64_t dims[QN_RANK_MAX], n_bytes;
        QN_TRY(qn_emit_name(&x->plan, t, name, sizeof name, &gone, err));
        if (gone)
            continue;
        QN_TRY(qn_emit_dims(&x->plan, t, dims, &n_bytes, err));
        QN_TRY(qn_gguf_put_tensor(&x->w, name, (qn_dtype)s->tensors[t].dtype, dims, s->tensors[t].rank, err));
    }
    return QN_OK;
}

static qn_code put_data(struct file *x, qn_err *err)
{
    const qn_source *s = x->plan.g->source;
    uint8_t *buf = qn_mem_get(x->env->alloc, PIECE_BYTES, err);
    qn_code rc = buf ? QN_OK : QN_E_MEMORY;
    for (uint64_t t = 0; t < s->n_tensors && rc == QN_OK; t++) {
        char name[128];
        bool gone;
        uint64_t dims[QN_RANK_MAX], n_bytes = 0;
        rc = qn_emit_name(&x->plan, t, name, sizeof name, &gone, err);
        if (rc == QN_OK && !gone)
            rc = qn_emit_dims(&x->plan, t, dims, &n_bytes, err);
        for (uint64_t at = 0; rc == QN_OK && !gone && at < n_bytes; at += PIECE_BYTES) {
            const uint64_t n = qn_min_u64(PIECE_BYTES, n_bytes - at);
            rc = qn_emit_read(&x->content, t, at, n, buf, err);
            if (rc == QN_OK)
                rc = qn_gguf_put_data(&x->w, buf, n, err);
            if (rc == QN_OK)
                rc = qn_env_check(x->env, err);
        }
    }
    qn_mem_put(x->env->alloc, buf);
    return rc;
}

static qn_code write_file(struct file *x, const char *path, bool overwrite, qn_err *err)
{
    QN_TRY(qn_gguf_writer_open(&x->w, x->env, path, x->keys.alignment, overwrite, err));
    QN_TRY(put_keys(x, err));
    QN_TRY(put_tensors(x, err));
    QN_TRY(put_data(x, err));
    QN_TRY(qn_gguf_writer_seal(&x->w, err));
    QN_TRY(qn_emit_verify(&x->plan, x->w.out.tmp, err));
    return qn_outfile_publish(&x->w.out, err);
}

/* The dense model is read until the end, and compared with afterwards. */
static qn_code check_target(const qn_env *env, const qn_source *s, const char *path, qn_err *err)
{
    qn_stat a, b;
    bool there, source;
    QN_TRY(qn_fs_find(env->fs, path, &a, &there, err));
    if (!there)
        return QN_OK;
    QN_TRY(qn_fs_find(env->fs, s->path, &b, &source, err));
    return source && a.dev == b.dev && a.ino == b.ino
               ? qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is the model that is being pruned: give another name"), path) : QN_OK;
}

qn_code qn_emit_gguf(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_overlay *w, const char *path,
                     const qn_emit_options *o, qn_err *err)
{
    struct file x = {.env = env};
    x.content = (qn_emit_content){.plan = &x.plan, .overlay = w, .tensor = UINT64_MAX};
    qn_code rc = qn_emit_plan_make(env, g, c, d, o, true, &x.plan, err);
    if (rc == QN_OK)
        rc = check_target(env, g->source, path, err);
    if (rc == QN_OK)
        rc = qn_gguf_open(&x.keys, &x.plan.arena, g->source, err);
    if (rc == QN_OK)
        rc = qn_gguf_get_str(&x.keys, "general.architecture", x.arch, sizeof x.arch, err);
    if (rc == QN_OK && x.plan.arch)
        list_changes(&x);
    if (rc == QN_OK)
        rc = write_file(&x, path, o->overwrite, err);
    qn_gguf_writer_close(&x.w);
    qn_emit_content_release(&x.content);
    qn_emit_plan_release(&x.plan);
    return rc;
}
