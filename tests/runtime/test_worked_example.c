/* test_worked_example.c: makes the file that docs/format.md explains, walks it field by field along the specification (not
 * with the reader's code), and compares the labelled dump with the document. QUERN_PRINT=1 prints the dump. */
#define _GNU_SOURCE
#include "base/num.h"
#include "quern/quern.h"
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

struct dump {
    char text[8192];
    size_t n;
    const uint8_t *p;
    size_t at, n_bytes;
};

/* The next n bytes, sixteen a line, labelled on the first. */
static const uint8_t *show(struct dump *d, size_t n, const char *label, ...) __attribute__((format(printf, 3, 4)));
static const uint8_t *show(struct dump *d, size_t n, const char *label, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, label);
    vsnprintf(text, sizeof text, label, ap);
    va_end(ap);
    cr_assert_leq(n, d->n_bytes - d->at, "%s reaches past the end", text);
    for (size_t i = 0; i < n; i += 16) {
        char hex[64] = "";
        for (size_t k = i; k < n && k < i + 16; k++)
            snprintf(hex + 3 * (k - i), sizeof hex - 3 * (k - i), " %02x", d->p[d->at + k]);
        d->n += (size_t)snprintf(d->text + d->n, sizeof d->text - d->n, i ? "%04zx %s\n" : "%04zx %-48s  %s\n", d->at + i,
                                 hex, text);
    }
    d->at += n;
    return d->p + d->at - n;
}

static uint64_t varint(struct dump *d, const char *label)
{
    uint64_t v = 0;
    size_t n = 0;
    do
        v |= (uint64_t)(d->p[d->at + n] & 0x7f) << (7 * n);
    while (d->p[d->at + n++] & 0x80);
    show(d, n, "%s: %llu", label, (unsigned long long)v);
    return v;
}

static void string(struct dump *d, const char *label)
{
    const uint64_t n = d->p[d->at];
    cr_assert_lt(n, 0x80);
    show(d, 1 + n, "%s: \"%.*s\"", label, (int)n, (const char *)d->p + d->at + 1);
}

static void walk_index(struct dump *d, uint32_t *stored, unsigned *n_chunks)
{
    show(d, 1, "flags: 0x%02x", d->p[d->at]);
    for (uint64_t n = varint(d, "properties"); n > 0; n--) {
        string(d, "  key");
        string(d, "  value");
    }
    cr_assert_eq(varint(d, "files"), 1);
    string(d, "  path");
    const uint64_t objects = varint(d, "  objects");
    const uint64_t chunks = varint(d, "chunk records");
    for (uint64_t i = 0; i < objects; i++) {
        const unsigned kind = d->p[d->at];
        show(d, 1, "object %llu: kind 0x%02x, %s of dtype %u", (unsigned long long)i, kind, kind >> 7 ? "a tensor" : "a blob",
             kind & 0x7f);
        if (kind >> 7) {
            string(d, "  name");
            for (unsigned rank = show(d, 1, "  rank: %u", d->p[d->at])[0]; rank > 0; rank--)
                varint(d, "  dimension");
        } else {
            varint(d, "  length");
        }
        show(d, 16, "  digest");
        varint(d, "  chunk units");
        stored[*n_chunks] = (uint32_t)(varint(d, "  chunk tag (stored bytes × 2)") / 2);
        show(d, 1, "  codec: %u", d->p[d->at]);
        show(d, 8, "  hash64 of the payload");
        ++*n_chunks;
    }
    cr_assert_eq(*n_chunks, chunks);
}

static void walk(struct dump *d)
{
    const uint8_t *foot = d->p + d->n_bytes - 64, *p;
    const uint64_t index_off = qn_load64(foot), stored_bytes = qn_load64(foot + 8), plain_bytes = qn_load64(foot + 16);
    static uint8_t plain[4096];
    uint32_t stored[8];
    unsigned n_chunks = 0;
    static struct dump index;
    const bool zstd = foot[48] & 1;
    index = (struct dump){.p = d->p + index_off, .n_bytes = stored_bytes};
    if (zstd) {
        cr_assert_eq(ZSTD_decompress(plain, sizeof plain, index.p, stored_bytes), plain_bytes);
        index.p = plain;
        index.n_bytes = plain_bytes;
    }
    walk_index(&index, stored, &n_chunks);
    cr_assert_eq(index.at, plain_bytes);
    show(d, 8, "header: magic");
    show(d, 4, "major and minor version");
    show(d, 44, "zeros");
    p = show(d, 8, "hash64 of the 56 bytes before");
    cr_assert_eq(qn_load64(p), XXH3_64bits(d->p, 56));
    for (unsigned i = 0; i < n_chunks; i++) {
        const size_t align = stored[i] >= 4096 ? 64 : 8, pad = (align - d->at % align) % align;
        if (pad)
            show(d, pad, "padding");
        show(d, stored[i], "payload %u", i);
    }
    show(d, index_off - d->at, "padding");
    const size_t before = d->n;
    show(d, stored_bytes, zstd ? "index, a zstd frame" : "index");
    if (!zstd) /* its fields stand below */
        d->n = before + (size_t)snprintf(d->text + before, sizeof d->text - before, "%04zx  … %llu bytes: index, below\n",
                                         (size_t)index_off, (unsigned long long)stored_bytes);
    show(d, d->n_bytes - 64 - d->at, "padding");
    show(d, 8, "footer: position of the index: %llu", (unsigned long long)index_off);
    show(d, 8, "stored length of the index: %llu", (unsigned long long)stored_bytes);
    show(d, 8, "length of the index: %llu", (unsigned long long)plain_bytes);
    cr_assert_eq(qn_load64(show(d, 8, "length of the file: %zu", d->n_bytes)), d->n_bytes);
    show(d, 16, "digest of the stored index");
    show(d, 8, "flags and zeros");
    cr_assert_eq(qn_load64(show(d, 8, "hash64 of the 56 bytes before")), XXH3_64bits(foot, 56));
    snprintf(d->text + d->n, sizeof d->text - d->n, "\nThe index%s, from its own byte 0:\n\n%s", zstd ? ", decompressed" : "",
             index.text);
}

static void put_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

static size_t get_file(const char *path, char *p, size_t cap)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    const size_t n = fread(p, 1, cap - 1, f);
    fclose(f);
    p[n] = '\0';
    return n;
}

Test(format, worked_example_is_what_the_document_shows)
{
    static const char head[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}";
    static uint8_t file[8 + sizeof head - 1 + 16], packed[65536];
    static const float w[4] = {1, 2, 3, 4};
    static char doc[1 << 16];
    static struct dump d;
    char dir[] = "/tmp/quern-example-XXXXXX", in[64], out[64];
    qn_pack_settings set = QN_PACK_SETTINGS_INIT;
    qn_err err = {0};
    qn_store64(file, sizeof head - 1);
    memcpy(file + 8, head, sizeof head - 1);
    memcpy(file + 8 + sizeof head - 1, w, 16);
    cr_assert(mkdtemp(dir));
    snprintf(in, sizeof in, "%s/w.safetensors", dir);
    snprintf(out, sizeof out, "%s/w.quern", dir);
    put_file(in, file, sizeof file);
    set.level = QN_PACK_FAST;
    cr_assert_eq(qn_pack_file(in, out, &set, NULL, &err), QN_OK, "%s", err.text);
    d.p = packed;
    d.n_bytes = get_file(out, (char *)packed, sizeof packed);
    walk(&d);
    unlink(in);
    unlink(out);
    rmdir(dir);
    if (getenv("QUERN_PRINT"))
        fputs(d.text, stderr);
    get_file(QT_SOURCE_ROOT "/docs/format.md", doc, sizeof doc);
    cr_assert(strstr(doc, d.text), "docs/format.md shows another dump: run with QUERN_PRINT=1 and paste it");
}
