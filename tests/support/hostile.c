/* hostile.c: see hostile.h. */
#define _GNU_SOURCE
#include "tests/support/hostile.h"
#include "base/num.h"
#include "base/path.h"
#include "tests/support/testkit.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void qt_add(qt_buf *b, const void *src, size_t n)
{
    if (b->n + n + 1 > b->cap) {
        b->cap = (b->n + n + 1) * 2;
        b->p = realloc(b->p, b->cap);
        if (!b->p)
            abort();
    }
    if (n)
        memcpy(b->p + b->n, src, n);
    b->n += n;
    b->p[b->n] = 0;
}

void qt_add_zeros(qt_buf *b, size_t n)
{
    static const uint8_t zeros[256];
    for (; n > sizeof zeros; n -= sizeof zeros)
        qt_add(b, zeros, sizeof zeros);
    qt_add(b, zeros, n);
}

void qt_addf(qt_buf *b, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        abort();
    qt_add(b, text, (size_t)n);
}

void qt_buf_free(qt_buf *b)
{
    free(b->p);
    *b = (qt_buf){0};
}

void qt_add_safetensors(qt_buf *b, const char *header, size_t n_data)
{
    uint8_t len[8];
    qn_store64(len, strlen(header));
    qt_add(b, len, 8);
    qt_add(b, header, strlen(header));
    for (size_t i = 0; i < n_data; i++) {
        const uint8_t v = (uint8_t)i;
        qt_add(b, &v, 1);
    }
}

static int find(const qt_files *t, const char *path)
{
    for (unsigned i = 0; i < t->n; i++)
        if (strcmp(t->f[i].path, path) == 0)
            return (int)i;
    return -1;
}

static bool is_folder_of(const char *dir, const char *path)
{
    const size_t n = strlen(dir);
    return strncmp(dir, path, n) == 0 && path[n] == '/';
}

static int mf_open(void *ctx, const char *path, int mode)
{
    qt_files *t = ctx;
    const int i = find(t, path);
    if (i < 0)
        return -ENOENT;
    if ((mode & 3) != QN_OPEN_READ)
        return -EROFS;
    t->n_open++;
    return i;
}

static int mf_open_beneath(void *ctx, const char *dir, const char *rel)
{
    char path[2048];
    snprintf(path, sizeof path, "%s/%s", dir, rel);
    return qn_path_is_safe(rel, strlen(rel)) ? mf_open(ctx, strncmp(path, "./", 2) ? path : path + 2, QN_OPEN_READ) : -EXDEV;
}

static int mf_close(void *ctx, int fd)
{
    qt_files *t = ctx;
    (void)fd;
    t->n_open--;
    return 0;
}

static ssize_t mf_pread(void *ctx, int fd, void *buf, size_t n, uint64_t off)
{
    qt_files *t = ctx;
    t->n_reads++;
    if (t->max_read && t->n_reads % 2)
        return -EINTR;
    if (t->max_read && n > t->max_read)
        n = t->max_read;
    if (off >= t->f[fd].n)
        return 0;
    n = (size_t)qn_min_u64(n, t->f[fd].n - off);
    memcpy(buf, t->f[fd].p + off, n);
    return (ssize_t)n;
}

static int mf_fstat(void *ctx, int fd, qn_stat *st)
{
    const qt_files *t = ctx;
    *st = (qn_stat){.n_bytes = t->f[fd].n, .dev = 1, .ino = (uint64_t)fd + 1, .n_links = 1, .is_regular = !t->f[fd].fifo};
    return 0;
}

static int mf_stat(void *ctx, const char *path, qn_stat *st)
{
    const qt_files *t = ctx;
    const int i = find(t, path);
    if (i >= 0)
        return mf_fstat(ctx, i, st);
    for (unsigned k = 0; k < t->n; k++)
        if (is_folder_of(path, t->f[k].path)) {
            *st = (qn_stat){.dev = 1, .ino = 1000, .is_dir = true};
            return 0;
        }
    return -ENOENT;
}

static int mf_list(void *ctx, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx)
{
    const qt_files *t = ctx;
    char last[1200] = "";
    for (unsigned k = 0; k < t->n; k++) {
        if (!is_folder_of(path, t->f[k].path))
            continue;
        char name[1200];
        snprintf(name, sizeof name, "%s", t->f[k].path + strlen(path) + 1);
        name[strcspn(name, "/")] = '\0';
        if (strcmp(name, last) == 0)
            continue; /* files of one folder are added together */
        memcpy(last, name, sizeof last);
        const int r = each(each_ctx, name);
        if (r)
            return r;
    }
    return 0;
}

void qt_files_init(qt_files *t)
{
    *t = (qt_files){0};
    t->fs = (qn_fs){.open = mf_open, .open_beneath = mf_open_beneath, .close = mf_close, .pread = mf_pread, .fstat = mf_fstat, .stat = mf_stat,
                    .list = mf_list, .ctx = t};
}

void qt_files_add(qt_files *t, const char *path, const void *p, size_t n)
{
    if (t->n == QT_FILES_MAX)
        abort();
    t->f[t->n].path = path;
    t->f[t->n].p = p;
    t->f[t->n].fifo = false;
    t->f[t->n++].n = n;
}

enum { HEAD = 64 };

static void *count_get(void *ctx, size_t n)
{
    qt_counter *c = ctx;
    void *p;
    c->n_gets++;
    if (c->fail_at && (c->n_gets == c->fail_at || (c->fail_on && c->n_gets > c->fail_at)))
        return NULL;
    if (n > SIZE_MAX - HEAD || posix_memalign(&p, 64, n + HEAD) != 0)
        return NULL;
    memcpy(p, &n, sizeof n);
    c->live += n;
    c->n_live++;
    if (c->live > c->peak)
        c->peak = c->live;
    return (uint8_t *)p + HEAD;
}

static void count_put(void *ctx, void *p)
{
    qt_counter *c = ctx;
    uint8_t *q = (uint8_t *)p - HEAD;
    size_t n;
    memcpy(&n, q, sizeof n);
    c->live -= n;
    c->n_live--;
    free(q);
}

void qt_counter_init(qt_counter *c)
{
    *c = (qt_counter){0};
    c->alloc = (qn_alloc){.get = count_get, .put = count_put, .ctx = c};
}

qn_env qt_env(const qt_files *files, const qt_counter *counter)
{
    return (qn_env){.alloc = counter ? &counter->alloc : NULL, .fs = files ? &files->fs : &qn_fs_posix, .n_threads = 1};
}

double qt_cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

double qt_slack(void)
{
#ifdef NDEBUG
    return qt_sanitized() ? 20 : 1;
#else
    return 20;
#endif
}

static bool complain(const char *name, const char *what, const char *found, const char *wanted)
{
    fprintf(stderr, "%s: %s: found '%s', wanted '%s'\n", name, what, found, wanted);
    return false;
}

static bool off_is(const char *name, uint64_t found, uint64_t wanted)
{
    char a[32], b[32];
    snprintf(a, sizeof a, "%lld", (long long)found);
    snprintf(b, sizeof b, "%lld", (long long)wanted);
    return found == wanted || complain(name, "offset", a, b);
}

bool qt_err_is(const char *name, const qn_err *err, qn_code rc, qn_code code, uint64_t off, const char *tensor,
               const char *text)
{
    char line[1024], a[16], b[16];
    bool ok = true;
    qn_err_line(err, line, sizeof line);
    snprintf(a, sizeof a, "%d", rc);
    snprintf(b, sizeof b, "%d", code);
    if (rc != code)
        return complain(name, "code", a, b) && complain(name, "line", line, "");
    if (err->code != rc)
        ok = complain(name, "recorded code", "other than returned", a);
    ok = off_is(name, err->off, off) && ok;
    if (tensor && strcmp(err->tensor, tensor) != 0)
        ok = complain(name, "tensor", err->tensor, tensor);
    if (text && !strstr(err->text, text))
        ok = complain(name, "text", err->text, text);
    if (err->text[0] == '\0')
        ok = complain(name, "text", "", "something");
    char safe[1024];
    qn_printable(safe, sizeof safe, line, strlen(line));
    if (strcmp(safe, line) != 0)
        ok = complain(name, "line", safe, "nothing to escape");
    if (!ok)
        fprintf(stderr, "    %s\n", line);
    return ok;
}
