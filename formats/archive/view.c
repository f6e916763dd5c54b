/* view.c: the members of an archive as a read-only qn_fs; see bundle.h. */
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include "formats/archive/bundle.h"
#include <errno.h>
#include <string.h>

/* A path below the archive, without it: "" for the archive itself, NULL for what lies elsewhere. */
static const char *below(const qn_bundle *b, const char *path)
{
    if (strncmp(path, b->path, b->n_path) != 0)
        return NULL;
    path += b->n_path;
    if (*path != '\0' && *path != '/')
        return NULL;
    while (*path == '/')
        path++;
    return path;
}

enum { PATH_ROOM = 1100 }; /* a safe path, and a slash */

/* The first member below a folder, whose path with its slash goes to `head`; false when there is none. */
static bool first_below(const qn_bundle *b, const char *rel, size_t n, char head[PATH_ROOM], size_t *n_head, uint64_t *first)
{
    if (n + 2 > PATH_ROOM)
        return false;
    memcpy(head, rel, n);
    head[n] = '/';
    *n_head = n + (n > 0);
    *first = qn_members_lower(&b->members, head, *n_head);
    return *first < b->members.n && strncmp(b->members.items[*first].path, head, *n_head) == 0;
}

static bool is_folder(const qn_bundle *b, const char *rel, size_t n)
{
    char head[PATH_ROOM];
    size_t n_head;
    uint64_t first;
    return n == 0 || first_below(b, rel, n, head, &n_head, &first);
}

static size_t trimmed(const char *rel)
{
    size_t n = strlen(rel);
    while (n > 0 && rel[n - 1] == '/')
        n--;
    return n;
}

static int view_open(void *ctx, const char *path, int mode)
{
    const qn_bundle *b = ctx;
    const char *rel = below(b, path);
    if ((mode & ~QN_OPEN_NOFOLLOW) != QN_OPEN_READ)
        return -EROFS;
    const qn_member *m = rel ? qn_members_find(&b->members, rel, strlen(rel)) : NULL;
    if (m)
        return (int)(m - b->members.items); /* QN_MEMBERS_MAX fits */
    return rel && is_folder(b, rel, trimmed(rel)) ? -EISDIR : -ENOENT;
}

static int view_open_beneath(void *ctx, const char *dir, const char *rel)
{
    const qn_bundle *b = ctx;
    char path[2100]; /* two safe paths */
    const char *top = below(b, dir);
    if (!top)
        return -ENOENT;
    const size_t n = trimmed(top), m = strlen(rel);
    if (!qn_path_is_safe(rel, m))
        return -EXDEV;
    if (n + m + 2 > sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, top, n);
    path[n] = '/';
    memcpy(path + n + (n > 0), rel, m + 1);
    const qn_member *found = qn_members_find(&b->members, path, n + (n > 0) + m);
    return found ? (int)(found - b->members.items) : -ENOENT;
}

static int view_close(void *ctx, int fd)
{
    (void)ctx;
    (void)fd;
    return 0;
}

static ssize_t view_pread(void *ctx, int fd, void *buf, size_t n, uint64_t off)
{
    const qn_bundle *b = ctx;
    const qn_member *m = &b->members.items[fd];
    if (off >= m->n_bytes)
        return 0;
    n = (size_t)qn_min_u64(n, m->n_bytes - off);
    if (!m->in_spool)
        return b->file.fs->pread(b->file.fs->ctx, b->file.fd, buf, n, m->off + off);
    if (b->spool.file.fd >= 0)
        return b->spool.file.fs->pread(b->spool.file.fs->ctx, b->spool.file.fd, buf, n, m->off + off);
    return qn_spool_read(&b->spool, buf, n, m->off + off, NULL) == QN_OK ? (ssize_t)n : -EIO;
}

static int stat_member(const qn_bundle *b, uint64_t i, qn_stat *st)
{
    *st = (qn_stat){.n_bytes = b->members.items[i].n_bytes, .dev = b->st.dev, .ino = i + 1, .n_links = 1,
                    .mtime_ns = b->st.mtime_ns, .is_regular = true};
    return 0;
}

static int view_fstat(void *ctx, int fd, qn_stat *st)
{
    return stat_member(ctx, (uint64_t)fd, st);
}

static int view_stat(void *ctx, const char *path, qn_stat *st)
{
    const qn_bundle *b = ctx;
    const int fd = view_open(ctx, path, QN_OPEN_READ);
    if (fd >= 0)
        return stat_member(b, (uint64_t)fd, st);
    if (fd != -EISDIR)
        return fd;
    *st = (qn_stat){.dev = b->st.dev, .n_links = 1, .mtime_ns = b->st.mtime_ns, .is_dir = true};
    return 0;
}

static int view_list(void *ctx, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx)
{
    const qn_bundle *b = ctx;
    const char *rel = below(b, path);
    char last[PATH_ROOM] = "", name[PATH_ROOM], head[PATH_ROOM];
    size_t n;
    uint64_t i;
    if (!rel || !first_below(b, rel, trimmed(rel), head, &n, &i))
        return rel && trimmed(rel) == 0 ? 0 : -ENOENT;
    for (; i < b->members.n && strncmp(b->members.items[i].path, head, n) == 0; i++) {
        const char *p = b->members.items[i].path + n;
        const size_t len = strcspn(p, "/"); /* of a safe path: fits */
        memcpy(name, p, len);
        name[len] = '\0';
        if (strcmp(name, last) == 0) /* a folder: its members stand together */
            continue;
        memcpy(last, name, len + 1);
        const int r = each(each_ctx, name);
        if (r != 0)
            return r;
    }
    return 0;
}

static ssize_t view_pwrite(void *ctx, int fd, const void *buf, size_t n, uint64_t off)
{
    (void)ctx;
    (void)fd;
    (void)buf;
    (void)n;
    (void)off;
    return -EROFS;
}

static int view_set_size(void *ctx, int fd, uint64_t n_bytes)
{
    (void)ctx;
    (void)fd;
    (void)n_bytes;
    return -EROFS;
}

static int view_change(void *ctx, const char *path)
{
    (void)ctx;
    (void)path;
    return -EROFS;
}

static int view_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    (void)from;
    (void)to;
    return -EROFS;
}

static int view_nothing(void *ctx, int fd)
{
    (void)ctx;
    (void)fd;
    return 0;
}

static int view_advise_done(void *ctx, int fd, uint64_t off, uint64_t n_bytes)
{
    const qn_bundle *b = ctx;
    const qn_member *m = &b->members.items[fd];
    const qn_file *f = m->in_spool ? &b->spool.file : &b->file;
    return f->fd >= 0 ? f->fs->advise_done(f->fs->ctx, f->fd, m->off + off, n_bytes) : 0;
}

bool qn_fs_is_view(const qn_fs *fs)
{
    return fs->open == view_open;
}

void qn_view_init(qn_bundle *b)
{
    b->fs = (qn_fs){.open = view_open, .open_beneath = view_open_beneath, .close = view_close, .pread = view_pread,
                    .pwrite = view_pwrite, .reserve = view_set_size, .truncate = view_set_size, .sync = view_nothing,
                    .lock = view_nothing, .fstat = view_fstat, .stat = view_stat, .rename = view_rename, .unlink = view_change,
                    .mkdir = view_change, .rmdir = view_change, .sync_dir = view_change, .list = view_list,
                    .advise_done = view_advise_done, .ctx = b};
    b->env = *b->outer;
    b->env.fs = &b->fs;
}
