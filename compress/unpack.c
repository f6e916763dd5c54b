/* unpack.c: .quern → the files it was made from. See qn_unpack in pack.h.
 *
 * Everything is written in a temporary folder beside OUT (tmptree.h), synced, files and folders, and renamed when every
 * digest has matched. An existing folder OUT (with --force) gets its files replaced one by one, each atomically: a cut
 * between two leaves old and new ones, and the same command completes it. */
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include "compress/chunks.h"
#include "compress/pack.h"
#include "compress/tmptree.h"
#include "compress/walk.h"
#include "formats/quern/source.h"
#include <errno.h>
#include <string.h>

struct slot {
    qn_worker worker;
    uint8_t *raw;
    qn_digest digest;
    qn_code rc;
    qn_err why;
};

struct unpack {
    const qn_env *env;
    qn_reader *reader;
    const qn_index *ix;
    const qn_unpack_options *opt;
    const char *out;
    bool merge; /* into a folder that is already there */
    qn_tmptree tmp;
    struct slot *slots;
    unsigned n_slots;
    qn_walk walk;
    qn_file file;        /* the one being written     */
    uint64_t file_index; /* n_files when none is left */
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

static qn_code sync_dir(const struct unpack *u, const char *path, qn_err *err)
{
    char *inside = qn_path_join(u->env->alloc, path, "x", err);
    const qn_code rc = inside ? qn_fs_sync_parent(u->env->fs, u->env->alloc, inside, err) : QN_E_MEMORY;
    qn_mem_put(u->env->alloc, inside);
    return rc;
}

static qn_code check_dir(const struct unpack *u, const char *path, qn_err *err)
{
    qn_stat st;
    bool there;
    QN_TRY(qn_fs_find(u->env->fs, path, &st, &there, err));
    return there && !st.is_dir ? qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                                                             "is a file, but a folder of that name is restored"), path)
                               : QN_OK;
}

/* Is the folder that ends at path[n] also one of `before`, the path of the file in front of it? */
static bool shared_dir(const char *path, size_t n, const char *before)
{
    return before && strncmp(path, before, n + 1) == 0;
}

/* Calls fn for root and every folder below it that holds a file, outer ones first, each once: paths are sorted. */
static qn_code each_dir(const struct unpack *u, const char *root,
                        qn_code (*fn)(const struct unpack *u, const char *path, qn_err *err), qn_err *err)
{
    qn_code rc = u->ix->is_dir ? fn(u, root, err) : QN_OK;
    for (uint64_t f = 0; u->ix->is_dir && f < u->ix->n_files && rc == QN_OK; f++) {
        const char *path = u->ix->files[f].path, *before = f ? u->ix->files[f - 1].path : NULL;
        for (const char *slash = strchr(path, '/'); slash && rc == QN_OK; slash = strchr(slash + 1, '/')) {
            if (shared_dir(path, (size_t)(slash - path), before))
                continue;
            char *dir = qn_path_join(u->env->alloc, root, path, err);
            if (!dir)
                return QN_E_MEMORY;
            dir[strlen(dir) - strlen(slash)] = '\0';
            rc = fn(u, dir, err);
            qn_mem_put(u->env->alloc, dir);
        }
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
    char *path = file_path(u, u->tmp.data, u->file_index, err);
    if (!path)
        return QN_E_MEMORY;
    qn_code rc = qn_file_open(&u->file, u->env->fs, u->env->alloc, path, QN_OPEN_NEW, err);
    if (rc == QN_OK) /* the size is known: a full disk shows here and not an hour later */
        rc = qn_file_reserve(&u->file, u->ix->files[u->file_index].n_bytes, err);
    qn_mem_put(u->env->alloc, path);
    return rc;
}

static qn_code end_file(struct unpack *u, qn_err *err)
{
    QN_TRY(qn_file_sync(&u->file, err));
    u->file_index++;
    return qn_file_close(&u->file, err);
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

/* May OUT be written? Looked at before the work and again before its end. */
static qn_code check_output(struct unpack *u, qn_err *err)
{
    qn_stat st;
    bool there;
    QN_TRY(qn_fs_find(u->env->fs, u->out, &st, &there, err));
    if (there && st.is_dir != u->ix->is_dir)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is a %s, but this restores a %s",
                                           st.is_dir ? "folder" : "file", u->ix->is_dir ? "folder" : "file"), u->out);
    if (there && !u->opt->overwrite)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "exists: give --force to replace it"), u->out);
    u->merge = there && st.is_dir;
    return QN_OK;
}

/* What can be known to stand in the way is found before the first file is replaced. */
static qn_code check_merge(struct unpack *u, qn_err *err)
{
    qn_code rc = each_dir(u, u->out, check_dir, err);
    for (uint64_t f = 0; f < u->ix->n_files && rc == QN_OK; f++) {
        qn_stat st;
        bool there = false;
        char *to = file_path(u, u->out, f, err);
        rc = to ? qn_fs_find(u->env->fs, to, &st, &there, err) : QN_E_MEMORY;
        if (rc == QN_OK && there && st.is_dir)
            rc = qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                                             "is a folder, but a file of that name is restored"), to);
        qn_mem_put(u->env->alloc, to);
    }
    return rc;
}

static qn_code publish_each(struct unpack *u, qn_err *err)
{
    QN_TRY(check_merge(u, err));
    qn_code rc = each_dir(u, u->out, make_dir, err);
    for (uint64_t f = 0; f < u->ix->n_files && rc == QN_OK; f++) {
        char *from = file_path(u, u->tmp.data, f, err), *to = file_path(u, u->out, f, err);
        rc = from && to ? qn_fs_rename(u->env->fs, from, to, err) : QN_E_MEMORY;
        qn_mem_put(u->env->alloc, from);
        qn_mem_put(u->env->alloc, to);
    }
    return rc == QN_OK ? each_dir(u, u->out, sync_dir, err) : rc;
}

static qn_code publish(struct unpack *u, qn_err *err)
{
    QN_TRY(each_dir(u, u->tmp.data, sync_dir, err));
    QN_TRY(check_output(u, err));
    if (u->merge)
        return publish_each(u, err);
    return qn_fs_publish(u->env->fs, u->env->alloc, u->tmp.data, u->out, err);
}

static qn_code begin_output(struct unpack *u, qn_err *err)
{
    QN_TRY(check_output(u, err));
    if (u->opt->dry_run)
        return QN_OK;
    if (u->merge)
        QN_TRY(check_merge(u, err));
    QN_TRY(qn_tmptree_open(&u->tmp, u->env, u->out, ".quern-unpack", err));
    return each_dir(u, u->tmp.data, make_dir, err);
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
    QN_TRY(begin_output(u, err));
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
    struct unpack u = {.env = env, .opt = opt, .out = out_path, .file = QN_FILE_CLOSED};
    u.reader = qn_quern_source_reader(packed);
    if (!u.reader)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is not a .quern file"), packed->path);
    qn_code rc = unpack(&u, err);
    qn_file_drop(&u.file);
    qn_tmptree_close(&u.tmp);
    qn_walk_release(&u.walk);
    for (unsigned i = 0; u.slots && i < u.n_slots; i++) {
        qn_worker_release(&u.slots[i].worker);
        qn_mem_put(env->alloc, u.slots[i].raw);
    }
    qn_mem_put(env->alloc, u.slots);
    *n_bytes = u.total_bytes;
    if (rc == QN_OK && u.n_damaged) {
        if (err && err->code == QN_OK)
            *err = u.first;
        rc = QN_E_INPUT;
    }
    return rc;
}
