/* fuzz_stats.c: a .qstats file, raw (first byte odd) or with its checksums put right. */
#include "tests/fuzz/fuzz.h"
#include "tests/support/stats_build.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    if (n < 2)
        return 0;
    qt_add(&file, p + 1, n - 1);
    if (!(p[0] & 1))
        qt_stats_reseal(file.p, file.n);
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_stats_file f;
    qt_files_init(&t);
    qt_files_add(&t, "s.qstats", file.p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    qn_code rc = qn_stats_file_open(&f, &env, "s.qstats", &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 64 * file.n + (1 << 20));
    if (rc == QN_OK) {
        for (uint32_t i = 0; i < f.n_items; i++) {
            const qn_stats_item *it = &f.items[i];
            QF_CHECK(qn_stats_find(&f, it->name, it->expert) == it);
            double a = 0;
            QF_CHECK(!qn_stats_sensitivity(&f, it, &a) || (a >= 0 && it->cost->noise > 0));
            QF_CHECK(it->input < f.n_inputs && it->at < f.inputs[it->input].n_names);
        }
        rc = qn_stats_check(&f, &err);
        QF_CHECK(rc == QN_OK || rc == QN_E_INPUT);
    }
    qn_stats_file_close(&f);
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

static int drop(void *ctx, const char *path)
{
    (void)ctx;
    (void)path;
    return 0;
}

/* A file that the writer makes, caught on its way: it needs no folder. */
static qt_buf made;
static bool named; /* the partial has its name */

static int open_any(void *ctx, const char *path, int mode)
{
    (void)ctx;
    (void)path;
    (void)mode;
    return 3;
}

static int close_any(void *ctx, int fd)
{
    (void)ctx;
    (void)fd;
    return 0;
}

static ssize_t read_made(void *ctx, int fd, void *buf, size_t n, uint64_t off)
{
    (void)ctx;
    (void)fd;
    const size_t left = off < made.n ? made.n - (size_t)off : 0, some = n < left ? n : left;
    if (some)
        memcpy(buf, made.p + off, some);
    return (ssize_t)some;
}

static ssize_t write_made(void *ctx, int fd, const void *buf, size_t n, uint64_t off)
{
    (void)ctx;
    (void)fd;
    if (off + n > made.n)
        qt_add_zeros(&made, (size_t)off + n - made.n);
    memcpy(made.p + off, buf, n);
    return (ssize_t)n;
}

static int truncate_made(void *ctx, int fd, uint64_t n)
{
    (void)ctx;
    (void)fd;
    made.n = n < made.n ? (size_t)n : made.n;
    return 0;
}

static int ok_fd(void *ctx, int fd)
{
    (void)ctx;
    (void)fd;
    return 0;
}

static int fstat_made(void *ctx, int fd, qn_stat *st)
{
    (void)ctx;
    (void)fd;
    *st = (qn_stat){.n_bytes = made.n, .ino = 1, .n_links = 1, .is_regular = true};
    return 0;
}

static int stat_made(void *ctx, const char *path, qn_stat *st)
{
    const size_t n = strlen(path);
    if (!named || n < 8 || strcmp(path + n - 8, ".partial") != 0)
        return -2; /* ENOENT */
    return fstat_made(ctx, 3, st);
}

static int rename_any(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    (void)from;
    (void)to;
    named = true;
    return 0;
}

static int advise_any(void *ctx, int fd, uint64_t off, uint64_t n)
{
    (void)ctx;
    (void)fd;
    (void)off;
    (void)n;
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const qn_fs fs = {.open = open_any, .close = close_any, .pread = read_made, .pwrite = write_made,
                             .truncate = truncate_made, .sync = ok_fd, .lock = ok_fd, .fstat = fstat_made, .stat = stat_made,
                             .rename = rename_any, .unlink = drop, .sync_dir = drop, .advise_done = advise_any};
    const qn_env env = {.fs = &fs, .n_threads = 1};
    for (uint32_t blocks = 0; blocks <= 3; blocks++) {
        qn_err err;
        qn_err_clear(&err);
        qt_buf_free(&made);
        named = false;
        QF_CHECK(qt_stats_write(&env, "s", blocks, true, &err) == QN_OK);
        for (unsigned raw = 0; raw < 2; raw++) {
            qt_buf b = {0};
            qt_add(&b, raw ? "\1" : "\0", 1);
            qt_add(&b, made.p, made.n);
            emit(ctx, b.p, b.n);
            qt_buf_free(&b);
        }
    }
    qt_buf_free(&made);
}
