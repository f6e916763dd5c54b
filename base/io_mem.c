/* io_mem.c: see io_mem.h.
 *
 * Nodes are files and folders; names are rows of one flat table (folder, name, node). Both exist twice: as a process
 * sees them, and as they are safe on the disk, with a log of what lies between. Everything is small here: searches
 * are linear. */
#include "base/io_mem.h"
#include "base/num.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 256, SECTOR = 64, NONE = -1, ROOT = 0 };

/* A write (data) or a change of length (data NULL) since the last sync. */
struct change {
    struct change *next;
    uint8_t *data;
    uint64_t off, n;
};

struct bytes {
    uint8_t *p;
    uint64_t n, cap;
};

struct node {
    bool is_dir;
    int locked_by;
    int64_t mtime;
    struct bytes now, safe;
    struct change *first, **last;
};

struct row {
    int dir, node;
    char name[NAME_MAX_BYTES];
};

struct table {
    struct row *rows;
    uint64_t n, cap;
};

/* A change of names: a row added (from.node NONE), removed (to.node NONE) or moved. */
struct move {
    struct row from, to;
    bool safe;
};

struct qn_memfs {
    qn_fs fs;
    pthread_mutex_t lock;
    struct node *nodes;
    uint64_t n_nodes, cap_nodes;
    struct table now, safe;
    struct move *log;
    uint64_t n_log, cap_log;
    int *handles; /* node, NONE when closed */
    uint64_t n_handles, cap_handles;
    uint64_t limit, used;
    int64_t clock;
};

static bool grow(void *p, uint64_t *cap, uint64_t want, size_t size)
{
    void **at = p;
    if (want <= *cap)
        return true;
    const uint64_t n = qn_max_u64(want, *cap * 2);
    void *q = realloc(*at, n * size);
    if (!q)
        return false;
    *at = q;
    *cap = n;
    return true;
}

/* ---- names ---- */

static struct row *find_row(const struct table *t, int dir, const char *name)
{
    for (uint64_t i = 0; i < t->n; i++)
        if (t->rows[i].dir == dir && strcmp(t->rows[i].name, name) == 0)
            return &t->rows[i];
    return NULL;
}

static bool add_row(struct table *t, const struct row *r)
{
    struct row *old = find_row(t, r->dir, r->name);
    if (old) {
        *old = *r;
        return true;
    }
    if (!grow(&t->rows, &t->cap, t->n + 1, sizeof *t->rows))
        return false;
    t->rows[t->n++] = *r;
    return true;
}

static void drop_row(struct table *t, struct row *r)
{
    *r = t->rows[--t->n];
}

/* Does nothing when the row that it changes is not there. */
static bool apply(struct table *t, const struct move *m)
{
    if (m->from.node != NONE) {
        struct row *r = find_row(t, m->from.dir, m->from.name);
        if (!r || r->node != m->from.node)
            return true;
        drop_row(t, r);
    }
    return m->to.node == NONE || add_row(t, &m->to);
}

static int change_names(struct qn_memfs *m, const struct move *move)
{
    if (!grow(&m->log, &m->cap_log, m->n_log + 1, sizeof *m->log) || !apply(&m->now, move))
        return -ENOMEM;
    m->log[m->n_log++] = *move;
    return 0;
}

/* Finds folder and last name of a path; a relative path begins at the root. *node = NONE when nothing has that name. */
static int look_up(const struct qn_memfs *m, const char *path, struct row *at)
{
    int parents[64], depth = 0, here = ROOT;
    *at = (struct row){.dir = NONE, .node = ROOT};
    while (*path) {
        const size_t n = strcspn(path, "/");
        if (n >= NAME_MAX_BYTES)
            return -ENAMETOOLONG;
        if (n == 2 && path[0] == '.' && path[1] == '.') {
            here = depth ? parents[--depth] : ROOT;
            *at = (struct row){.dir = NONE, .node = here};
        } else if (n > 1 || (n == 1 && path[0] != '.')) {
            if (here == NONE)
                return -ENOENT;
            if (!m->nodes[here].is_dir)
                return -ENOTDIR;
            if (depth == 64)
                return -ENAMETOOLONG;
            parents[depth++] = here;
            *at = (struct row){.dir = here, .node = NONE};
            memcpy(at->name, path, n);
            const struct row *r = find_row(&m->now, here, at->name);
            here = at->node = r ? r->node : NONE;
        }
        path += n;
        path += *path == '/';
    }
    return 0;
}

static int new_node(struct qn_memfs *m, bool is_dir)
{
    if (!grow(&m->nodes, &m->cap_nodes, m->n_nodes + 1, sizeof *m->nodes))
        return -ENOMEM;
    /* nodes move when the table grows: the tails of their lists are found again, see log_change */
    m->nodes[m->n_nodes] = (struct node){.is_dir = is_dir, .locked_by = NONE, .mtime = ++m->clock};
    return (int)m->n_nodes++;
}

/* ---- bytes ---- */

static bool resize(struct bytes *b, uint64_t n)
{
    if (!grow(&b->p, &b->cap, qn_max_u64(n, 1), 1))
        return false;
    if (n > b->n)
        memset(b->p + b->n, 0, (size_t)(n - b->n));
    b->n = n;
    return true;
}

static bool put_bytes(struct bytes *b, const uint8_t *src, uint64_t n, uint64_t off)
{
    if (n == 0)
        return true;
    if (off + n > b->n && !resize(b, off + n))
        return false;
    memcpy(b->p + off, src, (size_t)n);
    return true;
}

static bool log_change(struct node *f, const void *data, uint64_t n, uint64_t off)
{
    struct change *c = calloc(1, sizeof *c), **tail = &f->first;
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

static void forget_changes(struct node *f)
{
    while (f->first) {
        struct change *next = f->first->next;
        free(f->first->data);
        free(f->first);
        f->first = next;
    }
}

static int make_safe(struct node *f)
{
    forget_changes(f);
    if (!resize(&f->safe, f->now.n))
        return -ENOMEM;
    memcpy(f->safe.p, f->now.p ? f->now.p : (const uint8_t *)"", (size_t)f->now.n);
    return 0;
}

static struct node *of_handle(struct qn_memfs *m, int fd)
{
    return fd >= 0 && (uint64_t)fd < m->n_handles && m->handles[fd] != NONE ? &m->nodes[m->handles[fd]] : NULL;
}

/* ---- the calls; each holds the lock ---- */

static int do_open(struct qn_memfs *m, const char *path, int mode)
{
    struct row at;
    const int r = look_up(m, path, &at);
    if (r < 0)
        return r;
    if ((mode & ~QN_OPEN_NOFOLLOW) == QN_OPEN_NEW) {
        if (at.node != NONE)
            return -EEXIST;
        at.node = new_node(m, false);
        if (at.node < 0)
            return at.node;
        const int c = change_names(m, &(struct move){.from = {.node = NONE}, .to = at});
        if (c < 0)
            return c;
    } else if (at.node == NONE) {
        return -ENOENT;
    } else if (m->nodes[at.node].is_dir && (mode & ~QN_OPEN_NOFOLLOW) != QN_OPEN_READ) {
        return -EISDIR;
    }
    if (!grow(&m->handles, &m->cap_handles, m->n_handles + 1, sizeof *m->handles))
        return -ENOMEM;
    m->handles[m->n_handles] = at.node;
    return (int)m->n_handles++;
}

static int do_close(struct qn_memfs *m, int fd)
{
    struct node *f = of_handle(m, fd);
    if (!f)
        return -EBADF;
    if (f->locked_by == fd)
        f->locked_by = NONE;
    m->handles[fd] = NONE;
    return 0;
}

static ssize_t do_pread(struct qn_memfs *m, int fd, void *buf, size_t n, uint64_t off)
{
    const struct node *f = of_handle(m, fd);
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
    struct node *f = of_handle(m, fd);
    if (!f || f->is_dir)
        return -EBADF;
    const uint64_t end = off + n, more = end > f->now.n ? end - f->now.n : 0, room = m->limit - m->used;
    if (more > room)
        n = more - room < n ? n - (size_t)(more - room) : 0;
    if (n == 0)
        return more ? -ENOSPC : 0;
    m->used += qn_min_u64(more, room);
    f->mtime = ++m->clock;
    if (!put_bytes(&f->now, buf, n, off) || !log_change(f, buf, n, off))
        return -ENOMEM;
    return (ssize_t)n;
}

static int do_truncate(struct qn_memfs *m, int fd, uint64_t n)
{
    struct node *f = of_handle(m, fd);
    if (!f || f->is_dir)
        return -EBADF;
    if (n > f->now.n && n - f->now.n > m->limit - m->used)
        return -ENOSPC;
    m->used = m->used - f->now.n + n;
    f->mtime = ++m->clock;
    return resize(&f->now, n) && log_change(f, NULL, 0, n) ? 0 : -ENOMEM;
}

static int do_lock(struct qn_memfs *m, int fd)
{
    struct node *f = of_handle(m, fd);
    if (!f)
        return -EBADF;
    if (f->locked_by != NONE && f->locked_by != fd)
        return -EWOULDBLOCK;
    f->locked_by = fd;
    return 0;
}

static int stat_node(const struct qn_memfs *m, int node, qn_stat *st)
{
    if (node == NONE)
        return -ENOENT;
    const struct node *f = &m->nodes[node];
    *st = (qn_stat){.n_bytes = f->now.n, .dev = 1, .ino = (uint64_t)node + 1, .mtime_ns = f->mtime,
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
    struct row a, b;
    int r = look_up(m, from, &a);
    if (r == 0)
        r = look_up(m, to, &b);
    if (r < 0)
        return r;
    if (a.node == NONE || a.dir == NONE || b.dir == NONE)
        return -ENOENT;
    if (a.node == b.node)
        return 0;
    const bool is_dir = m->nodes[a.node].is_dir;
    if (b.node != NONE && is_dir != m->nodes[b.node].is_dir)
        return is_dir ? -ENOTDIR : -EISDIR;
    if (b.node != NONE && is_dir && !is_empty(m, b.node))
        return -ENOTEMPTY;
    if (b.node != NONE)
        m->used -= m->nodes[b.node].now.n;
    b.node = a.node;
    return change_names(m, &(struct move){.from = a, .to = b});
}

static int do_remove(struct qn_memfs *m, const char *path, bool is_dir)
{
    struct row at;
    const int r = look_up(m, path, &at);
    if (r < 0)
        return r;
    if (at.node == NONE || at.dir == NONE)
        return -ENOENT;
    if (m->nodes[at.node].is_dir != is_dir)
        return is_dir ? -ENOTDIR : -EISDIR;
    if (is_dir && !is_empty(m, at.node))
        return -ENOTEMPTY;
    m->used -= m->nodes[at.node].now.n;
    return change_names(m, &(struct move){.from = at, .to = {.node = NONE}});
}

static int do_mkdir(struct qn_memfs *m, const char *path)
{
    struct row at;
    const int r = look_up(m, path, &at);
    if (r < 0)
        return r;
    if (at.node != NONE)
        return -EEXIST;
    at.node = new_node(m, true);
    return at.node < 0 ? at.node : change_names(m, &(struct move){.from = {.node = NONE}, .to = at});
}

static int do_sync_dir(struct qn_memfs *m, const char *path)
{
    struct row at;
    const int r = look_up(m, path, &at);
    if (r < 0)
        return r;
    if (at.node == NONE || !m->nodes[at.node].is_dir)
        return at.node == NONE ? -ENOENT : -ENOTDIR;
    for (uint64_t i = 0; i < m->n_log; i++) {
        struct move *l = &m->log[i];
        l->safe = l->safe || (l->from.node != NONE && l->from.dir == at.node) ||
                  (l->to.node != NONE && l->to.dir == at.node);
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The names first, then the calls without the lock: they may change the folder. */
static int do_list(struct qn_memfs *m, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx)
{
    struct row at;
    char *names = NULL;
    uint64_t n = 0, cap = 0;
    pthread_mutex_lock(&m->lock);
    int r = look_up(m, path, &at);
    if (r == 0 && (at.node == NONE || !m->nodes[at.node].is_dir))
        r = at.node == NONE ? -ENOENT : -ENOTDIR;
    for (uint64_t i = 0; r == 0 && i < m->now.n; i++) {
        if (m->now.rows[i].dir != at.node)
            continue;
        if (!grow(&names, &cap, n + 1, NAME_MAX_BYTES))
            r = -ENOMEM;
        else
            memcpy(names + NAME_MAX_BYTES * n++, m->now.rows[i].name, NAME_MAX_BYTES);
    }
    pthread_mutex_unlock(&m->lock);
    if (n)
        qsort(names, n, NAME_MAX_BYTES, by_name);
    for (uint64_t i = 0; r == 0 && i < n; i++)
        r = each(each_ctx, names + NAME_MAX_BYTES * i);
    free(names);
    return r;
}

#define LOCKED(type, call)                \
    struct qn_memfs *m = ctx;             \
    pthread_mutex_lock(&m->lock);         \
    const type r = (call);                \
    pthread_mutex_unlock(&m->lock);       \
    return r

static int sync_node(struct node *f)
{
    return f ? make_safe(f) : -EBADF;
}

static int stat_path(struct qn_memfs *m, const char *path, qn_stat *st)
{
    struct row at;
    const int r = look_up(m, path, &at);
    return r < 0 ? r : stat_node(m, at.node, st);
}

static int mem_open(void *ctx, const char *path, int mode) { LOCKED(int, do_open(m, path, mode)); }
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
    return do_list(ctx, path, each, each_ctx);
}
static int mem_advise_done(void *ctx, int fd, uint64_t off, uint64_t n)
{
    (void)off;
    (void)n;
    LOCKED(int, of_handle(m, fd) ? 0 : -EBADF);
}

/* ---- for tests ---- */

qn_memfs *qn_memfs_new(void)
{
    struct qn_memfs *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->limit = UINT64_MAX;
    m->fs = (qn_fs){mem_open, mem_close, mem_pread, mem_pwrite, mem_reserve, mem_truncate, mem_sync, mem_lock,
                    mem_fstat, mem_stat, mem_rename, mem_unlink, mem_mkdir, mem_rmdir, mem_sync_dir, mem_list,
                    mem_advise_done, m};
    pthread_mutex_init(&m->lock, NULL);
    if (new_node(m, true) < 0) {
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
        forget_changes(&m->nodes[i]);
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

void qn_memfs_limit(qn_memfs *m, uint64_t n_bytes)
{
    m->limit = qn_max_u64(n_bytes, m->used);
}

static int put_file(struct qn_memfs *m, const char *path, const void *data, size_t n)
{
    const int fd = mem_open(m, path, QN_OPEN_NEW);
    if (fd < 0)
        return fd;
    const ssize_t w = n ? mem_pwrite(m, fd, data, n, 0) : 0;
    const int s = w == (ssize_t)n ? mem_sync(m, fd) : w < 0 ? (int)w : -ENOSPC;
    (void)mem_close(m, fd);
    for (uint64_t i = 0; i < m->n_log; i++)
        if (!apply(&m->safe, &m->log[i]))
            return -ENOMEM;
    m->n_log = 0;
    return s;
}

int qn_memfs_put(qn_memfs *m, const char *path, const void *data, size_t n)
{
    char part[1024];
    (void)mem_unlink(m, path);
    for (size_t i = 1; path[i] && i < sizeof part; i++) {
        if (path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        const int r = mem_mkdir(m, part);
        if (r < 0 && r != -EEXIST)
            return r;
    }
    return put_file(m, path, data, n);
}

const uint8_t *qn_memfs_get(qn_memfs *m, const char *path, size_t *n)
{
    struct row at;
    if (look_up(m, path, &at) < 0 || at.node == NONE || m->nodes[at.node].is_dir)
        return NULL;
    const struct bytes *b = &m->nodes[at.node].now;
    *n = (size_t)b->n;
    return b->p ? b->p : (const uint8_t *)"";
}

uint64_t qn_memfs_n_open(qn_memfs *m)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->n_handles; i++)
        n += m->handles[i] != NONE;
    return n;
}

struct tree {
    struct qn_memfs *m;
    char *text;
    uint64_t n, cap;
    char path[1024];
};

static int tree_entry(void *ctx, const char *name)
{
    struct tree *t = ctx;
    const size_t above = strlen(t->path), len = strlen(name);
    if (above + len + 2 > sizeof t->path)
        return -ENAMETOOLONG;
    if (above)
        t->path[above] = '/';
    memcpy(t->path + above + (above > 0), name, len + 1);
    const size_t n = strlen(t->path);
    if (!grow(&t->text, &t->cap, t->n + n + 2, 1))
        return -ENOMEM;
    memcpy(t->text + t->n, t->path, n);
    memcpy(t->text + t->n + n, "\n", 2);
    t->n += n + 1;
    struct row at;
    const int found = look_up(t->m, t->path, &at);
    const int r = found == 0 && t->m->nodes[at.node].is_dir ? do_list(t->m, t->path, tree_entry, t) : found;
    t->path[above] = '\0';
    return r;
}

char *qn_memfs_tree(qn_memfs *m)
{
    struct tree t = {.m = m};
    if (do_list(m, "", tree_entry, &t) < 0) {
        free(t.text);
        return NULL;
    }
    return t.text ? t.text : calloc(1, 1);
}

void qn_memfs_kill(qn_memfs *m)
{
    for (uint64_t i = 0; i < m->n_nodes; i++)
        m->nodes[i].locked_by = NONE;
    m->n_handles = 0;
}

/* ---- the power switch ---- */

static uint64_t draw(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void torn_write(struct bytes *b, const struct change *c, uint64_t *seed)
{
    for (uint64_t at = 0; at < c->n;) {
        const uint64_t n = qn_min_u64(c->n - at, SECTOR - (c->off + at) % SECTOR);
        const uint64_t fate = draw(seed) % 3;
        uint8_t junk[SECTOR];
        for (uint64_t i = 0; i < n; i++)
            junk[i] = (uint8_t)draw(seed);
        if (fate > 0)
            (void)put_bytes(b, fate == 1 ? c->data + at : junk, n, c->off + at);
        at += n;
    }
}

static void cut_file(struct node *f, uint64_t *seed)
{
    for (const struct change *c = f->first; c; c = c->next) {
        const uint64_t fate = draw(seed) % 3;
        if (fate == 0)
            continue;
        if (!c->data)
            (void)resize(&f->safe, c->off);
        else if (fate == 1)
            (void)put_bytes(&f->safe, c->data, c->n, c->off);
        else
            torn_write(&f->safe, c, seed);
    }
    forget_changes(f);
    (void)resize(&f->now, f->safe.n);
    if (f->safe.n)
        memcpy(f->now.p, f->safe.p, (size_t)f->safe.n);
}

void qn_memfs_cut(qn_memfs *m, uint64_t seed)
{
    qn_memfs_kill(m);
    for (uint64_t i = 0; i < m->n_nodes; i++)
        if (!m->nodes[i].is_dir)
            cut_file(&m->nodes[i], &seed);
    for (uint64_t i = 0; i < m->n_log; i++)
        if (m->log[i].safe || draw(&seed) % 2)
            (void)apply(&m->safe, &m->log[i]);
    m->n_log = 0;
    m->now.n = 0;
    m->used = 0;
    for (uint64_t i = 0; i < m->safe.n; i++) {
        (void)add_row(&m->now, &m->safe.rows[i]);
        m->used += m->nodes[m->safe.rows[i].node].now.n;
    }
}
