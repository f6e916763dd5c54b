/* unpack.c: .quern → the files it was made from. See qn_unpack in pack.h.
 *
 * Everything is written under a temporary name beside OUT (OUT.quern-unpack: a file or a folder), synced, and renamed
 * when every digest has matched. An existing folder OUT (with --force) gets its files replaced one by one. */
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include "compress/chunks.h"
#include "compress/pack.h"
#include "compress/walk.h"
#include "formats/quern/source.h"
#include <errno.h>
#include <string.h>

#define TMP_SUFFIX ".quern-unpack"

struct slot {
    qn_worker worker;
    uint8_t *raw;
    qn_digest digest;
    qn_code rc;
    qn_err why;
};

struct unpack {
    const qn_env *env;
    const qn_source *packed;
    qn_reader *reader;
    const qn_index *ix;
    const qn_unpack_options *opt;
    const char *out;
    char *tmp;
    struct slot *slots;
    unsigned n_slots;
    qn_walk walk;
    qn_file file;       /* the one being written     */
    uint64_t file_index; /* n_files when none is left */
    bool tmp_made;
    uint64_t damaged_object, n_damaged, done_bytes, total_bytes;
    qn_err first;
};

static qn_code make_dir(const struct unpack *u, const char *path, qn_err *err)
{
    const int r = u->env->fs->mkdir(u->env->fs->ctx, path);
    if (r < 0 && r != -EEXIST)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "folder cannot be created"), path);
    return QN_OK;
}

/* The folders between root and a relative path. */
static qn_code make_parents(const struct unpack *u, const char *root, const char *rel, qn_err *err)
{
    qn_code rc = QN_OK;
    for (const char *slash = strchr(rel, '/'); slash && rc == QN_OK; slash = strchr(slash + 1, '/')) {
        char *path = qn_path_join(u->env->alloc, root, rel, err);
        if (!path)
            return QN_E_MEMORY;
        path[strlen(path) - strlen(slash)] = '\0';
        rc = make_dir(u, path, err);
        qn_mem_put(u->env->alloc, path);
    }
    return rc;
}

static char *file_path(const struct unpack *u, const char *root, uint64_t file, qn_err *err)
{
    return u->ix->is_dir ? qn_path_join(u->env->alloc, root, u->ix->files[file].path, err)
                         : qn_path_cat(u->env->alloc, root, "", err);
}

static qn_code begin_file(struct unpack *u, qn_err *err)
{
    if (u->ix->is_dir)
        QN_TRY(make_parents(u, u->tmp, u->ix->files[u->file_index].path, err));
    char *path = file_path(u, u->tmp, u->file_index, err);
    if (!path)
        return QN_E_MEMORY;
    qn_code rc = qn_file_open(&u->file, u->env->fs, u->env->alloc, path, QN_OPEN_NEW, err);
    if (rc == QN_OK) {
        /* the size is known: a full disk shows here and not an hour later */
        const int r = u->env->fs->reserve(u->env->fs->ctx, u->file.fd, u->ix->files[u->file_index].n_bytes);
        if (r == -ENOSPC || r == -EFBIG || r == -EDQUOT)
            rc = qn_err_in_path(err, QN_FAIL_SYS(err, -r, "%llu bytes are needed",
                                                 (unsigned long long)u->ix->files[u->file_index].n_bytes), path);
    }
    qn_mem_put(u->env->alloc, path);
    return rc;
}

static qn_code end_file(struct unpack *u, qn_err *err)
{
    QN_TRY(qn_file_sync(&u->file, err));
    QN_TRY(qn_file_close(&u->file, err));
    u->file_index++;
    return QN_OK;
}

/* Makes `file` the open one; files without a byte are created on the way. */
static qn_code advance_to(struct unpack *u, uint64_t file, qn_err *err)
{
    if (u->opt->dry_run)
        return QN_OK;
    while (u->file_index < file) {
        if (u->file.fd < 0)
            QN_TRY(begin_file(u, err));
        QN_TRY(end_file(u, err));
    }
    if (file < u->ix->n_files && u->file.fd < 0)
        return begin_file(u, err);
    return QN_OK;
}

static qn_code work(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct unpack *u = ctx;
    struct slot *s = &u->slots[slot];
    uint64_t object, i;
    QN_TRY(qn_env_check(u->env, err));
    qn_chunks_locate(u->ix, task, &object, &i);
    const qn_block b = qn_index_block(&u->ix->objects[object], i);
    const size_t n = (size_t)b.n * qn_unit_bytes(b.dtype);
    qn_err_clear(&s->why);
    s->rc = qn_reader_chunk(u->reader, &s->worker, object, i, s->raw, &s->why);
    if (s->rc == QN_OK) {
        s->digest = qn_hash128(s->raw, n);
        return QN_OK;
    }
    if (u->opt->salvage && s->rc == QN_E_INPUT) {
        memset(s->raw, 0, n);
        return QN_OK;
    }
    *err = s->why;
    return s->rc;
}

static void report_damage(struct unpack *u, const qn_err *what)
{
    if (u->n_damaged++ == 0)
        u->first = *what;
    if (u->opt->damaged)
        u->opt->damaged(u->opt->damaged_ctx, what);
}

static qn_code commit(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct unpack *u = ctx;
    struct slot *s = &u->slots[slot];
    uint64_t object, i;
    qn_chunks_locate(u->ix, task, &object, &i);
    const qn_index_object *o = &u->ix->objects[object];
    const qn_block b = qn_index_block(o, i);
    const unsigned unit = qn_unit_bytes(b.dtype);
    const uint64_t n = (uint64_t)b.n * unit;
    QN_TRY(qn_walk_to(&u->walk, object, err));
    if (s->rc != QN_OK) {
        report_damage(u, &s->why);
        u->damaged_object = object;
        s->digest = (qn_digest){{0}};
    }
    QN_TRY(advance_to(u, o->file, err));
    if (!u->opt->dry_run)
        QN_TRY(qn_file_write(&u->file, s->raw, n, o->off + i * o->chunk_units * unit, err));
    u->done_bytes += n;
    if (u->env->progress)
        u->env->progress(u->env->progress_ctx, "decompressing", u->done_bytes, u->total_bytes);
    return qn_walk_chunk(&u->walk, object, &s->digest, err);
}

static qn_code object_done(void *ctx, uint64_t object, const qn_digest *digest, qn_err *err)
{
    struct unpack *u = ctx;
    const qn_index_object *o = &u->ix->objects[object];
    if (qn_digest_equal(digest, &o->digest) || object == u->damaged_object)
        return QN_OK;
    qn_err what;
    qn_err_clear(&what);
    (void)QN_FAIL(&what, QN_E_INPUT, QN_NO_OFFSET, "decoded bytes do not have the recorded digest");
    (void)qn_err_in_path(&what, QN_E_INPUT, qn_reader_path(u->reader));
    (void)qn_err_in_tensor(&what, QN_E_INPUT, o->is_tensor ? o->name : u->ix->files[o->file].path);
    if (!u->opt->salvage) {
        if (err && err->code == QN_OK)
            *err = what;
        return QN_E_INPUT;
    }
    report_damage(u, &what);
    return QN_OK;
}

struct removal {
    const struct unpack *u;
    const char *dir;
    unsigned depth;
};

/* Removes a tree that an earlier run of ours left under the temporary name. */
static int remove_tree(const struct unpack *u, const char *path, unsigned depth);

static int remove_entry(void *ctx, const char *name)
{
    const struct removal *r = ctx;
    char *path = qn_path_join(r->u->env->alloc, r->dir, name, NULL);
    const int rc = path ? remove_tree(r->u, path, r->depth + 1) : -ENOMEM;
    qn_mem_put(r->u->env->alloc, path);
    return rc;
}

static int remove_tree(const struct unpack *u, const char *path, unsigned depth)
{
    const qn_fs *fs = u->env->fs;
    const int r = fs->unlink(fs->ctx, path);
    if ((r != -EISDIR && r != -EPERM) || depth > 20)
        return r;
    struct removal sub = {.u = u, .dir = path, .depth = depth};
    const int listed = fs->list(fs->ctx, path, remove_entry, &sub);
    return listed < 0 ? listed : fs->rmdir(fs->ctx, path);
}

static qn_code check_output(struct unpack *u, qn_err *err)
{
    const qn_fs *fs = u->env->fs;
    qn_stat st;
    u->tmp = qn_path_cat(u->env->alloc, u->out, TMP_SUFFIX, err);
    if (!u->tmp)
        return QN_E_MEMORY;
    if (fs->stat(fs->ctx, u->out, &st) == 0) {
        if (st.is_dir != u->ix->is_dir)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is a %s, but this restores a %s",
                                               st.is_dir ? "folder" : "file", u->ix->is_dir ? "folder" : "file"), u->out);
        if (!u->opt->overwrite)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "exists: give --force to replace it"),
                                  u->out);
    }
    if (u->opt->dry_run)
        return QN_OK;
    if (fs->stat(fs->ctx, u->tmp, &st) == 0) {
        if (qn_source_is_file(u->packed, &st))
            return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is the input, and the name that is needed on the "
                                               "way: give the output another name"), u->tmp);
        const int r = remove_tree(u, u->tmp, 0);
        if (r < 0)
            return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "left by an earlier run, cannot be removed"), u->tmp);
    }
    u->tmp_made = true;
    return u->ix->is_dir ? make_dir(u, u->tmp, err) : QN_OK;
}

/* Into a folder that is already there: each file is replaced atomically, the folder as a whole is not. */
static qn_code publish_each(struct unpack *u, qn_err *err)
{
    qn_code rc = QN_OK;
    for (uint64_t f = 0; f < u->ix->n_files && rc == QN_OK; f++) {
        char *from = file_path(u, u->tmp, f, err), *to = file_path(u, u->out, f, err);
        rc = from && to ? make_parents(u, u->out, u->ix->files[f].path, err) : QN_E_MEMORY;
        if (rc == QN_OK)
            rc = qn_fs_publish(u->env->fs, u->env->alloc, from, to, err);
        qn_mem_put(u->env->alloc, from);
        qn_mem_put(u->env->alloc, to);
    }
    if (rc == QN_OK)
        (void)remove_tree(u, u->tmp, 0);
    return rc;
}

static qn_code publish(struct unpack *u, qn_err *err)
{
    if (u->ix->is_dir && qn_fs_exists(u->env->fs, u->out))
        return publish_each(u, err);
    return qn_fs_publish(u->env->fs, u->env->alloc, u->tmp, u->out, err);
}

static qn_code slots_open(struct unpack *u, qn_err *err)
{
    const uint64_t max = qn_chunks_max_bytes(u->ix);
    QN_TRY(qn_chunks_workers(u->env, u->ix->n_chunks, 0, (1 + QN_READ_CHUNKS) * max, &u->n_slots, err));
    u->slots = qn_mem_zeros(u->env->alloc, u->n_slots, sizeof *u->slots, err);
    if (!u->slots)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < u->n_slots; i++)
        qn_worker_init(&u->slots[i].worker, u->env->alloc);
    for (unsigned i = 0; i < u->n_slots; i++) {
        u->slots[i].raw = qn_mem_get(u->env->alloc, max, err);
        if (!u->slots[i].raw)
            return QN_E_MEMORY;
    }
    return QN_OK;
}

static qn_code unpack(struct unpack *u, qn_err *err)
{
    const qn_job job = {.work = work, .commit = commit, .ctx = u};
    u->ix = qn_reader_index(u->reader);
    u->damaged_object = UINT64_MAX;
    for (uint64_t f = 0; f < u->ix->n_files; f++)
        u->total_bytes += u->ix->files[f].n_bytes;
    QN_TRY(check_output(u, err));
    QN_TRY(slots_open(u, err));
    QN_TRY(qn_walk_open(&u->walk, u->ix, object_done, u, err));
    QN_TRY(qn_run(u->env, &job, u->ix->n_chunks, u->n_slots, err));
    QN_TRY(qn_walk_end(&u->walk, err));
    QN_TRY(advance_to(u, u->ix->n_files, err));
    return u->opt->dry_run ? QN_OK : publish(u, err);
}

qn_code qn_unpack(const qn_env *env, qn_source *packed, const char *out_path, const qn_unpack_options *opt,
                  uint64_t *n_bytes, qn_err *err)
{
    struct unpack u = {.env = env, .packed = packed, .opt = opt, .out = out_path, .file = QN_FILE_CLOSED};
    u.reader = qn_quern_source_reader(packed);
    if (!u.reader)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is not a .quern file"), packed->path);
    qn_code rc = unpack(&u, err);
    qn_file_drop(&u.file);
    if (rc != QN_OK && u.tmp_made)
        (void)remove_tree(&u, u.tmp, 0);
    qn_walk_release(&u.walk);
    for (unsigned i = 0; u.slots && i < u.n_slots; i++) {
        qn_worker_release(&u.slots[i].worker);
        qn_mem_put(env->alloc, u.slots[i].raw);
    }
    qn_mem_put(env->alloc, u.slots);
    qn_mem_put(env->alloc, u.tmp);
    *n_bytes = u.total_bytes;
    if (rc == QN_OK && u.n_damaged) {
        if (err && err->code == QN_OK)
            *err = u.first;
        rc = QN_E_INPUT;
    }
    return rc;
}
