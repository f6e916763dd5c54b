/* members.c: see members.h. */
#include "formats/archive/members.h"
#include "base/err.h"
#include "base/path.h"
#include <stdlib.h>
#include <string.h>

void qn_members_init(qn_members *m, const qn_alloc *alloc)
{
    *m = (qn_members){.alloc = alloc};
    qn_arena_init(&m->arena, alloc);
}

void qn_members_release(qn_members *m)
{
    qn_mem_put(m->alloc, m->items);
    qn_arena_release(&m->arena);
    m->items = NULL;
    m->n = 0;
}

static bool is_apple_double(const char *p, size_t n)
{
    static const char top[] = "__MACOSX/";
    size_t base = n;
    while (base > 0 && p[base - 1] != '/')
        base--;
    return (n >= sizeof top - 1 && memcmp(p, top, sizeof top - 1) == 0) || (n - base > 2 && p[base] == '.' && p[base + 1] == '_');
}

qn_code qn_members_add(qn_members *m, const char *name, size_t n, bool is_dir, const qn_member *where, uint64_t at, qn_err *err)
{
    char shown[128];
    qn_printable(shown, sizeof shown, name, n);
    while (n >= 2 && name[0] == '.' && name[1] == '/') {
        name += 2;
        n -= 2;
    }
    if (is_dir && n > 0 && name[n - 1] == '/')
        n--;
    if (is_dir && (n == 0 || (n == 1 && name[0] == '.')))
        return QN_OK; /* the folder that was packed */
    if (!qn_path_is_safe(name, n))
        return QN_FAIL(err, QN_E_INPUT, at, "member '%s': a relative path of UTF-8 without '..' is expected", shown);
    if (is_apple_double(name, n)) {
        m->n_left_out += !is_dir;
        return QN_OK;
    }
    if (is_dir)
        return QN_OK;
    if (m->n == QN_MEMBERS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, at, "more than %d files in an archive", QN_MEMBERS_MAX);
    qn_member *p = qn_mem_grow(m->alloc, m->items, m->n, &m->cap, m->n + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    m->items = p;
    p[m->n] = *where;
    p[m->n].path = qn_arena_str(&m->arena, name, n, err);
    if (!p[m->n].path)
        return QN_E_MEMORY;
    m->n++;
    return QN_OK;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const qn_member *)a)->path, ((const qn_member *)b)->path);
}

static int compare(const char *path, const char *p, size_t n)
{
    const int c = strncmp(path, p, n); /* p has no NUL inside */
    return c ? c : path[n] != '\0';
}

uint64_t qn_members_lower(const qn_members *m, const char *path, size_t n)
{
    uint64_t lo = 0, hi = m->n;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (compare(m->items[mid].path, path, n) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const qn_member *qn_members_find(const qn_members *m, const char *path, size_t n)
{
    const uint64_t i = qn_members_lower(m, path, n);
    return i < m->n && compare(m->items[i].path, path, n) == 0 ? &m->items[i] : NULL;
}

qn_code qn_members_seal(qn_members *m, qn_err *err)
{
    char shown[128];
    if (m->n)
        qsort(m->items, (size_t)m->n, sizeof *m->items, by_path);
    for (uint64_t i = 0; i < m->n; i++) {
        const char *path = m->items[i].path;
        qn_printable(shown, sizeof shown, path, strlen(path));
        if (i > 0 && strcmp(m->items[i - 1].path, path) == 0)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "two members are named '%s'", shown);
        for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/'))
            if (qn_members_find(m, path, (size_t)(slash - path)))
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "member '%s' lies below a member that is a file", shown);
    }
    return QN_OK;
}
