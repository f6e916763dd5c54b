/* io_fault.c: see io_fault.h. */
#include "base/io_fault.h"
#include <errno.h>

/* What the call in hand has to do: 0 = go through, < 0 = fail with that, > 0 = move half. */
enum { THROUGH = 0, HALF = 1 };

static int decide(qn_fault *f, qn_fault_op op, bool can_be_short)
{
    atomic_fetch_add(&f->n_calls[op], 1);
    uint64_t n = atomic_load(&f->n_counted);
    if (f->ops & 1u << op)
        n = atomic_fetch_add(&f->n_counted, 1) + 1;
    else if (f->how != QN_FAULT_DEAD)
        return THROUGH;
    const bool hit = f->nth && (n == f->nth || (n > f->nth && (f->on || f->how == QN_FAULT_DEAD)));
    if (!hit || (f->how == QN_FAULT_SHORT && !can_be_short))
        return THROUGH;
    atomic_fetch_add(&f->n_hit, 1);
    switch (f->how) {
    case QN_FAULT_ERROR:
        return -f->sys;
    case QN_FAULT_SHORT:
        return HALF;
    case QN_FAULT_DEAD:
        return -EIO;
    case QN_FAULT_HOOK:
        f->hook(f->hook_ctx);
    }
    return THROUGH;
}

#define PASS(op, call)                          \
    qn_fault *f = ctx;                          \
    const int d = decide(f, (op), false);       \
    return d < 0 ? d : f->inner->call

static int ft_open(void *ctx, const char *path, int mode) { PASS(QN_OP_OPEN, open(f->inner->ctx, path, mode)); }

static int ft_open_beneath(void *ctx, const char *dir, const char *rel)
{
    PASS(QN_OP_OPEN_BENEATH, open_beneath(f->inner->ctx, dir, rel));
}

static int ft_close(void *ctx, int fd)
{
    qn_fault *f = ctx;
    const int d = decide(f, QN_OP_CLOSE, false);
    if (d < 0 && f->how == QN_FAULT_DEAD)
        return d;
    const int r = f->inner->close(f->inner->ctx, fd);
    return d < 0 ? d : r;
}

static ssize_t ft_pread(void *ctx, int fd, void *buf, size_t n, uint64_t off)
{
    qn_fault *f = ctx;
    const int d = decide(f, QN_OP_PREAD, n > 1);
    return d < 0 ? d : f->inner->pread(f->inner->ctx, fd, buf, d == HALF ? n / 2 : n, off);
}

static ssize_t ft_pwrite(void *ctx, int fd, const void *buf, size_t n, uint64_t off)
{
    qn_fault *f = ctx;
    const int d = decide(f, QN_OP_PWRITE, n > 1);
    return d < 0 ? d : f->inner->pwrite(f->inner->ctx, fd, buf, d == HALF ? n / 2 : n, off);
}

static int ft_reserve(void *ctx, int fd, uint64_t n) { PASS(QN_OP_RESERVE, reserve(f->inner->ctx, fd, n)); }
static int ft_truncate(void *ctx, int fd, uint64_t n) { PASS(QN_OP_TRUNCATE, truncate(f->inner->ctx, fd, n)); }
static int ft_sync(void *ctx, int fd) { PASS(QN_OP_SYNC, sync(f->inner->ctx, fd)); }
static int ft_lock(void *ctx, int fd) { PASS(QN_OP_LOCK, lock(f->inner->ctx, fd)); }
static int ft_fstat(void *ctx, int fd, qn_stat *st) { PASS(QN_OP_FSTAT, fstat(f->inner->ctx, fd, st)); }
static int ft_stat(void *ctx, const char *path, qn_stat *st) { PASS(QN_OP_STAT, stat(f->inner->ctx, path, st)); }
static int ft_rename(void *ctx, const char *from, const char *to)
{
    PASS(QN_OP_RENAME, rename(f->inner->ctx, from, to));
}
static int ft_unlink(void *ctx, const char *path) { PASS(QN_OP_UNLINK, unlink(f->inner->ctx, path)); }
static int ft_mkdir(void *ctx, const char *path) { PASS(QN_OP_MKDIR, mkdir(f->inner->ctx, path)); }
static int ft_rmdir(void *ctx, const char *path) { PASS(QN_OP_RMDIR, rmdir(f->inner->ctx, path)); }
static int ft_sync_dir(void *ctx, const char *path) { PASS(QN_OP_SYNC_DIR, sync_dir(f->inner->ctx, path)); }
static int ft_list(void *ctx, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx)
{
    PASS(QN_OP_LIST, list(f->inner->ctx, path, each, each_ctx));
}
static int ft_advise_done(void *ctx, int fd, uint64_t off, uint64_t n)
{
    PASS(QN_OP_ADVISE_DONE, advise_done(f->inner->ctx, fd, off, n));
}

void qn_fault_init(qn_fault *f)
{
    f->fs = (qn_fs){ft_open, ft_open_beneath, ft_close, ft_pread, ft_pwrite, ft_reserve, ft_truncate, ft_sync, ft_lock, ft_fstat, ft_stat,
                    ft_rename, ft_unlink, ft_mkdir, ft_rmdir, ft_sync_dir, ft_list, ft_advise_done, f};
    atomic_init(&f->n_counted, 0);
    atomic_init(&f->n_hit, 0);
    for (int i = 0; i < QN_OP_COUNT; i++)
        atomic_init(&f->n_calls[i], 0);
}

const char *qn_fault_op_name(qn_fault_op op)
{
    static const char *const names[QN_OP_COUNT] = {"open", "open_beneath", "close", "pread", "pwrite", "reserve", "truncate", "sync",
                                                   "lock", "fstat", "stat", "rename", "unlink", "mkdir", "rmdir",
                                                   "sync_dir", "list", "advise_done"};
    return names[op];
}
