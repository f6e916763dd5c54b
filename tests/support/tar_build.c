/* tar_build.c: see tar_build.h. */
#include "tests/support/tar_build.h"
#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, SUM_AT = 148 };

void qt_tar_sum(qt_buf *b, size_t off)
{
    unsigned sum = 0;
    char text[9];
    memset(b->p + off + SUM_AT, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += b->p[off + i];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(b->p + off + SUM_AT, text, 7);
}

void qt_tar_add(qt_buf *b, const char *name, char type, const void *data, size_t n)
{
    const size_t off = b->n;
    qt_add_zeros(b, BLOCK);
    memcpy(b->p + off, name, strnlen(name, 100));
    memcpy(b->p + off + 100, "0000644", 8);
    memcpy(b->p + off + 108, "0000000", 8);
    memcpy(b->p + off + 116, "0000000", 8);
    char size[12];
    snprintf(size, sizeof size, "%011zo", n);
    memcpy(b->p + off + 124, size, 12);
    memcpy(b->p + off + 136, "00000000000", 12);
    b->p[off + 156] = (uint8_t)type;
    memcpy(b->p + off + 257, "ustar\0" "00", 8);
    qt_tar_sum(b, off);
    qt_add(b, data, n);
    qt_add_zeros(b, (BLOCK - n % BLOCK) % BLOCK);
}

void qt_tar_end(qt_buf *b)
{
    qt_add_zeros(b, 2 * BLOCK);
}

void qt_pack(qt_buf *out, int filter, const void *p, size_t n)
{
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    const size_t room = 2 * n + (1 << 16);
    size_t used = 0;
    uint8_t *buf = malloc(room);
    archive_entry_set_pathname(e, "x");
    archive_entry_set_filetype(e, AE_IFREG);
    if (!buf || archive_write_add_filter(a, filter) != ARCHIVE_OK || archive_write_set_format_raw(a) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK || archive_write_open_memory(a, buf, room, &used) != ARCHIVE_OK ||
        archive_write_header(a, e) != ARCHIVE_OK || archive_write_data(a, p, n) != (la_ssize_t)n || archive_write_close(a) != ARCHIVE_OK)
        abort();
    qt_add(out, buf, used);
    free(buf);
    archive_entry_free(e);
    archive_write_free(a);
}
