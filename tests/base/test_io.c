/* test_io.c: the file helpers over POSIX files and over a seam that gives little at a time and is interrupted often. */
#define _GNU_SOURCE
#include "base/io.h"
#include "base/alloc.h"
#include "base/err.h"
#include "base/num.h"
#include "tests/support/hostile.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* qn_fs_posix with every call interrupted once before it works, and at most 7 bytes moved. */
static unsigned calls;

static bool interrupted(void)
{
    return calls++ % 2 == 0;
}

static int slow_open(void *ctx, const char *path, int mode)
{
    return interrupted() ? -EINTR : qn_fs_posix.open(ctx, path, mode);
}

static ssize_t slow_pread(void *ctx, int fd, void *buf, size_t n, uint64_t off)
{
    return interrupted() ? -EINTR : qn_fs_posix.pread(ctx, fd, buf, n < 7 ? n : 7, off);
}

static ssize_t slow_pwrite(void *ctx, int fd, const void *buf, size_t n, uint64_t off)
{
    return interrupted() ? -EINTR : qn_fs_posix.pwrite(ctx, fd, buf, n < 7 ? n : 7, off);
}

static int slow_sync(void *ctx, int fd)
{
    return interrupted() ? -EINTR : qn_fs_posix.sync(ctx, fd);
}

static int slow_truncate(void *ctx, int fd, uint64_t n)
{
    return interrupted() ? -EINTR : qn_fs_posix.truncate(ctx, fd, n);
}

static void through(const qn_fs *fs, const char *path)
{
    uint8_t out[5000], in[5000];
    qn_file f;
    qn_stat st;
    qn_err err;
    qn_err_clear(&err);
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 31 >> 3);
    cr_assert_eq(qn_file_open(&f, fs, NULL, path, QN_OPEN_NEW, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_file_write(&f, out, 3000, 0, &err), QN_OK);
    cr_assert_eq(qn_file_write(&f, out + 3000, 2000, 3000, &err), QN_OK);
    cr_assert_eq(qn_file_sync(&f, &err), QN_OK);
    cr_assert_eq(qn_file_read(&f, in, sizeof in, 0, &err), QN_OK);
    cr_assert_eq(memcmp(in, out, sizeof in), 0);
    cr_assert_eq(qn_file_truncate(&f, 4990, &err), QN_OK);
    cr_assert_eq(qn_file_stat(&f, &st, &err), QN_OK);
    cr_assert(st.n_bytes == 4990 && st.is_regular && !st.is_dir);
    cr_assert_eq(qn_file_read(&f, in, 100, 4900, &err), QN_E_INPUT);
    cr_assert_eq(err.off, 4990, "where the file ends");
    cr_assert_str_eq(err.path, path);
    cr_assert_eq(qn_file_close(&f, NULL), QN_OK);
    cr_assert_eq(qn_file_close(&f, NULL), QN_OK, "twice is once");
    qn_err_clear(&err);
    cr_assert_eq(qn_file_open(&f, fs, NULL, path, QN_OPEN_NEW, &err), QN_E_IO, "what is there is not touched");
    cr_assert_eq(err.sys, EEXIST);
    cr_assert_eq(unlink(path), 0);
    qn_err_clear(&err);
    cr_assert_eq(qn_file_open(&f, fs, NULL, path, QN_OPEN_READ, &err), QN_E_IO);
    cr_assert_eq(err.sys, ENOENT);
}

Test(io, posix_whole_and_in_pieces)
{
    char dir[] = "/tmp/qt-io-XXXXXX", path[64];
    cr_assert(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/x", dir);
    through(&qn_fs_posix, path);
    qn_fs slow = qn_fs_posix;
    slow.open = slow_open;
    slow.pread = slow_pread;
    slow.pwrite = slow_pwrite;
    slow.sync = slow_sync;
    slow.truncate = slow_truncate;
    through(&slow, path);
    cr_assert_gt(calls, 1000u);
    cr_assert_eq(rmdir(dir), 0);
}

Test(io, past_all_files)
{
    qt_files t;
    qn_file f;
    uint8_t b;
    qn_err err;
    qt_files_init(&t);
    qt_files_add(&t, "x", "abc", 3);
    cr_assert_eq(qn_file_open(&f, &t.fs, NULL, "x", QN_OPEN_READ, NULL), QN_OK);
    static const uint64_t offs[] = {3, 4, UINT64_C(1) << 62, (UINT64_C(1) << 63) - 1, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof offs / sizeof offs[0]; i++) {
        qn_err_clear(&err);
        cr_expect_eq(qn_file_read(&f, &b, 1, offs[i], &err), QN_E_INPUT, "offset %llu", (unsigned long long)offs[i]);
        cr_expect_eq(err.off, offs[i]);
    }
    qn_err_clear(&err);
    cr_expect_eq(qn_file_read(&f, &b, UINT64_MAX, 1, &err), QN_E_INPUT);
    cr_expect_eq(qn_file_read(&f, NULL, 0, 99, NULL), QN_OK, "nothing can be read anywhere");
    qn_file_drop(&f);
    cr_assert_eq(t.n_open, 0);
}

Test(io, publish)
{
    char dir[] = "/tmp/qt-io-XXXXXX", from[64], to[64];
    qn_file f;
    cr_assert(mkdtemp(dir));
    snprintf(from, sizeof from, "%s/a.partial", dir);
    snprintf(to, sizeof to, "%s/a", dir);
    cr_assert_eq(qn_file_open(&f, &qn_fs_posix, NULL, from, QN_OPEN_NEW, NULL), QN_OK);
    cr_assert_eq(qn_file_close(&f, NULL), QN_OK);
    cr_assert(qn_fs_exists(&qn_fs_posix, from) && !qn_fs_exists(&qn_fs_posix, to));
    cr_assert_eq(qn_fs_publish(&qn_fs_posix, NULL, from, to, NULL), QN_OK);
    cr_assert(!qn_fs_exists(&qn_fs_posix, from) && qn_fs_exists(&qn_fs_posix, to));
    qn_err err;
    qn_err_clear(&err);
    cr_assert_eq(qn_fs_publish(&qn_fs_posix, NULL, from, to, &err), QN_E_IO);
    cr_assert_eq(err.sys, ENOENT);
    cr_assert(unlink(to) == 0 && rmdir(dir) == 0);
}
