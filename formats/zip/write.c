/* write.c (zip): see write.h. APPNOTE 4.3: local header, data, … central directory, its end (with zip64 records where needed). */
#include "formats/zip/write.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include "formats/zip/impl.h"
#include <string.h>
#include <zlib.h>

enum {
    BUF_BYTES = 1 << 20,
    LEVEL = 6,
    DATE = 0x21,            /* the first of January 1980: files do not depend on the day */
    PLAIN = 20, ZIP64 = 45, /* version needed */
    UTF8 = 1 << 11,
    WIDE_LOCAL = 20         /* bytes of a zip64 field of both sizes */
};

/* A size from which on the packed one might need 64 bits. */
#define WIDE_FROM UINT64_C(0xf0000000)

struct qn_zip_member {
    char *name;
    uint64_t off, n_bytes, n_packed, n_in;
    uint32_t crc;
    bool wide, deflated;
};

struct qn_zip_deflate {
    z_stream z;
    uint8_t out[64 << 10];
};

static void *zget(void *ctx, uInt n, uInt size)
{
    return qn_mem_get(ctx, (uint64_t)n * size, NULL);
}

static void zput(void *ctx, void *p)
{
    qn_mem_put(ctx, p);
}

qn_code qn_zip_out_open(qn_zip_out *o, const qn_env *env, const char *path, bool overwrite, qn_err *err)
{
    *o = QN_ZIP_OUT_CLOSED;
    o->env = env;
    o->wide_from = WIDE_FROM;
    o->path = qn_path_cat(env->alloc, path, "", err);
    o->tmp = qn_path_cat(env->alloc, path, ".quern-export", err);
    o->buf = qn_mem_get(env->alloc, BUF_BYTES, err);
    if (!o->path || !o->tmp || !o->buf)
        return QN_E_MEMORY;
    QN_TRY(qn_fs_check_target(env->fs, path, overwrite, err));
    if (qn_fs_exists(env->fs, o->tmp))
        (void)env->fs->unlink(env->fs->ctx, o->tmp);
    QN_TRY(qn_file_open(&o->file, env->fs, env->alloc, o->tmp, QN_OPEN_NEW, err));
    o->made = true;
    return QN_OK;
}

static qn_code flush(qn_zip_out *o, qn_err *err)
{
    if (o->n_buf)
        QN_TRY(qn_file_write(&o->file, o->buf, o->n_buf, o->at, err));
    o->at += o->n_buf;
    o->n_buf = 0;
    return qn_env_check(o->env, err);
}

static qn_code put(qn_zip_out *o, const void *p, uint64_t n, qn_err *err)
{
    const uint8_t *from = p;
    while (n > 0) {
        const uint64_t some = qn_min_u64(n, BUF_BYTES - o->n_buf);
        memcpy(o->buf + o->n_buf, from, (size_t)some);
        o->n_buf += some;
        from += some;
        n -= some;
        if (o->n_buf == BUF_BYTES)
            QN_TRY(flush(o, err));
    }
    return QN_OK;
}

static uint16_t flags_of(const char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name >= 0x80)
            return UTF8;
    return 0;
}

/* What both headers have in common, from the version needed on: 26 bytes. */
static void common(uint8_t p[26], const struct qn_zip_member *m, bool wide_sizes)
{
    memset(p, 0, 26);
    qn_store16(p, m->wide ? ZIP64 : PLAIN);
    qn_store16(p + 2, flags_of(m->name));
    qn_store16(p + 4, m->deflated ? QN_ZIP_DEFLATED : QN_ZIP_STORED);
    qn_store16(p + 8, DATE);
    qn_store32(p + 10, m->crc);
    qn_store32(p + 14, wide_sizes ? QN_ZIP_SENTINEL : (uint32_t)m->n_packed);
    qn_store32(p + 18, wide_sizes ? QN_ZIP_SENTINEL : (uint32_t)m->n_bytes);
    qn_store16(p + 22, (uint16_t)strlen(m->name));
}

/* The local header with its name and field of sizes: n bytes in p, which has room for 30 + 20 and the name. */
static size_t local_header(const struct qn_zip_member *m, uint8_t *p)
{
    const size_t n = strlen(m->name), wide = m->wide ? WIDE_LOCAL : 0;
    memcpy(p, "PK\x03\x04", 4);
    common(p + 4, m, m->wide);
    qn_store16(p + 28, (uint16_t)wide);
    memcpy(p + 30, m->name, n);
    if (wide) {
        qn_store16(p + 30 + n, 1);
        qn_store16(p + 32 + n, 16);
        qn_store64(p + 34 + n, m->n_bytes);
        qn_store64(p + 42 + n, m->n_packed);
    }
    return 30 + n + wide;
}

qn_code qn_zip_out_begin(qn_zip_out *o, const char *name, uint64_t n_bytes, bool deflated, qn_err *err)
{
    const qn_alloc *a = o->env->alloc;
    struct qn_zip_member *m = qn_mem_grow(a, o->members, o->n, &o->cap, o->n + 1, sizeof *m, err);
    o->members = m ? m : o->members;
    uint8_t *head = m ? qn_mem_get(a, 64 + strlen(name), err) : NULL;
    char *kept = head ? qn_path_cat(a, name, "", err) : NULL;
    if (!kept) {
        qn_mem_put(a, head);
        return QN_E_MEMORY;
    }
    m = &o->members[o->n++];
    *m = (struct qn_zip_member){.name = kept, .off = o->at + o->n_buf, .n_bytes = n_bytes, .n_packed = deflated ? 0 : n_bytes, .crc = (uint32_t)crc32(0, NULL, 0),
                                .wide = n_bytes >= o->wide_from, .deflated = deflated};
    const qn_code rc = put(o, head, local_header(m, head), err);
    qn_mem_put(a, head);
    QN_TRY(rc);
    if (!deflated)
        return QN_OK;
    o->deflate = qn_mem_zeros(a, 1, sizeof *o->deflate, err);
    if (!o->deflate)
        return QN_E_MEMORY;
    union { const qn_alloc *in; void *out; } ctx = {.in = a};
    o->deflate->z.zalloc = zget;
    o->deflate->z.zfree = zput;
    o->deflate->z.opaque = ctx.out;
    if (deflateInit2(&o->deflate->z, LEVEL, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        qn_mem_put(a, o->deflate);
        o->deflate = NULL;
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: deflate");
    }
    return QN_OK;
}

static qn_code pump(qn_zip_out *o, int mode, qn_err *err)
{
    struct qn_zip_deflate *d = o->deflate;
    int r;
    do {
        d->z.next_out = d->out;
        d->z.avail_out = sizeof d->out;
        r = deflate(&d->z, mode);
        if (r == Z_STREAM_ERROR)
            return QN_BUG(err, "deflate refuses its state");
        const uint64_t n = sizeof d->out - d->z.avail_out;
        o->members[o->n - 1].n_packed += n;
        QN_TRY(put(o, d->out, n, err));
    } while (mode == Z_FINISH ? r != Z_STREAM_END : d->z.avail_out == 0);
    return QN_OK;
}

qn_code qn_zip_out_add(qn_zip_out *o, const void *p, uint64_t n, qn_err *err)
{
    struct qn_zip_member *m = &o->members[o->n - 1];
    const uint8_t *from = p;
    m->n_in += n;
    while (n > 0) {
        const uint64_t some = qn_min_u64(n, 1 << 30); /* zlib counts in 32 bits */
        m->crc = (uint32_t)crc32(m->crc, from, (uInt)some);
        if (o->deflate) {
            union { const uint8_t *in; uint8_t *out; } u = {.in = from};
            o->deflate->z.next_in = u.out;
            o->deflate->z.avail_in = (uInt)some;
            QN_TRY(pump(o, Z_NO_FLUSH, err));
        } else {
            QN_TRY(put(o, from, some, err));
        }
        from += some;
        n -= some;
    }
    return QN_OK;
}

static void end_deflate(qn_zip_out *o)
{
    if (o->deflate)
        (void)deflateEnd(&o->deflate->z);
    qn_mem_put(o->env->alloc, o->deflate);
    o->deflate = NULL;
}

qn_code qn_zip_out_end(qn_zip_out *o, qn_err *err)
{
    struct qn_zip_member *m = &o->members[o->n - 1];
    if (o->deflate)
        QN_TRY(pump(o, Z_FINISH, err));
    end_deflate(o);
    if (m->n_in != m->n_bytes || (m->n_packed >= QN_ZIP_SENTINEL && !m->wide))
        return QN_BUG(err, "member '%s' has another length than was said", m->name);
    QN_TRY(flush(o, err));
    uint8_t *head = qn_mem_get(o->env->alloc, 64 + strlen(m->name), err);
    if (!head)
        return QN_E_MEMORY;
    const qn_code rc = qn_file_write(&o->file, head, local_header(m, head), m->off, err);
    qn_mem_put(o->env->alloc, head);
    return rc;
}

static qn_code put_central(qn_zip_out *o, const struct qn_zip_member *m, qn_err *err)
{
    uint8_t p[QN_ZIP_CENTRAL_BYTES] = {0}, wide[28];
    const bool far = m->off >= QN_ZIP_SENTINEL;
    const unsigned n_wide = m->wide ? 16u + (far ? 8u : 0u) : far ? 8u : 0u;
    memcpy(p, "PK\x01\x02", 4);
    qn_store16(p + 4, ZIP64 | 3 << 8); /* by a Unix program */
    common(p + 6, m, m->wide);
    qn_store16(p + 30, (uint16_t)(n_wide ? n_wide + 4 : 0));
    qn_store32(p + 38, UINT32_C(0100600) << 16);
    qn_store32(p + 42, far ? QN_ZIP_SENTINEL : (uint32_t)m->off);
    QN_TRY(put(o, p, sizeof p, err));
    QN_TRY(put(o, m->name, strlen(m->name), err));
    if (!n_wide)
        return QN_OK;
    qn_store16(wide, 1);
    qn_store16(wide + 2, (uint16_t)n_wide);
    qn_store64(wide + 4, m->n_bytes);
    qn_store64(wide + 12, m->n_packed);
    qn_store64(wide + (m->wide ? 20 : 4), m->off);
    return put(o, wide, n_wide + 4, err);
}

static qn_code put_end(qn_zip_out *o, uint64_t begin, qn_err *err)
{
    uint8_t wide[56 + 20] = {0}, p[22] = {0};
    const uint64_t at = o->at + o->n_buf, n = at - begin;
    if (o->n >= 0xffff || n >= QN_ZIP_SENTINEL || begin >= QN_ZIP_SENTINEL) {
        memcpy(wide, "PK\x06\x06", 4);
        qn_store64(wide + 4, 44);
        qn_store16(wide + 12, ZIP64);
        qn_store16(wide + 14, ZIP64);
        qn_store64(wide + 24, o->n);
        qn_store64(wide + 32, o->n);
        qn_store64(wide + 40, n);
        qn_store64(wide + 48, begin);
        memcpy(wide + 56, "PK\x06\x07", 4);
        qn_store64(wide + 64, at);
        qn_store32(wide + 72, 1);
        QN_TRY(put(o, wide, sizeof wide, err));
    }
    memcpy(p, "PK\x05\x06", 4);
    qn_store16(p + 8, (uint16_t)qn_min_u64(o->n, 0xffff));
    qn_store16(p + 10, (uint16_t)qn_min_u64(o->n, 0xffff));
    qn_store32(p + 12, (uint32_t)qn_min_u64(n, QN_ZIP_SENTINEL));
    qn_store32(p + 16, (uint32_t)qn_min_u64(begin, QN_ZIP_SENTINEL));
    return put(o, p, sizeof p, err);
}

static qn_code read_tmp(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qn_zip_out *o = ctx;
    return qn_file_read(&o->file, dst, n, off, err);
}

static qn_code read_back(qn_zip_out *o, qn_err *err)
{
    qn_zip z;
    qn_code rc = qn_zip_open(&z, o->env->alloc, read_tmp, o, o->at, err);
    if (rc != QN_OK)
        return rc == QN_E_INPUT ? QN_E_VERIFY : rc;
    if (z.n_entries != o->n)
        rc = QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "members are missing in what was written");
    for (uint64_t i = 0; i < z.n_entries && rc == QN_OK; i++)
        if (z.entries[i].crc != o->members[i].crc || qn_zip_check(&z, &z.entries[i], err) != QN_OK)
            rc = QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "what was written does not read back");
    qn_zip_release(&z);
    return qn_err_in_path(err, rc, o->tmp);
}

qn_code qn_zip_out_finish(qn_zip_out *o, uint64_t *n_bytes, qn_err *err)
{
    const uint64_t begin = o->at + o->n_buf;
    for (uint64_t i = 0; i < o->n; i++)
        QN_TRY(put_central(o, &o->members[i], err));
    QN_TRY(put_end(o, begin, err));
    QN_TRY(flush(o, err));
    QN_TRY(qn_file_sync(&o->file, err));
    QN_TRY(read_back(o, err));
    QN_TRY(qn_file_close(&o->file, err));
    QN_TRY(qn_fs_publish(o->env->fs, o->env->alloc, o->tmp, o->path, err));
    o->made = false;
    *n_bytes = o->at;
    return QN_OK;
}

void qn_zip_out_close(qn_zip_out *o)
{
    if (!o->env)
        return;
    end_deflate(o);
    qn_file_drop(&o->file);
    if (o->made)
        (void)o->env->fs->unlink(o->env->fs->ctx, o->tmp);
    for (uint64_t i = 0; i < o->n; i++)
        qn_mem_put(o->env->alloc, o->members[i].name);
    qn_mem_put(o->env->alloc, o->members);
    qn_mem_put(o->env->alloc, o->path);
    qn_mem_put(o->env->alloc, o->tmp);
    qn_mem_put(o->env->alloc, o->buf);
    *o = QN_ZIP_OUT_CLOSED;
}
