/* local.c (zip): local headers and data descriptors against the central directory, and how entries cover the file.
 *
 *     local header, name, extra │ data │ [descriptor]
 *
 * (APPNOTE 4.3.7, 4.3.9). Writers that do not know sizes beforehand leave them 0 in the local header and put them behind the data;
 * PyTorch's always does, with 64-bit sizes as soon as size or position of the entry is above 4 GiB. */
#include "base/err.h"
#include "base/num.h"
#include "formats/zip/impl.h"
#include <string.h>

#define SIG_LOCAL      0x04034b50u
#define SIG_DESCRIPTOR 0x08074b50u
enum { DESCRIPTOR_BYTES = 16, DESCRIPTOR64_BYTES = 24 };

/* Fields of two or four bytes that both headers have, and the way to say which one differs. */
static const struct {
    const char *what;
    uint8_t local, central, n;
    bool zero; /* may be 0 in the local header when a descriptor follows */
} shared[] = {
    {"version needed", 4, 6, 2, false}, {"flags", 6, 8, 2, false},  {"method", 8, 10, 2, false},
    {"time", 10, 12, 2, false},         {"date", 12, 14, 2, false}, {"CRC", 14, 16, 4, true},
    {"length of the name", 26, 28, 2, false},
};

static qn_code differs(const qn_zip_entry *e, const char *what, uint64_t off, uint64_t local, uint64_t central, qn_err *err)
{
    return QN_FAIL(err, QN_E_INPUT, off, "entry '%s': %s is 0x%llx here, 0x%llx in the central directory",
                   qn_zip_show(e->name).text, what, (unsigned long long)local, (unsigned long long)central);
}

/* A size in the local header, `field` where it stands; `wide` is its place in the zip64 field, if that is long enough. */
static qn_code check_size(const qn_zip_entry *e, const char *what, uint64_t off, uint32_t field, const uint8_t *wide,
                          uint64_t want, qn_err *err)
{
    const bool zero_ok = (e->flags & QN_ZIP_FLAG_DESCRIPTOR) != 0;
    if (field != QN_ZIP_SENTINEL || !wide) {
        if (field != want && !(zero_ok && field == 0))
            return differs(e, what, off, field, want, err);
        /* A zip64 field beside a size that fits, as numpy writes it: no other value may hide there. */
        if (!wide || zero_ok)
            return QN_OK;
    }
    const uint64_t value = qn_load64(wide);
    return value == want || (zero_ok && value == 0) ? QN_OK : differs(e, what, off, value, want, err);
}

static qn_code check_extra(const qn_zip_entry *e, const uint8_t *head, const uint8_t *extra, size_t n_extra, uint64_t extra_off,
                           qn_err *err)
{
    const uint8_t *body;
    size_t n_body;
    QN_TRY(qn_zip_extra(extra, n_extra, extra_off, &body, &n_body, err));
    const bool sizes = n_body >= 16;
    QN_TRY(check_size(e, "packed size", e->off + 18, qn_load32(head + 18), sizes ? body + 8 : NULL, e->n_packed, err));
    return check_size(e, "size", e->off + 22, qn_load32(head + 22), sizes ? body : NULL, e->n_bytes, err);
}

static qn_code check_descriptor(const qn_zip *z, qn_zip_entry *e, uint64_t next, qn_err *err)
{
    uint8_t d[DESCRIPTOR64_BYTES];
    const uint64_t at = e->data_off + e->n_packed, n = next - at;
    if (n != DESCRIPTOR_BYTES && n != DESCRIPTOR64_BYTES)
        return QN_FAIL(err, QN_E_INPUT, at, "entry '%s': %llu bytes up to the next one, a data descriptor has %d or %d",
                       qn_zip_show(e->name).text, (unsigned long long)n, DESCRIPTOR_BYTES, DESCRIPTOR64_BYTES);
    QN_TRY(z->read(z->ctx, d, n, at, err));
    const bool wide = n == DESCRIPTOR64_BYTES;
    const uint64_t packed = wide ? qn_load64(d + 8) : qn_load32(d + 8);
    const uint64_t bytes = wide ? qn_load64(d + 16) : qn_load32(d + 12);
    if (qn_load32(d) != SIG_DESCRIPTOR)
        return QN_FAIL(err, QN_E_INPUT, at, "entry '%s': its data descriptor is expected here", qn_zip_show(e->name).text);
    if (qn_load32(d + 4) != e->crc)
        return differs(e, "CRC", at + 4, qn_load32(d + 4), e->crc, err);
    if (packed != e->n_packed)
        return differs(e, "packed size", at + 8, packed, e->n_packed, err);
    return bytes == e->n_bytes ? QN_OK : differs(e, "size", at + (wide ? 16 : 12), bytes, e->n_bytes, err);
}

/* The entry's own bytes must end at `next`. buf: room for a name and an extra area. */
static qn_code check_local(const qn_zip *z, const uint8_t *central, qn_zip_entry *e, uint64_t next, uint8_t *buf, qn_err *err)
{
    uint8_t head[QN_ZIP_LOCAL_BYTES];
    const uint8_t *twin = central + (e->central_at - z->central_off);
    const size_t n_name = strlen(e->name);
    if (next - e->off < QN_ZIP_LOCAL_BYTES)
        return QN_FAIL(err, QN_E_INPUT, e->off, "entry '%s': %llu bytes up to the next one are no room for its header",
                       qn_zip_show(e->name).text, (unsigned long long)(next - e->off));
    QN_TRY(z->read(z->ctx, head, sizeof head, e->off, err));
    if (qn_load32(head) != SIG_LOCAL)
        return QN_FAIL(err, QN_E_INPUT, e->off, "entry '%s': its local header is expected here", qn_zip_show(e->name).text);
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++) {
        const uint8_t *l = head + shared[i].local, *c = twin + shared[i].central;
        const uint32_t here = shared[i].n == 2 ? qn_load16(l) : qn_load32(l), there = shared[i].n == 2 ? qn_load16(c) : qn_load32(c);
        if (here != there && !(here == 0 && shared[i].zero && (e->flags & QN_ZIP_FLAG_DESCRIPTOR)))
            return differs(e, shared[i].what, e->off + shared[i].local, here, there, err);
    }
    const size_t n_extra = qn_load16(head + 28);
    const uint64_t room = next - e->off - QN_ZIP_LOCAL_BYTES;
    if (n_name + n_extra > room || e->n_packed > room - n_name - n_extra)
        return QN_FAIL(err, QN_E_INPUT, e->off, "entry '%s' overlaps the next one: header and %llu bytes of data, %llu up to there",
                       qn_zip_show(e->name).text, (unsigned long long)e->n_packed, (unsigned long long)(next - e->off));
    QN_TRY(z->read(z->ctx, buf, n_name + n_extra, e->off + QN_ZIP_LOCAL_BYTES, err));
    if (memcmp(buf, e->name, n_name) != 0)
        return QN_FAIL(err, QN_E_INPUT, e->off + QN_ZIP_LOCAL_BYTES, "entry '%s' has another name in its local header",
                       qn_zip_show(e->name).text);
    QN_TRY(check_extra(e, head, buf + n_name, n_extra, e->off + QN_ZIP_LOCAL_BYTES + n_name, err));
    e->data_off = e->off + QN_ZIP_LOCAL_BYTES + n_name + n_extra;
    e->end = next;
    if (e->flags & QN_ZIP_FLAG_DESCRIPTOR)
        return check_descriptor(z, e, next, err);
    if (e->data_off + e->n_packed != next)
        return QN_FAIL(err, QN_E_INPUT, e->data_off + e->n_packed, "%llu bytes behind entry '%s' belong to no entry",
                       (unsigned long long)(next - e->data_off - e->n_packed), qn_zip_show(e->name).text);
    return QN_OK;
}

qn_code qn_zip_check_locals(qn_zip *z, const uint8_t *central, qn_err *err)
{
    enum { NAME_AND_EXTRA = 2 * 65535 };
    const uint64_t first = z->n_entries ? z->entries[0].off : z->central_off;
    if (first != 0)
        return QN_FAIL(err, QN_E_INPUT, 0, "%llu bytes before the first entry belong to none", (unsigned long long)first);
    uint8_t *buf = qn_mem_get(z->alloc, NAME_AND_EXTRA, err);
    if (!buf)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < z->n_entries && rc == QN_OK; i++)
        rc = check_local(z, central, &z->entries[i], i + 1 < z->n_entries ? z->entries[i + 1].off : z->central_off, buf, err);
    qn_mem_put(z->alloc, buf);
    return rc;
}
