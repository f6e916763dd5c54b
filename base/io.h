/* io.h: the file seam. Everything that touches files goes through a qn_fs, so that tests can run on memory,
 * fail the Nth call, or cut the power.
 *
 * The vtable speaks like the system calls it stands for: results ≥ 0, or −errno; short reads and writes and EINTR
 * are allowed. The helpers below it (qn_file_*) loop, check, and turn −errno into a qn_err with path and text. */
#ifndef QN_BASE_IO_H
#define QN_BASE_IO_H

#include "quern/base.h"
#include <sys/types.h>

typedef struct qn_fs qn_fs;

typedef struct qn_stat {
    uint64_t n_bytes;
    uint64_t dev, ino; /* identity: two names with equal (dev, ino) are one file */
    uint64_t n_links;  /* names that the file has */
    int64_t mtime_ns;
    bool is_dir, is_regular;
} qn_stat;

enum {
    QN_OPEN_READ = 0,         /* O_RDONLY                                                         */
    QN_OPEN_RDWR = 1,         /* O_RDWR, file must exist                                          */
    QN_OPEN_NEW = 2,          /* O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW: refuses what is already there  */
    QN_OPEN_NOFOLLOW = 1 << 4, /* with READ or RDWR: the last component must not be a symlink     */
    QN_OPEN_PRIVATE = 1 << 5  /* with NEW: for this user only                                      */
};

/* fd-like handles are small integers owned by the fs. Paths are NUL-terminated. */
struct qn_fs {
    int (*open)(void *ctx, const char *path, int mode);
    /* For reading: `rel` below the folder `dir`, whose own path may be anything; after that no symlink is followed (−ELOOP)
     * and nothing leads out of the folder (−EXDEV). */
    int (*open_beneath)(void *ctx, const char *dir, const char *rel);
    int (*close)(void *ctx, int fd);
    ssize_t (*pread)(void *ctx, int fd, void *buf, size_t n, uint64_t off);
    ssize_t (*pwrite)(void *ctx, int fd, const void *buf, size_t n, uint64_t off);
    int (*reserve)(void *ctx, int fd, uint64_t n_bytes); /* room on the disk, the length stays; −EOPNOTSUPP is no error */
    int (*truncate)(void *ctx, int fd, uint64_t n_bytes);
    int (*sync)(void *ctx, int fd);
    int (*lock)(void *ctx, int fd); /* exclusive, non-blocking; −EWOULDBLOCK when held */
    int (*fstat)(void *ctx, int fd, qn_stat *st);
    int (*stat)(void *ctx, const char *path, qn_stat *st); /* follows symlinks */
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*mkdir)(void *ctx, const char *path);
    int (*rmdir)(void *ctx, const char *path);
    int (*sync_dir)(void *ctx, const char *path);
    /* Calls each(each_ctx, name) for every entry but . and ..; stops when it returns non-zero. */
    int (*list)(void *ctx, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx);
    int (*advise_done)(void *ctx, int fd, uint64_t off, uint64_t n_bytes); /* drop from the page cache; a hint */
    void *ctx;
};

/* The operating system's files. */
extern const qn_fs qn_fs_posix;

/* An open file: the seam, the handle, and the path for messages. */
typedef struct qn_file {
    const qn_fs *fs;
    int fd; /* −1 when closed */
    char *path; /* owned */
    const qn_alloc *alloc;
} qn_file;

#define QN_FILE_CLOSED ((qn_file){.fd = -1})

qn_code qn_file_open(qn_file *f, const qn_fs *fs, const qn_alloc *alloc, const char *path, int mode,
                     qn_err *err) QN_MUST_CHECK;
/* A file that another file names, below the folder `dir`: see qn_fs.open_beneath. Besides, it must be a regular file with no
 * second name (a hard link would lead anywhere); otherwise QN_E_INPUT. */
qn_code qn_file_open_beneath(qn_file *f, const qn_fs *fs, const qn_alloc *alloc, const char *dir, const char *rel,
                             qn_err *err) QN_MUST_CHECK;
/* A new file in the folder `dir` (NULL: /tmp) whose name is gone already: it ends with the process, however that ends. */
qn_code qn_file_open_unnamed(qn_file *f, const qn_fs *fs, const qn_alloc *alloc, const char *dir, qn_err *err) QN_MUST_CHECK;
/* Errors of close count when something was written; after a failure the file is closed all the same. */
qn_code qn_file_close(qn_file *f, qn_err *err) QN_MUST_CHECK;
/* For paths where an error is already being returned. */
void qn_file_drop(qn_file *f);
qn_code qn_file_stat(const qn_file *f, qn_stat *st, qn_err *err) QN_MUST_CHECK;
/* Exactly n bytes, or QN_E_INPUT "ends early" with the offset. Thread-safe (positional). */
qn_code qn_file_read(const qn_file *f, void *buf, uint64_t n, uint64_t off, qn_err *err) QN_MUST_CHECK;
/* All n bytes; ENOSPC says how much was wanted. Thread-safe (positional). */
qn_code qn_file_write(const qn_file *f, const void *buf, uint64_t n, uint64_t off, qn_err *err) QN_MUST_CHECK;
/* fsync. After a failure the caller must not retry on the same file: the kernel may have dropped the pages. */
qn_code qn_file_sync(const qn_file *f, qn_err *err) QN_MUST_CHECK;
qn_code qn_file_truncate(const qn_file *f, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
/* Asks for room up front; fails when there certainly is none. A file system that cannot promise any is no error. */
qn_code qn_file_reserve(const qn_file *f, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
/* *held = false when another handle has it. A file system without locks counts as held. */
qn_code qn_file_lock(const qn_file *f, bool *held, qn_err *err) QN_MUST_CHECK;

qn_code qn_fs_stat(const qn_fs *fs, const char *path, qn_stat *st, qn_err *err) QN_MUST_CHECK;
qn_code qn_fs_rename(const qn_fs *fs, const char *from, const char *to, qn_err *err) QN_MUST_CHECK;
/* Renames and then fsyncs the folder, so that the new name survives a power cut. */
qn_code qn_fs_publish(const qn_fs *fs, const qn_alloc *alloc, const char *from, const char *to,
                      qn_err *err) QN_MUST_CHECK;
/* stat where absence is no error: *there says whether anything has that name (symlinks are followed). */
qn_code qn_fs_find(const qn_fs *fs, const char *path, qn_stat *st, bool *there, qn_err *err) QN_MUST_CHECK;
/* May a file be written there? QN_E_USAGE when a folder has the name, or anything does and may not be replaced. */
qn_code qn_fs_check_target(const qn_fs *fs, const char *path, bool overwrite, qn_err *err) QN_MUST_CHECK;
/* For hints and for cleaning up: also false when it cannot be looked at, so it must not decide what is overwritten. */
bool qn_fs_exists(const qn_fs *fs, const char *path);
/* fsyncs the folder that holds `path`: names made, changed and removed there before then survive a power cut. */
qn_code qn_fs_sync_parent(const qn_fs *fs, const qn_alloc *alloc, const char *path, qn_err *err) QN_MUST_CHECK;

#endif
