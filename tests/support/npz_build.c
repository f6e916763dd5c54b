/* npz_build.c: see npz_build.h. */
#include "tests/support/npz_build.h"
#include "base/num.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

void qt_add_npy(qt_buf *b, const char *dict, size_t n_data)
{
    const size_t total = (10 + strlen(dict) + 1 + 63) / 64 * 64, at = b->n;
    uint8_t len[2];
    qn_store16(len, (uint16_t)(total - 10));
    qt_add(b, "\x93NUMPY\1\0", 8);
    qt_add(b, len, 2);
    qt_addf(b, "%s", dict);
    while (b->n - at < total - 1)
        qt_add(b, " ", 1);
    qt_add(b, "\n", 1);
    for (size_t i = 0; i < n_data; i++) {
        const uint8_t v = (uint8_t)i;
        qt_add(b, &v, 1);
    }
}

static size_t deflate_all(const void *p, size_t n, uint8_t **out)
{
    z_stream z = {0};
    const size_t room = n + n / 8 + 256;
    *out = malloc(room);
    if (!*out || deflateInit2(&z, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort();
    z.next_in = (Bytef *)(uintptr_t)p;
    z.avail_in = (uInt)n;
    z.next_out = *out;
    z.avail_out = (uInt)room;
    if (deflate(&z, Z_FINISH) != Z_STREAM_END)
        abort();
    const size_t n_out = z.total_out;
    deflateEnd(&z);
    return n_out;
}

/* From "version needed" to the lengths: the part that both headers share. */
static void common(uint8_t h[26], bool deflate, uint32_t crc, size_t n_packed, uint32_t n, const char *name)
{
    memset(h, 0, 26);
    qn_store16(h, 20);
    qn_store16(h + 4, deflate ? 8 : 0);
    qn_store16(h + 8, 0x21); /* 1 January 1980 */
    qn_store32(h + 10, crc);
    qn_store32(h + 14, (uint32_t)n_packed);
    qn_store32(h + 18, n);
    qn_store16(h + 22, (uint16_t)strlen(name));
}

size_t qt_npz_add_as(qt_npz *z, const char *name, const void *p, size_t n, bool deflate, uint32_t n_declared, uint32_t crc_xor)
{
    uint8_t *packed = NULL, h[26];
    const size_t n_packed = deflate ? deflate_all(p, n, &packed) : n, at = z->file.n;
    const uint32_t crc = (uint32_t)crc32(0, p, (uInt)n) ^ crc_xor;
    common(h, deflate, crc, n_packed, n_declared, name);
    qt_add(&z->file, "PK\3\4", 4);
    qt_add(&z->file, h, sizeof h);
    qt_add(&z->file, name, strlen(name));
    qt_add(&z->file, deflate ? packed : p, n_packed);
    free(packed);
    uint8_t rest[14] = {0};
    qn_store32(rest + 10, (uint32_t)at);
    qt_add(&z->central, "PK\1\2\x14\0", 6);
    qt_add(&z->central, h, sizeof h);
    qt_add(&z->central, rest, sizeof rest);
    qt_add(&z->central, name, strlen(name));
    z->n++;
    return at;
}

size_t qt_npz_add(qt_npz *z, const char *name, const void *p, size_t n, bool deflate)
{
    return qt_npz_add_as(z, name, p, n, deflate, (uint32_t)n, 0);
}

void qt_npz_end(qt_npz *z)
{
    uint8_t end[22] = {'P', 'K', 5, 6};
    qn_store16(end + 8, (uint16_t)z->n);
    qn_store16(end + 10, (uint16_t)z->n);
    qn_store32(end + 12, (uint32_t)z->central.n);
    qn_store32(end + 16, (uint32_t)z->file.n);
    qt_add(&z->file, z->central.p, z->central.n);
    qt_add(&z->file, end, sizeof end);
}

void qt_npz_free(qt_npz *z)
{
    qt_buf_free(&z->file);
    qt_buf_free(&z->central);
    z->n = 0;
}
