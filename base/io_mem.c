/* io_mem.c: see io_mem.h.
 *
 * Everything is small here: searches are linear. */
#include "base/io_mem_impl.h"
#include "base/num.h"
#include "base/path.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool qn_memfs_grow(void *pointer, uint64_t *cap, uint64_t want, size_t size)
{
    void *p;
    if (want <= *cap)
        return true;
    const uint64_t n = qn_max_u64(want, *cap * 2);
    memcpy(&p, pointer, sizeof p);
    p = realloc(p, n * size);
    if (!p)
        return false;
    memcpy(pointer, &p, sizeof p);
    *cap = n;
    return true;
}

/* ---- names ---- */

static struct qn_memfs_row *find_row(const struct qn_memfs_table *t, int dir, const char *name)
{
    for (uint64_t i = 0; i < t->n; i++)
        if (t->rows[i].dir == dir && strcmp(t->rows[i].name, name) == 0)
            return &t->rows[i];
    return NULL;
}

bool qn_memfs_add_row(struct qn_memfs_table *t, const struct qn_memfs_row *r)
{
    struct qn_memfs_row *old = find_row(t, r->dir, r->name);
    if (old) {
        *old = *r;
        return true;
    }
    if (!qn_memfs_grow(&t->rows, &t->cap, t->n + 1, sizeof *t->rows))
        return false;
    t->rows[t->n++] = *r;
    return true;
}

static void drop_row(struct qn_memfs_table *t, struct qn_memfs_row *r)
{
    *r = t->rows[--t->n];
}

bool qn_memfs_apply(struct qn_memfs_table *t, const struct qn_memfs_move *m)
{
    if (m->from.node != QN_MEMFS_NONE) {
        struct qn_memfs_row *r = find_row(t, m->from.dir, m->from.name);
        if (!r || r->node != m->from.node)
            return true;
        drop_row(t, r);
    }
    return m->to.node == QN_MEMFS_NONE || qn_memfs_add_row(t, &m->to);
}

static int change_names(struct qn_memfs *m, const struct qn_memfs_move *move)
{
    if (!qn_memfs_grow(&m->log, &m->cap_log, m->n_log + 1, sizeof *m->log) || !qn_memfs_apply(&m->now, move))
        return -ENOMEM;
    m->log[m->n_log++] = *move;
    return 0;
}

int qn_memfs_look_up(const struct qn_memfs *m, const char *path, struct qn_memfs_row *at)
{
    int parents[64], depth = 0, here = QN_MEMFS_ROOT;
    *at = (struct qn_memfs_row){.dir = QN_MEMFS_NONE, .node = QN_MEMFS_ROOT};
    while (*path) {
        const size_t n = strcspn(path, "/");
        if (n >= QN_MEMFS_NAME_BYTES)
            return -ENAMETOOLONG;
        if (n == 2 && path[0] == '.' && path[1] == '.') {
            here = depth ? parents[--depth] : QN_MEMFS_ROOT;
            *at = (struct qn_memfs_row){.dir = QN_MEMFS_NONE, .node = here};
        } else if (n > 1 || (n == 1 && path[0] != '.')) {
            if (here == QN_MEMFS_NONE)
                return -ENOENT;
            if (!m->nodes[here].is_dir)
                return -ENOTDIR;
            if (depth == 64)
                return -ENAMETOOLONG;
            parents[depth++] = here;
            *at = (struct qn_memfs_row){.dir = here, .node = QN_MEMFS_NONE};
            memcpy(at->name, path, n);
            const struct qn_memfs_row *r = find_row(&m->now, here, at->name);
            here = at->node = r ? r->node : QN_MEMFS_NONE;
        }
        path += n;
        path += *path == '/';
    }
    return 0;
}

int qn_memfs_new_node(struct qn_memfs *m, bool is_dir)
{
    if (!qn_memfs_grow(&m->nodes, &m->cap_nodes, m->n_nodes + 1, sizeof *m->nodes))
        return -ENOMEM;
    m->nodes[m->n_nodes] = (struct qn_memfs_node){.is_dir = is_dir, .locked_by = QN_MEMFS_NONE, .mtime = ++m->clock};
    return (int)m->n_nodes++;
}

/* ---- bytes ---- */

bool qn_memfs_resize(struct qn_memfs_bytes *b, uint64_t n)
{
    if (!qn_memfs_grow(&b->p, &b->cap, qn_max_u64(n, 1), 1))
        return false;
    if (n > b->n)
        memset(b->p + b->n, 0, (size_t)(n - b->n));
    b->n = n;
    return true;
}

bool qn_memfs_put_bytes(struct qn_memfs_bytes *b, const uint8_t *src, uint64_t n, uint64_t off)
{
    if (n == 0)
        return true;
    if (off + n > b->n && !qn_memfs_resize(b, off + n))
        return false;
    memcpy(b->p + off, src, (size_t)n);
    return true;
}

static bool log_change(struct qn_memfs_node *f, const void *data, uint64_t n, uint64_t off)
{
    struct qn_memfs_change *c = calloc(1, sizeof *c), **tail = &f->first;
    if (!c)
        return false;
    if (data && !(c->data = malloc((size_t)qn_max_u64(n, 1)))) {
        free(c);
        return false;
    }
    if (data)
        memcpy(c->data, data, (size_t)n);
    c->n = n;
    c->off = off;
    while (*tail)
        tail = &(*tail)->next;
    *tail = c;
    return true;
}

void qn_memfs_forget(struct qn_memfs_node *f)
{
    while (f->first) {
        struct qn_memfs_change *next = f->first->next;
        free(f->first->data);
        free(f->first);
        f->first = next;
    }
}

static int make_safe(struct qn_memfs_node *f)
{
    qn_memfs_forget(f);
    if (!qn_memfs_resize(&f->safe, f->now.n))
        return -ENOMEM;
    memcpy(f->safe.p, f->now.p ? f->now.p : (const uint8_t *)"", (size_t)f->now.n);
    return 0;
}

static struct qn_memfs_node *of_handle(struct qn_memfs *m, int fd)
{
    return fd >= 0 && (uint64_t)fd < m->n_handles && m->handles[fd] != QN_MEMFS_NONE ? &m->nodes[m->handles[fd]] : NULL;
}

/* ---- the calls; each holds the lock ---- */

static int do_open(struct qn_memfs *m, const char *path, int mode)
{
    struct qn_memfs_row at;
    const int r = qn_memfs_look_up(m, path, &at);
    if (r < 0)
        return r;
    if ((mode & ~(QN_OPEN_NOFOLLOW | QN_OPEN_PRIVATE)) == QN_OPEN_NEW) {
        if (at.node != QN_MEMFS_NONE)
            return -EEXIST;
        at.node = qn_memfs_new_node(m, false);
        if (at.node < 0)
            return at.node;
        const int c = change_names(m, &(struct qn_memfs_move){.from = {.node = QN_MEMFS_NONE}, .to = at});
        if (c < 0)
            return c;
    } else if (at.node == QN_MEMFS_NONE) {
        return -ENOENT;
    } else if (m->nodes[at.node].is_dir && (mode & ~QN_OPEN_NOFOLLOW) != QN_OPEN_READ) {
        return -EISDIR;
    }
    if (!qn_memfs_grow(&m->handles, &m->cap_handles, m->n_handles + 1, sizeof *m->handles))
        return -ENOMEM;
    m->handles[m->n_handles] = at.node;
    return (int)m->n_handles++;
}

static int do_close(struct qn_memfs *m, int fd)
{
    struct qn_memfs_node *f = of_handle(m, fd);
    if (!f)
        return -EBADF;
    if (f->locked_by == fd)
        f->locked_by = QN_MEMFS_NONE;
    m->handles[fd] = QN_MEMFS_NONE;
    return 0;
}

static ssize_t do_pread(struct qn_memfs *m, int fd, void *buf, size_t n, uint64_t off)
{
    const struct qn_memfs_node *f = of_handle(m, fd);
    if (!f || f->is_dir)
        return f ? -EISDIR : -EBADF;
    if (off >= f->now.n || n == 0)
        return 0;
    const uint64_t take = qn_min_u64(n, f->now.n - off);
    memcpy(buf, f->now.p + off, (size_t)take);
    return (ssize_t)take;
}

static ssize_t do_pwrite(struct qn_memfs *m, int fd, const void *buf, size_t n, uint64_t off)
{
    struct qn_memfs_node *f = of_handle(m, fd);
    if (!f || f->is_dir)
        return -EBADF;
    const uint64_t end = off + n, more = end > f->now.n ? end - f->now.n : 0, room = m->limit - m->used;
    if (more > room)
        n = more - room < n ? n - (size_t)(more - room) : 0;
    if (n == 0)
        return more ? -ENOSPC : 0;
    m->used += qn_min_u64(more, room);
    f->mtime = ++m->clock;
    if (!qn_memfs_put_bytes(&f->now, buf, n, off) || !log_change(f, buf, n, off))
        return -ENOMEM;
    return (ssize_t)n;
}

static int do_truncate(struct qn_memfs *m, int fd, uint64_t n)
{
    struct qn_memfs_node *f = of_handle(m, fd);
    if (!f || f->is_dir)
        return -EBADF;
    if (n > f->now.n && n - f->now.n > m->limit - m->used)
        return -ENOSPC;
    m->used = m->used - f->now.n + n;
    f->mtime = ++m->clock;
    return qn_memfs_resize(&f->now, n) && log_change(f, NULL, 0, n) ? 0 : -ENOMEM;
}

static int do_lock(struct qn_memfs *m, int fd)
{
    struct qn_memfs_node *f = of_handle(m, fd);
    if (!f)
        return -EBADF;
    if (f->locked_by != QN_MEMFS_NONE && f->locked_by != fd)
        return -EWOULDBLOCK;
    f->locked_by = fd;
    return 0;
}

static int stat_node(const struct qn_memfs *m, int node, qn_stat *st)
{
    if (node == QN_MEMFS_NONE)
        return -ENOENT;
    const struct qn_memfs_node *f = &m->nodes[node];
    *st = (qn_stat){.n_bytes = f->now.n, .dev = 1, .ino = (uint64_t)node + 1, .n_links = 1, .mtime_ns = f->mtime,
                    .is_dir = f->is_dir, .is_regular = !f->is_dir};
    return 0;
}

static bool is_empty(const struct qn_memfs *m, int dir)
{
    for (uint64_t i = 0; i < m->now.n; i++)
        if (m->now.rows[i].dir == dir)
            return false;
    return true;
}

static int do_rename(struct qn_memfs *m, const char *from, const char *to)
{
    struct qn_memfs_row a, b;
    int r = qn_memfs_look_up(m, from, &a);
    if (r == 0)
        r = qn_memfs_look_up(m, to, &b);
    if (r < 0)
        return r;
    if (a.node == QN_MEMFS_NONE || a.dir == QN_MEMFS_NONE || b.dir == QN_MEMFS_NONE)
        return -ENOENT;
    if (a.node == b.node)
        return 0;
    const bool is_dir = m->nodes[a.node].is_dir;
    if (b.node != QN_MEMFS_NONE && is_dir != m->nodes[b.node].is_dir)
        return is_dir ? -ENOTDIR : -EISDIR;
    if (b.node != QN_MEMFS_NONE && is_dir && !is_empty(m, b.node))
        return -ENOTEMPTY;
    if (b.node != QN_MEMFS_NONE)
        m->used -= m->nodes[b.node].now.n;
    b.node = a.node;
    return change_names(m, &(struct qn_memfs_move){.from = a, .to = b});
}

static int do_remove(struct qn_memfs *m, const char *path, bool is_dir)
{
    struct qn_memfs_row at;
    const int r = qn_memfs_look_up(m, path, &at);
    if (r < 0)
        return r;
    if (at.node == QN_MEMFS_NONE || at.dir == QN_MEMFS_NONE)
        return -ENOENT;
    if (m->nodes[at.node].is_dir != is_dir)
        return is_dir ? -ENOTDIR : -EISDIR;
    if (is_dir && !is_empty(m, at.node))
        return -ENOTEMPTY;
    m->used -= m->nodes[at.node].now.n;
    return change_names(m, &(struct qn_memfs_move){.from = at, .to = {.node = QN_MEMFS_NONE}});
}

static int do_mkdir(struct qn_memfs *m, const char *path)
{
    struct qn_memfs_row at;
    const int r = qn_memfs_look_up(m, path, &at);
    if (r < 0)
        return r;
    if (at.node != QN_MEMFS_NONE)
        return -EEXIST;
    at.node = qn_memfs_new_node(m, true);
    return at.node < 0 ? at.node : change_names(m, &(struct qn_memfs_move){.from = {.node = QN_MEMFS_NONE}, .to = at});
}

static int do_sync_dir(struct qn_memfs *m, const char *path)
{
    struct qn_memfs_row at;
    const int r = qn_memfs_look_up(m, path, &at);
    if (r < 0)
        return r;
    if (at.node == QN_MEMFS_NONE || !m->nodes[at.node].is_dir)
        return at.node == QN_MEMFS_NONE ? -ENOENT : -ENOTDIR;
    for (uint64_t i = 0; i < m->n_log; i++) {
        struct qn_memfs_move *l = &m->log[i];
        l->safe = l->safe || (l->from.node != QN_MEMFS_NONE && l->from.dir == at.node) ||
                  (l->to.node != QN_MEMFS_NONE && l->to.dir == at.node);
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The names first, then the calls without the lock: they may change the folder. */
int qn_memfs_list(struct qn_memfs *m, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx)
{
    struct qn_memfs_row at;
    char *names = NULL;
    uint64_t n = 0, cap = 0;
    pthread_mutex_lock(&m->lock);
    int r = qn_memfs_look_up(m, path, &at);
    if (r == 0 && (at.node == QN_MEMFS_NONE || !m->nodes[at.node].is_dir))
        r = at.node == QN_MEMFS_NONE ? -ENOENT : -ENOTDIR;
    for (uint64_t i = 0; r == 0 && i < m->now.n; i++) {
        if (m->now.rows[i].dir != at.node)
            continue;
        if (!qn_memfs_grow(&names, &cap, n + 1, QN_MEMFS_NAME_BYTES))
            r = -ENOMEM;
        else
            memcpy(names + QN_MEMFS_NAME_BYTES * n++, m->now.rows[i].name, QN_MEMFS_NAME_BYTES);
    }
    pthread_mutex_unlock(&m->lock);
    if (n)
        qsort(names, n, QN_MEMFS_NAME_BYTES, by_name);
    for (uint64_t i = 0; r == 0 && i < n; i++)
        r = each(each_ctx, names + QN_MEMFS_NAME_BYTES * i);
    free(names);
    return r;
}

#define LOCKED(type, call)                \
    struct qn_memfs *m = ctx;             \
    pthread_mutex_lock(&m->lock);         \
    const type r = (call);                \
    pthread_mutex_unlock(&m->lock);       \
    return r

static int sync_node(struct qn_memfs_node *f)
{
    return f ? make_safe(f) : -EBADF;
}

static int stat_path(struct qn_memfs *m, const char *path, qn_stat *st)
{
    struct qn_memfs_row at;
    const int r = qn_memfs_look_up(m, path, &at);
    return r < 0 ? r : stat_node(m, at.node, st);
}

static int mem_open(void *ctx, const char *path, int mode) { LOCKED(int, do_open(m, path, mode)); }
static int mem_open_beneath(void *ctx, const char *dir, const char *rel)
{
    char path[2048]; /* there are no links here: only the words of the path could lead out */
    const size_t nd = strlen(dir), nr = strlen(rel);
    if (!qn_path_is_safe(rel, nr))
        return -EXDEV;
    if (nd + nr + 2 > sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, dir, nd);
    path[nd] = '/';
    memcpy(path + nd + 1, rel, nr + 1);
    return mem_open(ctx, path, QN_OPEN_READ);
}
static int mem_close(void *ctx, int fd) { LOCKED(int, do_close(m, fd)); }
static ssize_t mem_pread(void *ctx, int fd, void *buf, size_t n, uint64_t off)
{
    LOCKED(ssize_t, do_pread(m, fd, buf, n, off));
}
static ssize_t mem_pwrite(void *ctx, int fd, const void *buf, size_t n, uint64_t off)
{
    LOCKED(ssize_t, do_pwrite(m, fd, buf, n, off));
}
static int mem_reserve(void *ctx, int fd, uint64_t n)
{
    LOCKED(int, !of_handle(m, fd) ? -EBADF : n > of_handle(m, fd)->now.n + (m->limit - m->used) ? -ENOSPC : 0);
}
static int mem_truncate(void *ctx, int fd, uint64_t n) { LOCKED(int, do_truncate(m, fd, n)); }
static int mem_sync(void *ctx, int fd) { LOCKED(int, sync_node(of_handle(m, fd))); }
static int mem_lock(void *ctx, int fd) { LOCKED(int, do_lock(m, fd)); }
static int mem_fstat(void *ctx, int fd, qn_stat *st)
{
    LOCKED(int, of_handle(m, fd) ? stat_node(m, m->handles[fd], st) : -EBADF);
}
static int mem_stat(void *ctx, const char *path, qn_stat *st) { LOCKED(int, stat_path(m, path, st)); }
static int mem_rename(void *ctx, const char *from, const char *to) { LOCKED(int, do_rename(m, from, to)); }
static int mem_unlink(void *ctx, const char *path) { LOCKED(int, do_remove(m, path, false)); }
static int mem_mkdir(void *ctx, const char *path) { LOCKED(int, do_mkdir(m, path)); }
static int mem_rmdir(void *ctx, const char *path) { LOCKED(int, do_remove(m, path, true)); }
static int mem_sync_dir(void *ctx, const char *path) { LOCKED(int, do_sync_dir(m, path)); }
static int mem_list(void *ctx, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx)
{
    return qn_memfs_list(ctx, path, each, each_ctx);
}
static int mem_advise_done(void *ctx, int fd, uint64_t off, uint64_t n)
{
    (void)off;
    (void)n;
    LOCKED(int, of_handle(m, fd) ? 0 : -EBADF);
}

qn_memfs *qn_memfs_new(void)
{
    struct qn_memfs *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->limit = UINT64_MAX;
    m->fs = (qn_fs){mem_open, mem_open_beneath, mem_close, mem_pread, mem_pwrite, mem_reserve, mem_truncate, mem_sync, mem_lock,
                    mem_fstat, mem_stat, mem_rename, mem_unlink, mem_mkdir, mem_rmdir, mem_sync_dir, mem_list,
                    mem_advise_done, m};
    pthread_mutex_init(&m->lock, NULL);
    if (qn_memfs_new_node(m, true) < 0) {
        qn_memfs_free(m);
        return NULL;
    }
    return m;
}

void qn_memfs_free(qn_memfs *m)
{
    if (!m)
        return;
    for (uint64_t i = 0; i < m->n_nodes; i++) {
        qn_memfs_forget(&m->nodes[i]);
        free(m->nodes[i].now.p);
        free(m->nodes[i].safe.p);
    }
    free(m->nodes);
    free(m->now.rows);
    free(m->safe.rows);
    free(m->log);
    free(m->handles);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

const qn_fs *qn_memfs_fs(qn_memfs *m)
{
    return &m->fs;
}
