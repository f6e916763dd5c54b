/* io_posix.c: the operating system's files behind the seam of io.h. One thin function per call, no policy. */
#define _GNU_SOURCE
#include "base/io.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#ifdef __linux__
#include <linux/openat2.h>
#include <sys/syscall.h>
#endif
#include <unistd.h>

static int result(int r)
{
    return r < 0 ? -errno : r;
}

static int px_open(void *ctx, const char *path, int mode)
{
    (void)ctx;
    int flags = O_CLOEXEC | O_NONBLOCK; /* a FIFO must not hang us; regular files ignore it */
    if (mode & QN_OPEN_NOFOLLOW)
        flags |= O_NOFOLLOW;
    switch (mode & ~(QN_OPEN_NOFOLLOW | QN_OPEN_PRIVATE)) {
    case QN_OPEN_READ:
        return result(open(path, flags | O_RDONLY));
    case QN_OPEN_RDWR:
        return result(open(path, flags | O_RDWR));
    default:
        return result(open(path, flags | O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode & QN_OPEN_PRIVATE ? 0600 : 0666));
    }
}

/* One component after the other, for kernels without openat2. */
static int open_steps(int dir, const char *rel, int flags)
{
    char name[256];
    int fd = dir;
    for (;;) {
        const size_t n = strcspn(rel, "/");
        const bool last = rel[n] == '\0';
        int next = -EXDEV;
        if (n >= sizeof name) {
            next = -ENAMETOOLONG;
        } else if (n > 2 || (n == 2 && memcmp(rel, "..", 2) != 0) || (n == 1 && rel[0] != '.')) {
            memcpy(name, rel, n);
            name[n] = '\0';
            next = result(openat(fd, name, last ? flags | O_NOFOLLOW : O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            struct stat s; /* a link where a folder should be is reported as no folder */
            if (next == -ENOTDIR && fstatat(fd, name, &s, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(s.st_mode))
                next = -ELOOP;
        }
        if (fd != dir)
            close(fd);
        if (next < 0 || last)
            return next;
        fd = next;
        rel += n + 1;
    }
}

static int px_open_beneath(void *ctx, const char *dir, const char *rel)
{
    (void)ctx;
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
    const int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return -errno;
    int fd = -ENOSYS;
#ifdef SYS_openat2
    const struct open_how how = {.flags = (uint64_t)flags | O_NOFOLLOW, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                                                                   RESOLVE_NO_MAGICLINKS};
    for (int tries = 0; tries < 100; tries++) { /* EAGAIN: something on the way is being renamed */
        fd = result((int)syscall(SYS_openat2, top, rel, &how, sizeof how));
        if (fd != -EAGAIN)
            break;
    }
#endif
    if (fd == -ENOSYS || fd == -EPERM || fd == -EINVAL)
        fd = open_steps(top, rel, flags);
    close(top);
    return fd;
}

static int px_close(void *ctx, int fd)
{
    (void)ctx;
    return result(close(fd));
}

static ssize_t px_pread(void *ctx, int fd, void *buf, size_t n, uint64_t off)
{
    (void)ctx;
    const ssize_t r = pread(fd, buf, n, (off_t)off);
    return r < 0 ? -errno : r;
}

static ssize_t px_pwrite(void *ctx, int fd, const void *buf, size_t n, uint64_t off)
{
    (void)ctx;
    const ssize_t r = pwrite(fd, buf, n, (off_t)off);
    return r < 0 ? -errno : r;
}

static int px_reserve(void *ctx, int fd, uint64_t n_bytes)
{
    (void)ctx;
#ifdef __linux__
    /* not posix_fallocate: where the file system cannot, that writes a byte into every block */
    return n_bytes ? result(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)n_bytes)) : 0;
#else
    (void)fd;
    return n_bytes ? -EOPNOTSUPP : 0;
#endif
}

static int px_truncate(void *ctx, int fd, uint64_t n_bytes)
{
    (void)ctx;
    return result(ftruncate(fd, (off_t)n_bytes));
}

static int px_sync(void *ctx, int fd)
{
    (void)ctx;
    return result(fsync(fd));
}

static int px_lock(void *ctx, int fd)
{
    (void)ctx;
    return result(flock(fd, LOCK_EX | LOCK_NB));
}

static int fill(int r, const struct stat *s, qn_stat *st)
{
    if (r < 0)
        return -errno;
    *st = (qn_stat){.n_bytes = (uint64_t)s->st_size,
                    .dev = (uint64_t)s->st_dev,
                    .ino = (uint64_t)s->st_ino,
                    .n_links = (uint64_t)s->st_nlink,
                    .mtime_ns = (int64_t)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec,
                    .is_dir = S_ISDIR(s->st_mode),
                    .is_regular = S_ISREG(s->st_mode)};
    return 0;
}

static int px_fstat(void *ctx, int fd, qn_stat *st)
{
    (void)ctx;
    struct stat s;
    return fill(fstat(fd, &s), &s, st);
}

static int px_stat(void *ctx, const char *path, qn_stat *st)
{
    (void)ctx;
    struct stat s;
    return fill(stat(path, &s), &s, st);
}

static int px_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return result(rename(from, to));
}

static int px_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return result(unlink(path));
}

static int px_mkdir(void *ctx, const char *path)
{
    (void)ctx;
    return result(mkdir(path, 0777));
}

static int px_rmdir(void *ctx, const char *path)
{
    (void)ctx;
    return result(rmdir(path));
}

static int px_sync_dir(void *ctx, const char *path)
{
    (void)ctx;
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int r = result(fsync(fd));
    close(fd);
    return r;
}

static int px_list(void *ctx, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx)
{
    (void)ctx;
    DIR *d = opendir(path);
    if (!d)
        return -errno;
    int r = 0;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            r = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        r = each(each_ctx, e->d_name);
        if (r != 0)
            break;
    }
    closedir(d);
    return r;
}

static int px_advise_done(void *ctx, int fd, uint64_t off, uint64_t n_bytes)
{
    (void)ctx;
    return -posix_fadvise(fd, (off_t)off, (off_t)n_bytes, POSIX_FADV_DONTNEED);
}

const qn_fs qn_fs_posix = {
    .open = px_open,
    .open_beneath = px_open_beneath,
    .close = px_close,
    .pread = px_pread,
    .pwrite = px_pwrite,
    .reserve = px_reserve,
    .truncate = px_truncate,
    .sync = px_sync,
    .lock = px_lock,
    .fstat = px_fstat,
    .stat = px_stat,
    .rename = px_rename,
    .unlink = px_unlink,
    .mkdir = px_mkdir,
    .rmdir = px_rmdir,
    .sync_dir = px_sync_dir,
    .list = px_list,
    .advise_done = px_advise_done,
};
