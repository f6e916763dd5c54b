/* partial.c: the file that a writer of statistics grows, from the first look at it; see write.h. What a killed run has left is
 * taken over up to its last good footer. */
#include "analysis/stats/file.h"
#include "analysis/stats/write_impl.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include <errno.h>

enum { TRIES = 8 };

/* Opens the partial when there is one, and holds its lock: another run may rename or remove it between two calls. */
static qn_code take_partial(qn_stats_writer *w, bool *there, qn_err *err)
{
    for (int i = 0; i < TRIES; i++) {
        qn_stat mine, named;
        bool held = false;
        QN_TRY(qn_fs_find(w->env->fs, w->partial, &named, there, err));
        if (!*there)
            return QN_OK;
        qn_err why;
        qn_err_clear(&why);
        const qn_code rc = qn_file_open(&w->file, w->env->fs, w->env->alloc, w->partial, QN_OPEN_RDWR | QN_OPEN_NOFOLLOW, &why);
        if (rc != QN_OK && why.sys == ENOENT)
            continue;
        if (rc != QN_OK) {
            if (err && err->code == QN_OK)
                *err = why;
            return rc;
        }
        QN_TRY(qn_file_lock(&w->file, &held, err));
        QN_TRY(qn_file_stat(&w->file, &mine, err));
        QN_TRY(qn_fs_find(w->env->fs, w->partial, &named, there, err));
        if (held && *there && mine.ino == named.ino && mine.dev == named.dev)
            return QN_OK;
        qn_file_drop(&w->file);
        if (!held)
            break;
    }
    return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "another run is writing this output"), w->partial);
}

/* A file with a header gets the partial's name: so whatever has that name later, and no header, is not ours. */
static qn_code make_partial(qn_stats_writer *w, const char *tmp, qn_file *f, qn_err *err)
{
    const qn_fs *fs = w->env->fs;
    uint8_t b[QN_STATS_HEADER_BYTES];
    qn_stat mine, named;
    bool held;
    if (qn_fs_exists(fs, tmp))
        (void)fs->unlink(fs->ctx, tmp);
    QN_TRY(qn_file_open(f, fs, w->env->alloc, tmp, QN_OPEN_NEW, err));
    QN_TRY(qn_file_lock(f, &held, err));
    qn_stats_header_put(b);
    QN_TRY(qn_file_write(f, b, sizeof b, 0, err));
    QN_TRY(qn_file_sync(f, err));
    QN_TRY(qn_fs_rename(fs, tmp, w->partial, err));
    QN_TRY(qn_file_stat(f, &mine, err));
    QN_TRY(qn_fs_stat(fs, w->partial, &named, err));
    if (!held || mine.ino != named.ino || mine.dev != named.dev)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "another run is writing this output"), w->partial);
    w->ours = true;
    return qn_fs_sync_parent(fs, w->env->alloc, w->partial, err);
}

static qn_code begin_new(qn_stats_writer *w, qn_err *err)
{
    qn_file f = QN_FILE_CLOSED;
    char *tmp = qn_path_cat(w->env->alloc, w->path, ".quern-new", err);
    if (!tmp)
        return QN_E_MEMORY;
    const qn_code rc = make_partial(w, tmp, &f, err);
    if (rc != QN_OK && !w->ours)
        (void)w->env->fs->unlink(w->env->fs->ctx, tmp);
    qn_mem_put(w->env->alloc, tmp);
    qn_file_drop(&w->file); /* the one before, and its lock */
    w->file = f;
    w->at = w->prev_end = QN_STATS_HEADER_BYTES;
    return rc;
}

/* The last end ≤ `end` of a footer; 0 when there is none. */
static qn_code footer_before(qn_stats_writer *w, uint64_t end, uint64_t *found, qn_err *err)
{
    end -= end % QN_STATS_ALIGN;
    *found = 0;
    while (end > QN_STATS_HEADER_BYTES) {
        const uint64_t n = qn_min_u64(QN_STATS_BUF_BYTES, end - QN_STATS_HEADER_BYTES), from = end - n;
        QN_TRY(qn_file_read(&w->file, w->buf, n, from, err));
        for (uint64_t i = n; i >= QN_STATS_FOOTER_BYTES; i -= QN_STATS_ALIGN) {
            qn_stats_footer f;
            if (qn_stats_footer_get(w->buf + i - QN_STATS_FOOTER_BYTES, from + i, &f)) {
                *found = from + i;
                return QN_OK;
            }
        }
        end = from;
    }
    return QN_OK;
}

qn_code qn_stats_writer_same_run(const qn_stats_writer *w, const qn_stats_meta *m, qn_err *err)
{
    const char *what = !qn_digest_equal(&w->meta.model, &m->model)           ? "model"
                       : !qn_digest_equal(&w->meta.tokenizer, &m->tokenizer) ? "tokenizer"
                       : !qn_digest_equal(&w->meta.settings, &m->settings)   ? "settings"
                                                                             : NULL;
    return what ? qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                                              "left by an unfinished run that differs in its %s: finish that run, or give "
                                              "--restart to throw its work away", what), w->partial)
                : QN_OK;
}

/* Takes over what the file holds up to `end`, less a last segment that says "complete". */
static qn_code take_over(qn_stats_writer *w, const qn_stats_file *f, qn_err *err)
{
    QN_TRY(qn_stats_writer_same_run(w, &f->meta, err));
    w->ours = true;
    for (uint32_t i = 0; i < f->n_items; i++)
        QN_TRY(qn_stats_writer_add_key(w, f->items[i].name, f->items[i].expert, err));
    w->n_done = w->n_done_before = f->n_segments - (f->complete ? 1 : 0);
    w->prev_end = w->at = f->end;
    if (f->complete) { /* it is written anew: then all that a finished run does is done */
        uint8_t b[QN_STATS_FOOTER_BYTES];
        qn_stats_footer foot;
        QN_TRY(qn_file_read(&w->file, b, sizeof b, f->end - sizeof b, err));
        if (!qn_stats_footer_get(b, f->end, &foot))
            return QN_FAIL(err, QN_E_IO, f->end - sizeof b, "the file changes while it is read");
        w->prev_end = w->at = foot.prev_end;
    }
    return qn_file_truncate(&w->file, w->at, err);
}

/* Behind the last segment from which the whole chain reads. */
static qn_code resume(qn_stats_writer *w, uint64_t n_bytes, qn_err *err)
{
    uint64_t end = n_bytes;
    for (;;) {
        QN_TRY(footer_before(w, end, &end, err));
        if (end == 0)
            return begin_new(w, err);
        qn_file again = QN_FILE_CLOSED;
        qn_stats_file f = QN_STATS_FILE_CLOSED;
        qn_err why;
        qn_err_clear(&why);
        QN_TRY(qn_file_open(&again, w->env->fs, w->env->alloc, w->partial, QN_OPEN_READ, err));
        qn_code rc = qn_stats_file_open_at(&f, w->env, &again, end, &why);
        if (rc == QN_OK) {
            rc = take_over(w, &f, err);
            qn_stats_file_close(&f);
            return rc;
        }
        qn_stats_file_close(&f);
        if (rc != QN_E_INPUT) {
            if (err)
                *err = why;
            return rc;
        }
        end -= QN_STATS_ALIGN;
    }
}

qn_code qn_stats_writer_open_partial(qn_stats_writer *w, qn_err *err)
{
    uint8_t head[QN_STATS_HEADER_BYTES];
    qn_stat st;
    bool there = false;
    QN_TRY(take_partial(w, &there, err));
    if (!there || w->opt.restart || !w->opt.resumable)
        return begin_new(w, err);
    QN_TRY(qn_file_stat(&w->file, &st, err));
    if (st.n_bytes >= sizeof head)
        QN_TRY(qn_file_read(&w->file, head, sizeof head, 0, err));
    if (st.n_bytes < sizeof head || qn_stats_header_check(head, NULL) != QN_OK)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                                           "is in the way and not ours: move it, or give --restart to overwrite it"),
                              w->partial);
    return resume(w, st.n_bytes, err);
}
