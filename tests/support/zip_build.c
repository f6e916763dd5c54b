/* zip_build.c: see zip_build.h. */
#include "tests/support/zip_build.h"
#include "base/num.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void u16(qt_buf *b, unsigned v)
{
    uint8_t p[2];
    qn_store16(p, (uint16_t)v);
    qt_add(b, p, 2);
}

static void u32(qt_buf *b, uint64_t v)
{
    uint8_t p[4];
    qn_store32(p, (uint32_t)v);
    qt_add(b, p, 4);
}

static void u64(qt_buf *b, uint64_t v)
{
    uint8_t p[8];
    qn_store64(p, v);
    qt_add(b, p, 8);
}

static size_t pack(const void *data, size_t n, uint8_t **out)
{
    z_stream z = {0};
    const size_t room = n + 1024;
    *out = malloc(room);
    if (!*out || deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort();
    union {
        const void *c;
        Bytef *p;
    } in = {.c = data};
    z.next_in = in.p;
    z.avail_in = (uInt)n;
    z.next_out = *out;
    z.avail_out = (uInt)room;
    if (deflate(&z, Z_FINISH) != Z_STREAM_END)
        abort();
    deflateEnd(&z);
    return room - z.avail_out;
}

static void fields(qt_zip *z, size_t i, bool local)
{
    qt_buf *b = &z->file;
    const unsigned how = z->e[i].how;
    const bool later = local && (how & QT_ZIP_DESCRIPTOR), wide = how & QT_ZIP_WIDE;
    u16(b, how & QT_ZIP_DESCRIPTOR ? 0x0808 : 0x0800);
    u16(b, how & QT_ZIP_DEFLATE ? 8 : 0);
    u32(b, 0x5a210000);
    u32(b, later ? 0 : z->e[i].crc);
    u32(b, later ? 0 : wide ? UINT32_MAX : z->e[i].n_packed);
    u32(b, later ? 0 : wide ? UINT32_MAX : z->e[i].n_bytes);
    u16(b, (unsigned)strlen(z->e[i].name));
}

void qt_zip_add(qt_zip *z, const char *name, const void *data, size_t n, unsigned how)
{
    qt_buf *b = &z->file;
    uint8_t *packed = NULL;
    const size_t i = z->n++;
    if (i == QT_ZIP_MAX)
        abort();
    z->e[i].name = name;
    z->e[i].local = b->n;
    z->e[i].how = how;
    z->e[i].n_bytes = n;
    z->e[i].n_packed = how & QT_ZIP_DEFLATE ? pack(data, n, &packed) : n;
    z->e[i].crc = (uint32_t)crc32(0, data, (uInt)n);
    u32(b, 0x04034b50);
    u16(b, how & QT_ZIP_WIDE ? 45 : 20);
    fields(z, i, true);
    const bool local_wide = (how & QT_ZIP_WIDE) && !(how & QT_ZIP_DESCRIPTOR);
    const size_t n_wide = local_wide ? 20 : 0, at = b->n + 2 + strlen(name) + n_wide;
    const size_t pad = how & QT_ZIP_ALIGN ? 4 + (64 - (at + 4) % 64) % 64 : 0;
    u16(b, (unsigned)(n_wide + pad));
    qt_add(b, name, strlen(name));
    if (local_wide) {
        u32(b, 16 << 16 | 1);
        u64(b, n);
        u64(b, z->e[i].n_packed);
    }
    if (pad) {
        u16(b, 0x4246);
        u16(b, (unsigned)pad - 4);
        for (size_t k = 4; k < pad; k++)
            qt_add(b, "Z", 1);
    }
    z->e[i].data = b->n;
    qt_add(b, packed ? packed : data, z->e[i].n_packed);
    free(packed);
    z->e[i].descriptor = b->n;
    if (how & QT_ZIP_DESCRIPTOR) {
        u32(b, 0x08074b50);
        u32(b, z->e[i].crc);
        (how & QT_ZIP_WIDE ? u64 : u32)(b, z->e[i].n_packed);
        (how & QT_ZIP_WIDE ? u64 : u32)(b, n);
    }
}

void qt_zip_finish(qt_zip *z, bool zip64)
{
    qt_buf *b = &z->file;
    z->central = b->n;
    for (size_t i = 0; i < z->n; i++) {
        const bool wide = z->e[i].how & QT_ZIP_WIDE;
        z->e[i].central = b->n;
        u32(b, 0x02014b50);
        u16(b, 0x031e);
        u16(b, wide ? 45 : 20);
        fields(z, i, false);
        u16(b, wide ? 28 : 0);
        u16(b, 0);
        u16(b, 0);
        u16(b, 0);
        u32(b, 0);
        u32(b, wide ? UINT32_MAX : z->e[i].local);
        qt_add(b, z->e[i].name, strlen(z->e[i].name));
        if (wide) {
            u32(b, 24 << 16 | 1);
            u64(b, z->e[i].n_bytes);
            u64(b, z->e[i].n_packed);
            u64(b, z->e[i].local);
        }
    }
    const size_t n_central = b->n - z->central;
    if (zip64) {
        z->end64 = b->n;
        u32(b, 0x06064b50);
        u64(b, 44);
        u32(b, 45 << 16 | 45);
        u64(b, 0);
        u64(b, z->n);
        u64(b, z->n);
        u64(b, n_central);
        u64(b, z->central);
        z->locator = b->n;
        u32(b, 0x07064b50);
        u32(b, 0);
        u64(b, z->end64);
        u32(b, 1);
    }
    z->end = b->n;
    u32(b, 0x06054b50);
    u32(b, 0);
    u16(b, (unsigned)z->n);
    u16(b, (unsigned)z->n);
    u32(b, n_central);
    u32(b, z->central);
    u16(b, 0);
}

void qt_zip_free(qt_zip *z)
{
    qt_buf_free(&z->file);
    *z = (qt_zip){0};
}
