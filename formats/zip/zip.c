/* zip.c: end records and the central directory.
 *
 *     entry … entry │ central header … │ [zip64 end, zip64 locator] │ end record, comment │ end of file
 *
 * Each part must begin exactly where the one before ends. PKWARE's APPNOTE numbers: end record 4.3.16, zip64 end 4.3.14, locator
 * 4.3.15, central header 4.3.12. */
#include "formats/zip/zip.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include "formats/zip/impl.h"
#include <stdlib.h>
#include <string.h>

enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    COMMENT_MAX = 65535,
    NAME_MAX_BYTES = 1024,
    MADE_ON_UNIX = 3,
};
#define CENTRAL_MAX (UINT64_C(256) << 20)
#define SIG_CENTRAL 0x02014b50u
#define SIG_END     0x06054b50u
#define SIG_END64   0x06064b50u
#define SIG_LOCATOR 0x07064b50u
/* descriptor follows, UTF-8 names, and the two that tell how hard a deflater tried */
#define FLAGS_KNOWN (0x0800u | QN_ZIP_FLAG_DESCRIPTOR | 0x0006u)

qn_zip_shown qn_zip_show(const char *name)
{
    qn_zip_shown s;
    qn_printable(s.text, sizeof s.text, name, strlen(name));
    return s;
}

/* What the end records say, zip64 resolved. */
struct ends {
    uint64_t end_off;     /* of the end record                    */
    uint64_t central_end; /* where the first of the end records begins */
    uint64_t n_entries, central_off, n_central;
};

/* The end record is the one whose comment reaches the end of the file; a second signature in what would be its comment
 * would be found first by other readers. */
static qn_code find_end(const uint8_t *tail, uint64_t n, uint64_t tail_off, uint64_t *at, qn_err *err)
{
    bool found = false;
    for (uint64_t i = n - END_BYTES + 1; i-- > 0;) {
        if (qn_load32(tail + i) != SIG_END)
            continue;
        const bool fits = qn_load16(tail + i + 20) == n - END_BYTES - i;
        if (found && fits)
            return QN_FAIL(err, QN_E_INPUT, tail_off + i, "two end records of a zip fit: the other one is at byte 0x%llx",
                           (unsigned long long)(tail_off + *at));
        if (!found && !fits)
            return QN_FAIL(err, QN_E_INPUT, tail_off + i, "end record of a zip with a comment of %u bytes: %llu follow",
                           qn_load16(tail + i + 20), (unsigned long long)(n - END_BYTES - i));
        if (!found)
            *at = i;
        found = true;
    }
    return found ? QN_OK : QN_FAIL(err, QN_E_INPUT, tail_off + n, "no end record of a zip: the file is cut, or is none");
}

/* `n` bytes stand in front of the end record, up to p. */
static qn_code read_end64(const uint8_t *p, uint64_t n, uint64_t end_off, struct ends *e, qn_err *err)
{
    if (n < END64_BYTES + LOCATOR_BYTES)
        return QN_FAIL(err, QN_E_INPUT, end_off - LOCATOR_BYTES, "zip64 locator without room for its end record");
    const uint8_t *loc = p - LOCATOR_BYTES, *r = loc - END64_BYTES;
    const uint64_t r_off = end_off - LOCATOR_BYTES - END64_BYTES;
    if (qn_load32(loc + 4) != 0 || qn_load32(loc + 16) != 1)
        return QN_FAIL(err, QN_E_UNSUPPORTED, end_off - LOCATOR_BYTES, "zip archive of several disks");
    if (qn_load64(loc + 8) != r_off || qn_load32(r) != SIG_END64)
        return QN_FAIL(err, QN_E_INPUT, end_off - LOCATOR_BYTES, "zip64 locator names byte 0x%llx: the end record must lie at "
                       "0x%llx", (unsigned long long)qn_load64(loc + 8), (unsigned long long)r_off);
    if (qn_load64(r + 4) != END64_BYTES - 12)
        return QN_FAIL(err, QN_E_INPUT, r_off + 4, "zip64 end record of %llu bytes: %d are allowed",
                       (unsigned long long)qn_load64(r + 4), END64_BYTES - 12);
    if (qn_load32(r + 16) != 0 || qn_load32(r + 20) != 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, r_off + 16, "zip archive of several disks");
    if (qn_load64(r + 24) != qn_load64(r + 32))
        return QN_FAIL(err, QN_E_INPUT, r_off + 24, "zip64 end record: two counts of entries");
    e->central_end = r_off;
    e->n_entries = qn_load64(r + 32);
    e->n_central = qn_load64(r + 40);
    e->central_off = qn_load64(r + 48);
    return QN_OK;
}

/* A 16- or 32-bit value beside its zip64 twin: equal, or all ones. Without a twin all ones has no meaning here. */
static bool agrees(uint64_t small, uint64_t ones, uint64_t large)
{
    return small == large || small == ones;
}

static qn_code read_end(const uint8_t *p, uint64_t n_before, uint64_t off, struct ends *e, qn_err *err)
{
    const uint16_t n_here = qn_load16(p + 8), n_all = qn_load16(p + 10);
    const uint32_t n_central = qn_load32(p + 12), central_off = qn_load32(p + 16);
    const bool has64 = n_before >= LOCATOR_BYTES && qn_load32(p - LOCATOR_BYTES) == SIG_LOCATOR;
    *e = (struct ends){.end_off = off, .central_end = off, .n_entries = n_all, .n_central = n_central, .central_off = central_off};
    if ((qn_load16(p + 4) != 0 && qn_load16(p + 4) != 0xffff) || (qn_load16(p + 6) != 0 && qn_load16(p + 6) != 0xffff))
        return QN_FAIL(err, QN_E_UNSUPPORTED, off + 4, "zip archive of several disks");
    if (n_here != n_all)
        return QN_FAIL(err, QN_E_INPUT, off + 8, "end record: two counts of entries, %u and %u", n_here, n_all);
    if (has64)
        QN_TRY(read_end64(p, n_before, off, e, err));
    if (!agrees(n_all, 0xffff, e->n_entries) || !agrees(n_central, QN_ZIP_SENTINEL, e->n_central) ||
        !agrees(central_off, QN_ZIP_SENTINEL, e->central_off))
        return QN_FAIL(err, QN_E_INPUT, off, "end record and zip64 end record do not agree");
    if (e->central_off > e->central_end || e->n_central != e->central_end - e->central_off)
        return QN_FAIL(err, QN_E_INPUT, off + 12, "central directory of %llu bytes at 0x%llx: it must end at 0x%llx",
                       (unsigned long long)e->n_central, (unsigned long long)e->central_off,
                       (unsigned long long)e->central_end);
    if (e->n_entries > e->n_central / QN_ZIP_CENTRAL_BYTES)
        return QN_FAIL(err, QN_E_INPUT, off + 10, "%llu entries do not fit into a central directory of %llu bytes",
                       (unsigned long long)e->n_entries, (unsigned long long)e->n_central);
    if (e->n_central > CENTRAL_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, off + 12, "central directory of %llu bytes: up to %llu are read",
                       (unsigned long long)e->n_central, (unsigned long long)CENTRAL_MAX);
    return QN_OK;
}

static qn_code read_ends(const qn_zip *z, struct ends *e, qn_err *err)
{
    const uint64_t n = qn_min_u64(z->n_file_bytes, COMMENT_MAX + END_BYTES + END64_BYTES + LOCATOR_BYTES);
    if (z->n_file_bytes < END_BYTES)
        return QN_FAIL(err, QN_E_INPUT, z->n_file_bytes, "not a zip archive: %llu bytes are too few",
                       (unsigned long long)z->n_file_bytes);
    uint8_t *tail = qn_mem_get(z->alloc, n, err);
    if (!tail)
        return QN_E_MEMORY;
    const uint64_t tail_off = z->n_file_bytes - n;
    uint64_t at = 0;
    qn_code rc = z->read(z->ctx, tail, n, tail_off, err);
    if (rc == QN_OK) {
        const uint64_t skip = n - qn_min_u64(n, COMMENT_MAX + END_BYTES); /* where an end record may begin */
        rc = find_end(tail + skip, n - skip, tail_off + skip, &at, err);
        at += skip;
    }
    if (rc == QN_OK)
        rc = read_end(tail + at, at, tail_off + at, e, err);
    qn_mem_put(z->alloc, tail);
    return rc;
}

qn_code qn_zip_extra(const uint8_t *p, size_t n, uint64_t off, const uint8_t **body, size_t *n_body, qn_err *err)
{
    enum { ZIP64 = 0x0001, OTHER_NAME = 0x7075 };
    *body = NULL;
    *n_body = 0;
    for (size_t at = 0; at < n;) {
        if (n - at < 4 || qn_load16(p + at + 2) > n - at - 4)
            return QN_FAIL(err, QN_E_INPUT, off + at, "extra field does not end with its area");
        const uint16_t id = qn_load16(p + at), len = qn_load16(p + at + 2);
        if (id == OTHER_NAME)
            return QN_FAIL(err, QN_E_UNSUPPORTED, off + at, "extra field gives the entry a second name");
        if (id == ZIP64 && *body)
            return QN_FAIL(err, QN_E_INPUT, off + at, "two zip64 fields");
        if (id == ZIP64) {
            *body = p + at + 4;
            *n_body = len;
        }
        at += 4u + len;
    }
    return QN_OK;
}

/* Values that did not fit into 32 bits, in this order, exactly those that are all ones. */
static qn_code widen(qn_zip_entry *e, const uint8_t *extra, size_t n, uint64_t off, qn_err *err)
{
    const uint8_t *body;
    size_t n_body, at = 0;
    uint64_t *const value[] = {&e->n_bytes, &e->n_packed, &e->off};
    QN_TRY(qn_zip_extra(extra, n, off, &body, &n_body, err));
    for (size_t i = 0; i < 3; i++) {
        if (*value[i] != QN_ZIP_SENTINEL)
            continue;
        if (n_body - at < 8)
            return QN_FAIL(err, QN_E_INPUT, off, "zip64 field is missing or too short: %zu bytes", n_body);
        *value[i] = qn_load64(body + at);
        at += 8;
    }
    return at == n_body ? QN_OK : QN_FAIL(err, QN_E_INPUT, off, "zip64 field of %zu bytes: %zu are called for", n_body, at);
}

/* The name is never used as a path, but other programs would. */
static qn_code check_name(const char *p, size_t n, uint64_t off, qn_err *err)
{
    const bool folder = n > 0 && p[n - 1] == '/';
    if (n > NAME_MAX_BYTES || memchr(p, 0, n) || !qn_path_is_safe(p, n - folder)) {
        char shown[96];
        qn_printable(shown, sizeof shown, p, n);
        return QN_FAIL(err, QN_E_INPUT, off, "entry name '%s': UTF-8 of 1 to %d bytes without NUL, control bytes, '\\', empty "
                                             "parts and '..' is allowed", shown, NAME_MAX_BYTES);
    }
    return QN_OK;
}

/* A deflated byte gives at most 1032 (258 in a code of two bits). */
static qn_code check_sizes(const qn_zip *z, const qn_zip_entry *e, uint64_t off, qn_err *err)
{
    enum { RATIO_MAX = 1032 };
    const qn_zip_shown name = qn_zip_show(e->name);
    if (e->method != QN_ZIP_STORED && e->method != QN_ZIP_DEFLATED)
        return QN_FAIL(err, QN_E_UNSUPPORTED, off + 10, "entry '%s' is packed with method %u: 0 (stored) and 8 (deflate) are "
                                                        "read", name.text, e->method);
    if (e->n_packed > z->central_off || e->off > z->central_off - e->n_packed)
        return QN_FAIL(err, QN_E_INPUT, off + 20, "entry '%s': %llu bytes at 0x%llx reach into the central directory", name.text,
                       (unsigned long long)e->n_packed, (unsigned long long)e->off);
    if (e->method == QN_ZIP_STORED && e->n_packed != e->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, off + 24, "entry '%s' is stored: %llu bytes cannot become %llu", name.text,
                       (unsigned long long)e->n_packed, (unsigned long long)e->n_bytes);
    if (e->method == QN_ZIP_DEFLATED && e->n_bytes / RATIO_MAX > e->n_packed)
        return QN_FAIL(err, QN_E_INPUT, off + 24, "entry '%s': %llu deflated bytes cannot become %llu", name.text,
                       (unsigned long long)e->n_packed, (unsigned long long)e->n_bytes);
    if (e->name[strlen(e->name) - 1] == '/' && e->n_bytes != 0)
        return QN_FAIL(err, QN_E_INPUT, off + 24, "entry '%s' is a folder with %llu bytes", name.text,
                       (unsigned long long)e->n_bytes);
    return QN_OK;
}

static qn_code read_central(qn_zip *z, qn_cur *c, qn_zip_entry *e, qn_err *err)
{
    const uint64_t off = z->central_off + c->at;
    const uint8_t *p = qn_cur_take(c, QN_ZIP_CENTRAL_BYTES);
    if (!p || qn_load32(p) != SIG_CENTRAL)
        return QN_FAIL(err, QN_E_INPUT, off, "central directory: a header is expected here");
    const uint16_t n_name = qn_load16(p + 28), n_extra = qn_load16(p + 30);
    const char *name = (const char *)qn_cur_take(c, n_name);
    const uint8_t *extra = qn_cur_take(c, n_extra);
    (void)qn_cur_take(c, qn_load16(p + 32)); /* comment */
    if (c->failed)
        return QN_FAIL(err, QN_E_INPUT, off + 28, "central directory: a header reaches past its end");
    QN_TRY(check_name(name, n_name, off + 46, err));
    *e = (qn_zip_entry){.name = qn_arena_str(&z->arena, name, n_name, err), .flags = qn_load16(p + 8),
                        .method = qn_load16(p + 10), .crc = qn_load32(p + 16), .n_packed = qn_load32(p + 20),
                        .n_bytes = qn_load32(p + 24), .off = qn_load32(p + 42), .central_at = off,
                        .unix_mode = p[5] == MADE_ON_UNIX ? qn_load16(p + 40) : (uint16_t)0};
    if (!e->name)
        return QN_E_MEMORY;
    if (e->flags & 1)
        return QN_FAIL(err, QN_E_UNSUPPORTED, off + 8, "entry '%s' is encrypted", qn_zip_show(e->name).text);
    if (e->flags & ~FLAGS_KNOWN)
        return QN_FAIL(err, QN_E_UNSUPPORTED, off + 8, "entry '%s' has flags 0x%04x: only 0x%04x are known",
                       qn_zip_show(e->name).text, e->flags, FLAGS_KNOWN);
    if (qn_load16(p + 34) != 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, off + 34, "zip archive of several disks");
    QN_TRY(widen(e, extra, n_extra, off + 46 + n_name, err));
    return check_sizes(z, e, off, err);
}

static const char *entry_name(const void *ctx, uint32_t item)
{
    return ((const qn_zip *)ctx)->entries[item].name;
}

static int by_offset(const void *a, const void *b)
{
    const qn_zip_entry *x = a, *y = b;
    if (x->off != y->off)
        return x->off < y->off ? -1 : 1;
    return x->central_at < y->central_at ? -1 : x->central_at > y->central_at;
}

static qn_code index_names(qn_zip *z, qn_err *err)
{
    const uint64_t n_slots = qn_names_slots(z->n_entries);
    qn_name_slot *slots = qn_mem_zeros(z->alloc, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_names_init(&z->names, slots, n_slots);
    for (uint64_t i = 0; i < z->n_entries; i++)
        if (qn_names_add(&z->names, z->entries[i].name, (uint32_t)i, entry_name, z) != QN_NAMES_NONE)
            return QN_FAIL(err, QN_E_INPUT, z->entries[i].central_at, "two entries are named '%s'",
                           qn_zip_show(z->entries[i].name).text);
    return QN_OK;
}

static qn_code read_all(qn_zip *z, const uint8_t *central, qn_err *err)
{
    qn_cur c = qn_cur_over(central, (size_t)z->n_central);
    for (uint64_t i = 0; i < z->n_entries; i++)
        QN_TRY(read_central(z, &c, &z->entries[i], err));
    if (qn_cur_left(&c) != 0)
        return QN_FAIL(err, QN_E_INPUT, z->central_off + c.at, "central directory: %zu bytes more than its %llu entries",
                       qn_cur_left(&c), (unsigned long long)z->n_entries);
    if (z->n_entries)
        qsort(z->entries, z->n_entries, sizeof *z->entries, by_offset);
    QN_TRY(index_names(z, err));
    return qn_zip_check_locals(z, central, err);
}

static qn_code open_zip(qn_zip *z, qn_err *err)
{
    struct ends e = {0};
    QN_TRY(read_ends(z, &e, err));
    z->central_off = e.central_off;
    z->n_central = e.n_central;
    z->n_entries = e.n_entries;
    z->entries = qn_mem_get(z->alloc, e.n_entries * sizeof *z->entries, err);
    uint8_t *central = z->entries ? qn_mem_get(z->alloc, e.n_central, err) : NULL;
    if (!central)
        return QN_E_MEMORY;
    qn_code rc = z->read(z->ctx, central, e.n_central, e.central_off, err);
    if (rc == QN_OK)
        rc = read_all(z, central, err);
    qn_mem_put(z->alloc, central);
    return rc;
}

qn_code qn_zip_open(qn_zip *z, const qn_alloc *alloc, qn_zip_read_fn read, void *ctx, uint64_t n_file_bytes, qn_err *err)
{
    *z = (qn_zip){.read = read, .ctx = ctx, .alloc = alloc, .n_file_bytes = n_file_bytes};
    qn_arena_init(&z->arena, alloc);
    const qn_code rc = open_zip(z, err);
    if (rc != QN_OK)
        qn_zip_release(z);
    return rc;
}

void qn_zip_release(qn_zip *z)
{
    qn_mem_put(z->alloc, z->entries);
    qn_mem_put(z->alloc, z->names.slots);
    qn_arena_release(&z->arena);
    z->entries = NULL;
    z->names = (qn_names){0};
    z->n_entries = 0;
}

const qn_zip_entry *qn_zip_find(const qn_zip *z, const char *name)
{
    const uint32_t i = qn_names_find(&z->names, name, entry_name, z);
    return i == QN_NAMES_NONE ? NULL : &z->entries[i];
}
