/* quern_build.c: see quern_build.h. */
#include "tests/support/quern_build.h"
#include "base/num.h"
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static void add_byte(qt_buf *b, unsigned v)
{
    const uint8_t c = (uint8_t)v;
    qt_add(b, &c, 1);
}

static void add_varint(qt_buf *b, uint64_t v)
{
    uint8_t p[10];
    qt_add(b, p, qn_put_varint(p, v));
}

static void add_word(qt_buf *b, const char *w, size_t n, uint64_t *mark)
{
    char arg[8192];
    if (n == 0 || n >= sizeof arg)
        abort();
    memcpy(arg, w + 1, n - 1);
    arg[n - 1] = '\0';
    const uint64_t v = strtoull(arg, NULL, 0);
    uint8_t h[8];
    static const uint8_t zeros[4096];
    switch (w[0]) {
    case 'b':
        add_byte(b, (unsigned)v);
        break;
    case 'v':
        add_varint(b, v);
        break;
    case 's':
        add_varint(b, n - 1);
        qt_add(b, arg, n - 1);
        break;
    case 't':
        qt_add(b, arg, n - 1);
        break;
    case 'z':
        qt_add_zeros(b, (size_t)v);
        break;
    case 'f':
        for (uint64_t i = 0; i < v; i++)
            add_byte(b, 0xff);
        break;
    case 'H':
        qn_store64(h, qn_hash64(zeros, (size_t)v));
        qt_add(b, h, 8);
        break;
    case '^':
        *mark = b->n;
        break;
    case '|':
        break;
    default:
        abort();
    }
}

void qt_index_words(qt_buf *b, const char *words, uint64_t *mark)
{
    while (*words) {
        const size_t n = strcspn(words, " ");
        if (n)
            add_word(b, words, n, mark);
        words += n + (words[n] == ' ');
    }
}

static void pad64(qt_buf *b)
{
    qt_add_zeros(b, (64 - b->n % 64) % 64);
}

uint64_t qt_quern_file(qt_buf *b, size_t n_payload, const uint8_t *index, size_t n_index, bool zstd)
{
    uint8_t h[64] = {0}, f[64] = {0};
    memcpy(h, QN_MAGIC, 8);
    qn_store16(h + 8, QN_FORMAT_MAJOR);
    qn_store64(h + 56, qn_hash64(h, 56));
    qt_add(b, h, 64);
    qt_add_zeros(b, n_payload);
    pad64(b);
    const uint64_t at = b->n;
    if (zstd) {
        const size_t cap = ZSTD_compressBound(n_index);
        void *p = malloc(cap);
        const size_t n = p ? ZSTD_compress(p, cap, index, n_index, 3) : 0;
        qt_add(b, p, n);
        free(p);
    } else {
        qt_add(b, index, n_index);
    }
    const uint64_t stored = b->n - at;
    pad64(b);
    qn_store64(f, at);
    qn_store64(f + 8, stored);
    qn_store64(f + 16, n_index);
    qn_store64(f + 24, b->n + 64);
    qn_store32(f + 48, zstd ? QN_FOOTER_ZSTD : 0);
    qt_add(b, f, 64);
    qt_quern_reseal(b, 7);
    return at;
}

void qt_quern_reseal(qt_buf *b, unsigned which)
{
    uint8_t *f = b->p + b->n - 64;
    if (which & 1)
        qn_store64(b->p + 56, qn_hash64(b->p, 56));
    if (which & 2) {
        const qn_digest d = qn_hash128(b->p + qn_load64(f), (size_t)qn_load64(f + 8));
        memcpy(f + 32, d.b, 16);
    }
    if (which & 4)
        qn_store64(f + 56, qn_hash64(f, 56));
}
