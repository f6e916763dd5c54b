/* io_mem_cut.c: what tests do to a memory file system from outside: put files, look at it, kill its user, cut the power. */
#include "base/io_mem_impl.h"
#include "base/num.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR_BYTES = 64 };

void qn_memfs_limit(qn_memfs *m, uint64_t n_bytes)
{
    m->limit = qn_max_u64(n_bytes, m->used);
}

static int put_file(struct qn_memfs *m, const char *path, const void *data, size_t n)
{
    const int fd = m->fs.open(m, path, QN_OPEN_NEW);
    if (fd < 0)
        return fd;
    const ssize_t w = n ? m->fs.pwrite(m, fd, data, n, 0) : 0;
    const int s = w == (ssize_t)n ? m->fs.sync(m, fd) : w < 0 ? (int)w : -ENOSPC;
    (void)m->fs.close(m, fd);
    for (uint64_t i = 0; i < m->n_log; i++)
        if (!qn_memfs_apply(&m->safe, &m->log[i]))
            return -ENOMEM;
    m->n_log = 0;
    return s;
}

int qn_memfs_put(qn_memfs *m, const char *path, const void *data, size_t n)
{
    char part[1024];
    (void)m->fs.unlink(m, path);
    for (size_t i = 1; path[i] && i < sizeof part; i++) {
        if (path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        const int r = m->fs.mkdir(m, part);
        if (r < 0 && r != -EEXIST)
            return r;
    }
    return put_file(m, path, data, n);
}

const uint8_t *qn_memfs_get(qn_memfs *m, const char *path, size_t *n)
{
    struct qn_memfs_row at;
    if (qn_memfs_look_up(m, path, &at) < 0 || at.node == QN_MEMFS_NONE || m->nodes[at.node].is_dir)
        return NULL;
    const struct qn_memfs_bytes *b = &m->nodes[at.node].now;
    *n = (size_t)b->n;
    return b->p ? b->p : (const uint8_t *)"";
}

uint64_t qn_memfs_n_open(qn_memfs *m)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->n_handles; i++)
        n += m->handles[i] != QN_MEMFS_NONE;
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
    if (!qn_memfs_grow(&t->text, &t->cap, t->n + n + 2, 1))
        return -ENOMEM;
    memcpy(t->text + t->n, t->path, n);
    memcpy(t->text + t->n + n, "\n", 2);
    t->n += n + 1;
    struct qn_memfs_row at;
    const int found = qn_memfs_look_up(t->m, t->path, &at);
    const int r = found == 0 && t->m->nodes[at.node].is_dir ? qn_memfs_list(t->m, t->path, tree_entry, t) : found;
    t->path[above] = '\0';
    return r;
}

char *qn_memfs_tree(qn_memfs *m)
{
    struct tree t = {.m = m};
    if (qn_memfs_list(m, "", tree_entry, &t) < 0) {
        free(t.text);
        return NULL;
    }
    return t.text ? t.text : calloc(1, 1);
}

void qn_memfs_kill(qn_memfs *m)
{
    for (uint64_t i = 0; i < m->n_nodes; i++)
        m->nodes[i].locked_by = QN_MEMFS_NONE;
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

static void torn_write(struct qn_memfs_bytes *b, const struct qn_memfs_change *c, uint64_t *seed)
{
    for (uint64_t at = 0; at < c->n;) {
        const uint64_t n = qn_min_u64(c->n - at, SECTOR_BYTES - (c->off + at) % SECTOR_BYTES);
        const uint64_t fate = draw(seed) % 3;
        uint8_t junk[SECTOR_BYTES];
        for (uint64_t i = 0; i < n; i++)
            junk[i] = (uint8_t)draw(seed);
        if (fate > 0)
            (void)qn_memfs_put_bytes(b, fate == 1 ? c->data + at : junk, n, c->off + at);
        at += n;
    }
}

static void cut_file(struct qn_memfs_node *f, uint64_t *seed)
{
    for (const struct qn_memfs_change *c = f->first; c; c = c->next) {
        const uint64_t fate = draw(seed) % 3;
        if (fate == 0)
            continue;
        if (!c->data)
            (void)qn_memfs_resize(&f->safe, c->off);
        else if (fate == 1)
            (void)qn_memfs_put_bytes(&f->safe, c->data, c->n, c->off);
        else
            torn_write(&f->safe, c, seed);
    }
    qn_memfs_forget(f);
    (void)qn_memfs_resize(&f->now, f->safe.n);
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
            (void)qn_memfs_apply(&m->safe, &m->log[i]);
    m->n_log = 0;
    m->now.n = 0;
    m->used = 0;
    for (uint64_t i = 0; i < m->safe.n; i++) {
        (void)qn_memfs_add_row(&m->now, &m->safe.rows[i]);
        m->used += m->nodes[m->safe.rows[i].node].now.n;
    }
}
