/* fill.c: the members of each kind of archive. Those of a tar and the stored ones of a zip are read where they lie; all that is
 * packed goes into the spool once. */
#include "base/err.h"
#include "base/num.h"
#include "formats/archive/bundle.h"
#include "formats/archive/tar.h"
#include "formats/archive/unpack.h"
#include <string.h>

static qn_code read_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qn_bundle *b = ctx;
    return qn_file_read(&b->file, dst, n, off, err);
}

static qn_code read_spool(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qn_bundle *b = ctx;
    return qn_spool_read(&b->spool, dst, n, off, err);
}

qn_code qn_bundle_fill_tar(qn_bundle *b, qn_err *err)
{
    return qn_tar_list(b->outer, read_file, b, b->st.n_bytes, false, &b->members, err);
}

/* The name of what a packed file that is no tar holds: its own without the last ending. */
static size_t inner_name(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    const char *dot = strrchr(*name, '.');
    return dot && dot > *name ? (size_t)(dot - *name) : strlen(*name);
}

qn_code qn_bundle_fill_packed(qn_bundle *b, qn_err *err)
{
    uint8_t head[512];
    const size_t n = (size_t)qn_min_u64(sizeof head, b->st.n_bytes);
    QN_TRY(qn_file_read(&b->file, head, n, 0, err));
    QN_TRY(qn_unpack_stream(b->outer, qn_packing_of(head, n), &b->file, b->st.n_bytes, &b->spool, err));
    const size_t n_inner = (size_t)qn_min_u64(sizeof head, b->spool.n_bytes);
    QN_TRY(qn_spool_read(&b->spool, head, n_inner, 0, err));
    if (qn_tar_begins(head, n_inner))
        return qn_tar_list(b->outer, read_spool, b, b->spool.n_bytes, true, &b->members, err);
    const char *name;
    const size_t n_name = inner_name(b->path, &name);
    const qn_member whole = {.n_bytes = b->spool.n_bytes, .in_spool = true};
    return qn_members_add(&b->members, name, n_name, false, &whole, 0, err);
}

/* ---- zip ---- */

static bool is_torch_zip(const qn_zip *z)
{
    for (uint64_t i = 0; i < z->n_entries; i++) {
        const char *slash = strchr(z->entries[i].name, '/');
        if (slash && strcmp(slash, "/data.pkl") == 0)
            return true;
    }
    return false;
}

static qn_code inflate_entry(qn_bundle *b, const qn_zip *z, const qn_zip_entry *e, uint8_t *buf, uint64_t n_buf, qn_err *err)
{
    qn_zip_stream st;
    qn_code rc = qn_zip_stream_open(&st, z, e, err);
    uint64_t left = e->n_bytes;
    do { /* also once for nothing: that checks the CRC */
        const uint64_t n = qn_min_u64(n_buf, left);
        if (rc == QN_OK)
            rc = qn_env_check(b->outer, err);
        if (rc == QN_OK)
            rc = qn_zip_stream_read(&st, buf, n, err);
        if (rc == QN_OK)
            rc = qn_spool_append(&b->spool, buf, n, err);
        left -= n;
    } while (rc == QN_OK && left > 0);
    qn_zip_stream_close(&st);
    return rc;
}

static qn_code add_entry(qn_bundle *b, const qn_zip *z, const qn_zip_entry *e, uint8_t *buf, uint64_t n_buf, qn_err *err)
{
    enum { TYPE = 0170000, LINK = 0120000, FILE_TYPE = 0100000, DIR_TYPE = 0040000 };
    const size_t n = strlen(e->name);
    const bool is_dir = n > 0 && e->name[n - 1] == '/';
    const unsigned type = e->unix_mode & TYPE;
    char shown[128];
    qn_printable(shown, sizeof shown, e->name, n);
    if (type == LINK)
        return QN_FAIL(err, QN_E_UNSUPPORTED, e->central_at, "member '%s' is a symlink: only files and folders are read", shown);
    if (type != 0 && type != FILE_TYPE && type != DIR_TYPE)
        return QN_FAIL(err, QN_E_UNSUPPORTED, e->central_at, "member '%s' is a device or a pipe: only files and folders are read",
                       shown);
    if (is_dir && e->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, e->central_at, "a folder with %llu bytes of data", (unsigned long long)e->n_bytes);
    const bool packed = e->method != QN_ZIP_STORED;
    const qn_member where = {.off = packed ? b->spool.n_bytes : e->data_off, .n_bytes = e->n_bytes, .in_spool = packed};
    const uint64_t n_before = b->members.n;
    QN_TRY(qn_members_add(&b->members, e->name, n, is_dir, &where, e->central_at, err));
    return packed && b->members.n > n_before ? inflate_entry(b, z, e, buf, n_buf, err) : QN_OK;
}

static qn_code add_entries(qn_bundle *b, const qn_zip *z, qn_err *err)
{
    enum { BUF_BYTES = 256 << 10 };
    const uint64_t limit = qn_unpack_limit(b->st.n_bytes);
    uint64_t n_unpacked = 0;
    bool ovf = false;
    for (uint64_t i = 0; i < z->n_entries; i++)
        n_unpacked = z->entries[i].method == QN_ZIP_STORED ? n_unpacked : qn_add(n_unpacked, z->entries[i].n_bytes, &ovf);
    if (ovf || n_unpacked > limit)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "unpacks to more than %llu bytes: 256 MiB and 200 times the size of "
                       "the archive are allowed", (unsigned long long)limit);
    uint8_t *buf = qn_mem_get(b->outer->alloc, BUF_BYTES, err);
    qn_code rc = buf ? QN_OK : QN_E_MEMORY;
    for (uint64_t i = 0; i < z->n_entries && rc == QN_OK; i++)
        rc = add_entry(b, z, &z->entries[i], buf, BUF_BYTES, err);
    qn_mem_put(b->outer->alloc, buf);
    return rc;
}

qn_code qn_bundle_fill_zip(qn_bundle *b, bool *is_torch, qn_err *err)
{
    qn_zip z;
    QN_TRY(qn_zip_open(&z, b->outer->alloc, read_file, b, b->st.n_bytes, err));
    *is_torch = is_torch_zip(&z);
    const qn_code rc = *is_torch ? QN_OK : add_entries(b, &z, err);
    qn_zip_release(&z);
    return rc;
}
