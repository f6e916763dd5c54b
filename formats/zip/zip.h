/* zip.h: the directory of a zip archive, read so strictly that there is one way to understand the file.
 *
 * Everything that two readers could see differently is refused: local and central headers must agree in every field, entries
 * lie end to end from byte 0 to the central directory, nothing stands before, between or behind. Names are keys: nothing
 * is ever written under one. Offsets and lengths are positions in the archive, so that a STORED entry is read in place. */
#ifndef QN_FORMATS_ZIP_ZIP_H
#define QN_FORMATS_ZIP_ZIP_H

#include "base/alloc.h"
#include "base/names.h"

enum { QN_ZIP_STORED = 0, QN_ZIP_DEFLATED = 8 };

/* n bytes of the archive at `off`. Thread-safe if the zip is to be. */
typedef qn_code (*qn_zip_read_fn)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);

typedef struct qn_zip_entry {
    const char *name;  /* UTF-8, no NUL inside, no ".." or empty component; a folder ends in '/' */
    uint64_t off;      /* its local header                                               */
    uint64_t data_off; /* its data: n_packed bytes as they lie, n_bytes when unpacked     */
    uint64_t n_packed, n_bytes;
    uint64_t end;      /* behind its data descriptor, if it has one: where the next entry begins */
    uint64_t central_at; /* its header in the central directory */
    uint32_t crc;      /* CRC-32 of the n_bytes                                           */
    uint16_t method;   /* QN_ZIP_STORED (n_packed = n_bytes) or QN_ZIP_DEFLATED           */
    uint16_t flags;
    uint16_t unix_mode; /* as in struct stat, when a Unix program wrote it; else 0 */
} qn_zip_entry;

typedef struct qn_zip {
    qn_zip_read_fn read;
    void *ctx;
    const qn_alloc *alloc;
    uint64_t n_file_bytes, n_entries;
    qn_zip_entry *entries; /* by offset; they cover [0, central_off) */
    uint64_t central_off, n_central; /* the central directory; behind it the end records */
    qn_arena arena;        /* names */
    qn_names names;
} qn_zip;

/* Do these first bytes of a file look like a zip with at least one entry? */
static inline bool qn_zip_begins(const uint8_t *head, size_t n)
{
    return n >= 4 && head[0] == 'P' && head[1] == 'K' && head[2] == 3 && head[3] == 4;
}

/* Reads and checks the whole directory. On failure nothing is kept. */
qn_code qn_zip_open(qn_zip *z, const qn_alloc *alloc, qn_zip_read_fn read, void *ctx, uint64_t n_file_bytes,
                    qn_err *err) QN_MUST_CHECK;
void qn_zip_release(qn_zip *z);
/* NULL if there is none. */
const qn_zip_entry *qn_zip_find(const qn_zip *z, const char *name);

/* One entry unpacked from front to back, in bounded memory whatever its size. A stream belongs to one thread. */
typedef struct qn_zip_stream {
    const qn_zip *zip;
    const qn_zip_entry *entry;
    uint64_t n_in, n_out; /* packed bytes taken, unpacked bytes given */
    uint32_t crc;
    struct qn_zip_inflate *inflate; /* NULL when STORED */
} qn_zip_stream;

qn_code qn_zip_stream_open(qn_zip_stream *st, const qn_zip *z, const qn_zip_entry *e, qn_err *err) QN_MUST_CHECK;
/* Exactly the next n bytes. The one that gives the last byte also checks that nothing is left over and the CRC. */
qn_code qn_zip_stream_read(qn_zip_stream *st, void *dst, uint64_t n, qn_err *err) QN_MUST_CHECK;
void qn_zip_stream_close(qn_zip_stream *st); /* also after a failed open */

/* Reads the entry through: its CRC, and that it unpacks to the length it declares. */
qn_code qn_zip_check(const qn_zip *z, const qn_zip_entry *e, qn_err *err) QN_MUST_CHECK;

#endif
