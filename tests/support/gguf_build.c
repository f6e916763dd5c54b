/* gguf_build.c: see gguf_build.h. */
#include "tests/support/gguf_build.h"
#include "base/num.h"
#include <stdlib.h>
#include <string.h>

static void add_number(qt_buf *b, uint64_t v, size_t n)
{
    uint8_t p[8];
    qn_store64(p, v);
    qt_add(b, p, n);
}

static const char *add_text(qt_buf *b, const char *at, bool length)
{
    const char *end = strchr(at + 1, *at);
    const size_t n = (size_t)(end - at - 1);
    if (length)
        add_number(b, n, 8);
    qt_add(b, at + 1, n);
    return end + 1;
}

static const char *add_item(qt_buf *b, const char *at, uint64_t *mark)
{
    char *end;
    const char kind = *at;
    if (kind == '"' || kind == '\'')
        return add_text(b, at, kind == '"');
    if (strncmp(at, "GGUF", 4) == 0) {
        qt_add(b, at, 4);
        return at + 4;
    }
    if (kind == '^') {
        *mark = b->n;
        return at + 1;
    }
    if (kind == '|') {
        qt_add_zeros(b, -b->n & 31);
        return at + 1;
    }
    const uint64_t v = strtoull(at + 1, &end, 0);
    if (kind == 'z')
        qt_add_zeros(b, (size_t)v);
    else if (kind == 'd')
        for (uint64_t i = 1; i <= v; i++)
            add_number(b, i, 1);
    else
        add_number(b, v, kind == 'q' ? 8 : kind == 'i' ? 4 : kind == 'h' ? 2 : 1);
    return end;
}

void qt_add_gguf(qt_buf *b, const char *text, uint64_t *mark)
{
    while (*text)
        text = *text == ' ' ? text + 1 : add_item(b, text, mark);
}
