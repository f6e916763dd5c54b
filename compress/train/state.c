/* state.c: see state.h. */
#include "compress/train/state.h"
#include "base/err.h"
#include "base/num.h"
#include <stdio.h>
#include <string.h>

enum { HEAD_BYTES = 72 + 16 * QN_TRAIN_RECENT };
static const char magic[8] = "QNTRAIN1";

qn_code qn_train_state_open(const qn_env *env, const qn_graph *g, qn_overlay *w, const qn_train_options *o, qn_train_state *s, qn_err *err)
{
    const uint64_t n = (uint64_t)o->n_weights + 1;
    *s = (qn_train_state){.env = env, .values = o->weights};
    s->elems = qn_mem_zeros(env->alloc, n, sizeof *s->elems, err);
    float ***const lists[] = {&s->w, &s->m, &s->v, &s->best};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (!(*lists[i] = qn_mem_zeros(env->alloc, n, sizeof **lists[i], err)))
            return QN_E_MEMORY;
    if (!s->elems)
        return QN_E_MEMORY;
    s->n_weights = o->n_weights;
    for (uint32_t i = 0; i < o->n_weights; i++) {
        QN_TRY(qn_overlay_edit(w, o->weights[i], &s->w[i], err));
        s->elems[i] = qn_value_elems(&g->values[o->weights[i]]);
        s->m[i] = qn_mem_zeros(env->alloc, s->elems[i] + 1, sizeof(float), err);
        s->v[i] = s->m[i] ? qn_mem_zeros(env->alloc, s->elems[i] + 1, sizeof(float), err) : NULL;
        s->best[i] = s->v[i] ? qn_mem_zeros(env->alloc, s->elems[i] + 1, sizeof(float), err) : NULL;
        if (!s->best[i])
            return QN_E_MEMORY;
    }
    return QN_OK;
}

void qn_train_state_close(qn_train_state *s)
{
    if (!s->env)
        return;
    const qn_alloc *a = s->env->alloc;
    for (uint32_t i = 0; i < s->n_weights; i++) {
        qn_mem_put(a, s->m[i]);
        qn_mem_put(a, s->v[i]);
        qn_mem_put(a, s->best[i]);
    }
    void *const lists[] = {s->elems, s->w, s->m, s->v, s->best};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        qn_mem_put(a, lists[i]);
}

void qn_train_state_keep(qn_train_state *s)
{
    for (uint32_t i = 0; i < s->n_weights; i++)
        memcpy(s->best[i], s->w[i], s->elems[i] * sizeof(float));
    s->best_step = s->step;
}

void qn_train_state_restore(qn_train_state *s)
{
    for (uint32_t i = 0; i < s->n_weights; i++)
        memcpy(s->w[i], s->best[i], s->elems[i] * sizeof(float));
}

/* --- the file -------------------------------------------------------------------------------------------------------- */

static void put_f64(uint8_t *p, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    qn_store64(p, bits);
}

static double get_f64(const uint8_t *p)
{
    const uint64_t bits = qn_load64(p);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void pack(const qn_train_state *s, const qn_digest *key, uint64_t state_bytes, uint8_t h[HEAD_BYTES])
{
    memcpy(h, magic, 8);
    memcpy(h + 8, key->b, 16);
    qn_store32(h + 24, s->step);
    qn_store32(h + 28, s->best_step);
    qn_store32(h + 32, s->n_weights);
    qn_store32(h + 36, s->judged);
    put_f64(h + 40, s->best_loss);
    put_f64(h + 48, s->before);
    qn_store64(h + 56, state_bytes);
    qn_store64(h + 64, 0);
    for (unsigned i = 0; i < QN_TRAIN_RECENT; i++) {
        put_f64(h + 72 + 8 * i, s->first[i]);
        put_f64(h + 72 + 8 * (QN_TRAIN_RECENT + i), s->recent[i]);
    }
}

static void unpack(qn_train_state *s, const uint8_t h[HEAD_BYTES])
{
    s->step = qn_load32(h + 24);
    s->best_step = qn_load32(h + 28);
    s->judged = qn_load32(h + 36);
    s->best_loss = get_f64(h + 40);
    s->before = get_f64(h + 48);
    for (unsigned i = 0; i < QN_TRAIN_RECENT; i++) {
        s->first[i] = get_f64(h + 72 + 8 * i);
        s->recent[i] = get_f64(h + 72 + 8 * (QN_TRAIN_RECENT + i));
    }
}

/* Walks the parts of the file in order, for reading or writing; f32 stand as the machine has them, which is little-endian (base/half.h). */
struct walk {
    qn_file file;
    qn_hasher hash;
    uint64_t at;
    bool write;
};

static qn_code part(struct walk *k, void *p, uint64_t n, qn_err *err)
{
    if (k->write)
        QN_TRY(qn_file_write(&k->file, p, n, k->at, err));
    else
        QN_TRY(qn_file_read(&k->file, p, n, k->at, err));
    qn_hasher_add(&k->hash, p, n);
    k->at += n;
    return QN_OK;
}

static qn_code parts(struct walk *k, const qn_train_state *s, void *state, uint64_t state_bytes, qn_err *err)
{
    if (state_bytes)
        QN_TRY(part(k, state, state_bytes, err));
    for (uint32_t i = 0; i < s->n_weights; i++) {
        float *const all[] = {s->w[i], s->m[i], s->v[i], s->best[i]};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            QN_TRY(part(k, all[j], s->elems[i] * sizeof(float), err));
    }
    return QN_OK;
}

static uint64_t file_bytes(const qn_train_state *s, uint64_t state_bytes)
{
    uint64_t n = HEAD_BYTES + state_bytes + 16;
    for (uint32_t i = 0; i < s->n_weights; i++)
        n += 4 * s->elems[i] * sizeof(float);
    return n;
}

/* Digest of the file's n bytes before its own digest: looked at before anything is overwritten. */
static qn_code check(struct walk *k, const qn_alloc *alloc, uint64_t n, bool *good, qn_err *err)
{
    enum { STEP = 1 << 20 };
    uint8_t *buf = qn_mem_get(alloc, STEP, err), end[16];
    if (!buf)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint64_t at = 0; at < n && rc == QN_OK; at += STEP) {
        const uint64_t len = qn_min_u64(STEP, n - at);
        rc = qn_file_read(&k->file, buf, len, at, err);
        if (rc == QN_OK)
            qn_hasher_add(&k->hash, buf, len);
    }
    qn_mem_put(alloc, buf);
    if (rc != QN_OK)
        return rc;
    QN_TRY(qn_file_read(&k->file, end, sizeof end, n, err));
    const qn_digest d = qn_hasher_digest(&k->hash);
    *good = !memcmp(d.b, end, 16);
    return QN_OK;
}

static qn_code load(struct walk *k, qn_train_state *s, const qn_digest *key, void *state, uint64_t state_bytes, bool *there, qn_err *err)
{
    uint8_t h[HEAD_BYTES];
    qn_stat st;
    QN_TRY(qn_file_stat(&k->file, &st, err));
    if (st.n_bytes != file_bytes(s, state_bytes))
        return QN_OK;
    QN_TRY(qn_file_read(&k->file, h, sizeof h, 0, err));
    if (memcmp(h, magic, 8) || memcmp(h + 8, key->b, 16) || qn_load32(h + 32) != s->n_weights || qn_load64(h + 56) != state_bytes)
        return QN_OK;
    QN_TRY(check(k, s->env->alloc, st.n_bytes - 16, there, err));
    if (!*there)
        return QN_OK;
    k->at = HEAD_BYTES;
    QN_TRY(parts(k, s, state, state_bytes, err));
    unpack(s, h);
    return QN_OK;
}

qn_code qn_train_state_load(qn_train_state *s, const char *path, const qn_digest *key, void *state, uint64_t state_bytes, bool *there, qn_err *err)
{
    struct walk k = {.file = QN_FILE_CLOSED};
    qn_stat st;
    *there = false;
    QN_TRY(qn_fs_find(s->env->fs, path, &st, there, err));
    if (!*there)
        return QN_OK;
    *there = false;
    QN_TRY(qn_hasher_open(&k.hash, err));
    qn_code rc = qn_file_open(&k.file, s->env->fs, s->env->alloc, path, QN_OPEN_READ, err);
    if (rc == QN_OK)
        rc = load(&k, s, key, state, state_bytes, there, err);
    qn_file_drop(&k.file);
    qn_hasher_close(&k.hash);
    return rc;
}

static qn_code save(struct walk *k, const qn_train_state *s, const qn_digest *key, const void *state, uint64_t state_bytes, qn_err *err)
{
    uint8_t h[HEAD_BYTES];
    union {
        const void *in;
        void *out;
    } u = {.in = state}; /* only read: the walk writes the file */
    pack(s, key, state_bytes, h);
    QN_TRY(part(k, h, sizeof h, err));
    QN_TRY(parts(k, s, u.out, state_bytes, err));
    const qn_digest d = qn_hasher_digest(&k->hash);
    QN_TRY(qn_file_write(&k->file, d.b, sizeof d.b, k->at, err));
    return qn_file_sync(&k->file, err);
}

qn_code qn_train_state_save(const qn_train_state *s, const char *path, const qn_digest *key, const void *state, uint64_t state_bytes, qn_err *err)
{
    const qn_alloc *a = s->env->alloc;
    const qn_fs *fs = s->env->fs;
    const size_t n = strlen(path) + 8;
    char *name = qn_mem_get(a, n, err);
    if (!name)
        return QN_E_MEMORY;
    snprintf(name, n, "%s.new", path);
    (void)fs->unlink(fs->ctx, name); /* what a cut has left */
    struct walk k = {.file = QN_FILE_CLOSED, .write = true};
    qn_code rc = qn_hasher_open(&k.hash, err);
    if (rc == QN_OK)
        rc = qn_file_open(&k.file, fs, a, name, QN_OPEN_NEW | QN_OPEN_PRIVATE, err);
    if (rc == QN_OK) {
        rc = save(&k, s, key, state, state_bytes, err);
        if (rc == QN_OK)
            rc = qn_file_close(&k.file, err);
        else
            qn_file_drop(&k.file);
        if (rc == QN_OK)
            rc = qn_fs_publish(fs, a, name, path, err);
        if (rc != QN_OK)
            (void)fs->unlink(fs->ctx, name);
    }
    qn_hasher_close(&k.hash);
    qn_mem_put(a, name);
    return rc;
}
