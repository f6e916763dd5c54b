/* proto.c: see proto.h. */
#include "tests/support/proto.h"
#include "base/num.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void add_varint(qt_buf *b, uint64_t v)
{
    uint8_t p[10];
    qt_add(b, p, qn_put_varint(p, v));
}

static const char *add_content(qt_buf *b, const char *s, char end, uint64_t *mark);

static const char *add_block(qt_buf *b, const char *s, uint64_t *mark)
{
    qt_buf inner = {0};
    uint64_t at = UINT64_MAX;
    s = add_content(&inner, s, '}', &at);
    add_varint(b, inner.n);
    if (at != UINT64_MAX)
        *mark = b->n + at;
    qt_add(b, inner.p, inner.n);
    qt_buf_free(&inner);
    return s;
}

static const char *add_field(qt_buf *b, const char *s, uint64_t *mark)
{
    char *next;
    const char kind = *s;
    const uint64_t number = strtoull(s + 1, &next, 10);
    add_varint(b, number << 3 | (kind == '#' ? 0 : kind == '@' ? 2 : kind == '%' ? 5 : 1));
    if (kind == '@')
        return add_block(b, next + 1, mark);
    const uint64_t v = next[1] == '-' ? (uint64_t)strtoll(next + 1, &next, 10) : strtoull(next + 1, &next, 10);
    uint8_t p[8];
    qn_store64(p, v);
    if (kind == '#')
        add_varint(b, v);
    else
        qt_add(b, p, kind == '%' ? 4 : 8);
    return next;
}

static const char *add_content(qt_buf *b, const char *s, char end, uint64_t *mark)
{
    while (*s && *s != end) {
        char *next;
        if (*s == ' ') {
            s++;
        } else if (*s == '^') {
            *mark = b->n;
            s++;
        } else if (strchr("#@%&", *s)) {
            s = add_field(b, s, mark);
        } else if (*s == '{') {
            s = add_block(b, s + 1, mark);
        } else if (*s == '\'') {
            const char *close = strchr(s + 1, '\'');
            qt_add(b, s + 1, (size_t)(close - s - 1));
            s = close + 1;
        } else if (*s == 'z') {
            qt_add_zeros(b, strtoul(s + 1, &next, 10));
            s = next;
        } else if (*s == 'r') {
            unsigned long n = strtoul(s + 1, &next, 10);
            while (n--)
                s = add_content(b, next + 1, ')', mark);
        } else if (isxdigit((unsigned char)s[0]) && isxdigit((unsigned char)s[1])) {
            const char hex[3] = {s[0], s[1], 0};
            const uint8_t v = (uint8_t)strtoul(hex, NULL, 16);
            qt_add(b, &v, 1);
            s += 2;
        } else {
            fprintf(stderr, "proto text: '%s'\n", s);
            abort();
        }
    }
    return *s ? s + 1 : s;
}

void qt_add_proto(qt_buf *b, const char *text, uint64_t *mark)
{
    uint64_t none;
    (void)add_content(b, text, '\0', mark ? mark : &none);
    qt_add(b, "", 0); /* so that there is a buffer */
}
