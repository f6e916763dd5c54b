/* path.c: see path.h. */
#include "base/path.h"
#include <string.h>

enum { PATH_BYTES_MAX = 1024, PATH_COMPONENTS_MAX = 16 };

/* Length of the valid UTF-8 sequence at p (n bytes left), 0 if there is none. RFC 3629, table 3-7 of Unicode. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
    static const struct {
        unsigned char first_lo, first_hi, second_lo, second_hi, len;
    } rows[] = {
        {0x00, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        if (p[0] < rows[r].first_lo || p[0] > rows[r].first_hi)
            continue;
        const size_t len = rows[r].len;
        if (len > n || (len > 1 && (p[1] < rows[r].second_lo || p[1] > rows[r].second_hi)))
            return 0;
        for (size_t i = 2; i < len; i++)
            if ((p[i] & 0xc0) != 0x80)
                return 0;
        return len;
    }
    return 0;
}

bool qn_utf8_is_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        const size_t len = utf8_len((const unsigned char *)p + i, n - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

bool qn_path_is_safe(const char *p, size_t n)
{
    if (n == 0 || n > PATH_BYTES_MAX || !qn_utf8_is_valid(p, n))
        return false;
    size_t begin = 0;
    unsigned components = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i < n && p[i] != '/') {
            const unsigned char c = (unsigned char)p[i];
            if (c < 0x20 || c == 0x7f || c == '\\')
                return false;
            continue;
        }
        const size_t len = i - begin;
        if (len == 0 || (len == 1 && p[begin] == '.') || (len == 2 && p[begin] == '.' && p[begin + 1] == '.'))
            return false;
        if (++components > PATH_COMPONENTS_MAX)
            return false;
        begin = i + 1;
    }
    return true;
}

char *qn_path_cat(const qn_alloc *alloc, const char *a, const char *b, qn_err *err)
{
    const size_t na = strlen(a), nb = strlen(b);
    char *p = qn_mem_get(alloc, (uint64_t)na + nb + 1, err);
    if (p) {
        memcpy(p, a, na);
        memcpy(p + na, b, nb + 1);
    }
    return p;
}

char *qn_path_join(const qn_alloc *alloc, const char *dir, const char *name, qn_err *err)
{
    const size_t nd = strlen(dir), nn = strlen(name);
    const bool slash = nd > 0 && dir[nd - 1] != '/';
    char *p = qn_mem_get(alloc, (uint64_t)nd + slash + nn + 1, err);
    if (p) {
        memcpy(p, dir, nd);
        if (slash)
            p[nd] = '/';
        memcpy(p + nd + slash, name, nn + 1);
    }
    return p;
}

char *qn_path_dir(const qn_alloc *alloc, const char *path, qn_err *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *p = qn_mem_get(alloc, (n ? (uint64_t)n : 1) + 1, err);
    if (p) {
        memcpy(p, n ? path : ".", n ? n : 1);
        p[n ? n : 1] = '\0';
    }
    return p;
}

bool qn_text_ends(const char *s, const char *tail)
{
    const size_t n = strlen(s), t = strlen(tail);
    return n >= t && strcmp(s + n - t, tail) == 0;
}

char *qn_path_last(const qn_alloc *alloc, const char *path, qn_err *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t at = n;
    while (at > 0 && path[at - 1] != '/')
        at--;
    char *last = qn_mem_get(alloc, n - at + 1, err);
    if (!last)
        return NULL;
    memcpy(last, path + at, n - at);
    last[n - at] = 0;
    return last;
}
