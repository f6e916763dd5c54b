/* output.c: see output.h. The order of calls is the point of this file: each step is safe on the disk before the next
 * one relies on it. */
#include "compress/output.h"
#include "base/err.h"
#include "base/path.h"
#include "compress/verify.h"
#include <errno.h>

static qn_code in_the_way(const char *path, qn_err *err)
{
    return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                                       "is in the way and not ours: move it, or give --restart to overwrite it"), path);
}

qn_code qn_output_check(qn_output *o, const qn_env *env, const char *path, bool overwrite, qn_err *err)
{
    *o = QN_OUTPUT_CLOSED;
    o->env = env;
    o->path = path;
    o->overwrite = overwrite;
    QN_TRY(qn_fs_check_target(o->env->fs, o->path, o->overwrite, err));
    o->partial_path = qn_path_cat(env->alloc, path, ".partial", err);
    o->journal_path = qn_path_cat(env->alloc, path, ".journal", err);
    return o->partial_path && o->journal_path ? QN_OK : QN_E_MEMORY;
}

/* Where the payloads of the resumed chunks end, or 0 when the partial file does not hold them all. */
static uint64_t resumable_end(const qn_output *o, uint64_t n_chunks, uint64_t max_stored_bytes, uint64_t partial_bytes)
{
    uint64_t end = QN_HEADER_BYTES;
    if (o->n_resumed == 0 || o->n_resumed > n_chunks)
        return 0;
    for (uint64_t c = 0; c < o->n_resumed; c++) {
        const qn_index_chunk *k = &o->resumed[c].chunk;
        if (k->codec == QN_CODEC_SHARED ? k->off >= c
                                        : k->codec >= QN_CODEC_COUNT || k->stored_bytes > max_stored_bytes || k->off < end)
            return 0;
        if (k->codec != QN_CODEC_SHARED)
            end = k->off + k->stored_bytes;
    }
    return end <= partial_bytes ? end : 0;
}

static qn_code open_resumable(qn_output *o, uint64_t n_chunks, uint64_t max_stored_bytes, qn_err *err)
{
    qn_stat st;
    o->ours = true;
    QN_TRY(qn_file_open(&o->partial, o->env->fs, o->env->alloc, o->partial_path, QN_OPEN_RDWR | QN_OPEN_NOFOLLOW, err));
    QN_TRY(qn_file_stat(&o->partial, &st, err));
    QN_TRY(qn_journal_resume(&o->journal, &o->resumed, &o->n_resumed, err));
    o->end = resumable_end(o, n_chunks, max_stored_bytes, st.n_bytes);
    if (o->end == 0) {
        o->n_resumed = 0;
        QN_TRY(qn_journal_forget(&o->journal, err));
    }
    return st.n_bytes != o->end ? qn_file_truncate(&o->partial, o->end, err) : QN_OK;
}

static qn_code open_new(qn_output *o, const qn_journal_key *key, bool partial_there, qn_err *err)
{
    const qn_fs *fs = o->env->fs;
    if (partial_there) {
        const int r = fs->unlink(fs->ctx, o->partial_path);
        if (r < 0)
            return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "cannot be removed"), o->partial_path);
        QN_TRY(qn_fs_sync_parent(fs, o->env->alloc, o->partial_path, err));
    }
    o->ours = true;
    QN_TRY(qn_journal_begin(&o->journal, key, err));
    QN_TRY(qn_fs_sync_parent(fs, o->env->alloc, o->journal_path, err));
    QN_TRY(qn_file_open(&o->partial, fs, o->env->alloc, o->partial_path, QN_OPEN_NEW, err));
    return qn_fs_sync_parent(fs, o->env->alloc, o->partial_path, err);
}

qn_code qn_output_open(qn_output *o, const qn_journal_key *key, bool restart, uint64_t n_chunks, uint64_t max_stored_bytes,
                       qn_err *err)
{
    qn_stat st;
    bool there;
    qn_journal_state state;
    const char *difference;
    QN_TRY(qn_journal_open(&o->journal, o->env, o->journal_path, err));
    QN_TRY(qn_fs_find(o->env->fs, o->partial_path, &st, &there, err));
    QN_TRY(qn_journal_look(&o->journal, key, &state, &difference, err));
    if (restart)
        return open_new(o, key, there, err);
    if (state == QN_JOURNAL_FOREIGN)
        return in_the_way(o->journal_path, err);
    if (!there) /* whatever the journal says, there is no work to lose */
        return open_new(o, key, false, err);
    if (state == QN_JOURNAL_BLANK)
        return in_the_way(o->partial_path, err);
    if (state == QN_JOURNAL_OTHER)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                                           "left by an unfinished run that differs in %s: finish that run, or give "
                                           "--restart to throw its work away", difference), o->journal_path);
    return open_resumable(o, n_chunks, max_stored_bytes, err);
}

qn_code qn_output_checkpoint(qn_output *o, qn_err *err)
{
    QN_TRY(qn_file_sync(&o->partial, err));
    return qn_journal_commit(&o->journal, err);
}

qn_code qn_output_publish(qn_output *o, qn_err *err)
{
    const qn_fs *fs = o->env->fs;
    QN_TRY(qn_output_checkpoint(o, err));
    (void)fs->advise_done(fs->ctx, o->partial.fd, 0, 0); /* so that it is read back from the disk */
    QN_TRY(qn_file_close(&o->partial, err));
    QN_TRY(qn_verify_written(o->env, o->partial_path, err));
    QN_TRY(qn_fs_check_target(o->env->fs, o->path, o->overwrite, err)); /* once more: packing may have taken hours */
    QN_TRY(qn_fs_publish(fs, o->env->alloc, o->partial_path, o->path, err));
    o->ours = false; /* the name is free for others */
    (void)fs->unlink(fs->ctx, o->journal_path); /* a journal without a partial is harmless */
    return QN_OK;
}

/* Can the same command, given again, be expected to go on from here? A full disk gets its room back. */
static bool worth_keeping(const qn_output *o, const qn_err *why)
{
    if (o->journal.n_safe == 0)
        return false;
    switch (why->code) {
    case QN_E_CANCELLED:
    case QN_E_USAGE:
    case QN_E_MEMORY:
        return true;
    case QN_E_IO:
        return why->sys != ENOSPC && why->sys != EDQUOT && why->sys != EFBIG;
    default:
        return false;
    }
}

void qn_output_give_up(qn_output *o, const qn_err *why)
{
    if (o->journal.file.fd < 0)
        return; /* what is there belongs to another run */
    const qn_fs *fs = o->env->fs;
    if (!o->ours ? !o->journal.is_new : worth_keeping(o, why))
        return;
    qn_file_drop(&o->partial);
    if (o->ours) {
        /* the partial goes first and for good: without a journal it would look like someone else's */
        const int r = fs->unlink(fs->ctx, o->partial_path);
        if ((r < 0 && r != -ENOENT) || qn_fs_sync_parent(fs, o->env->alloc, o->partial_path, NULL) != QN_OK)
            return;
    }
    (void)fs->unlink(fs->ctx, o->journal_path);
}

void qn_output_release(qn_output *o)
{
    if (!o->env)
        return;
    const qn_alloc *a = o->env->alloc;
    qn_file_drop(&o->partial);
    qn_journal_release(&o->journal);
    qn_mem_put(a, o->resumed);
    qn_mem_put(a, o->partial_path);
    qn_mem_put(a, o->journal_path);
    *o = QN_OUTPUT_CLOSED;
}
