/* unpack.c: see unpack.h. */
#include "formats/archive/unpack.h"
#include "base/alloc.h"
#include "base/err.h"
#include "base/num.h"
#include <archive.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

enum { IN_BYTES = 64 << 10, OUT_BYTES = 256 << 10 };

struct unpack {
    const qn_env *env;
    const qn_file *f;
    qn_spool *out;
    uint64_t n_bytes, n_in; /* of the packed file, and taken of it */
    uint64_t limit;
    qn_err *err;   /* of the callback */
    qn_code failed;
    uint8_t *in, *buf; /* IN_BYTES, OUT_BYTES */
};

qn_packing qn_packing_of(const uint8_t *head, size_t n)
{
    static const struct {
        const char *magic;
        uint8_t n, how;
    } rows[] = {{"\x1f\x8b", 2, QN_PACKING_GZIP}, {"\x28\xb5\x2f\xfd", 4, QN_PACKING_ZSTD}, {"\xfd" "7zXZ\0", 6, QN_PACKING_XZ},
                {"BZh", 3, QN_PACKING_BZIP2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (n >= rows[i].n && memcmp(head, rows[i].magic, rows[i].n) == 0)
            return (qn_packing)rows[i].how;
    return QN_PACKING_NONE;
}

uint64_t qn_unpack_limit(uint64_t n_bytes)
{
    bool ovf = false;
    const uint64_t limit = qn_add(UINT64_C(256) << 20, qn_mul(n_bytes, 200, &ovf), &ovf);
    return ovf ? UINT64_MAX : limit;
}

static qn_code put(struct unpack *u, const void *p, uint64_t n, qn_err *err)
{
    QN_TRY(qn_env_check(u->env, err));
    if (n > u->limit - u->out->n_bytes)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "unpacks to more than %llu bytes: 256 MiB and 200 times the size of "
                       "the archive are allowed", (unsigned long long)u->limit);
    QN_TRY(qn_spool_append(u->out, p, n, err));
    if (u->env->progress)
        u->env->progress(u->env->progress_ctx, "unpacking", u->n_in, u->n_bytes);
    return QN_OK;
}

static qn_code take(struct unpack *u, size_t *n, qn_err *err)
{
    *n = (size_t)qn_min_u64(IN_BYTES, u->n_bytes - u->n_in);
    QN_TRY(qn_file_read(u->f, u->in, *n, u->n_in, err));
    u->n_in += *n;
    return QN_OK;
}

/* ---- gzip: one member after the other ---- */

static void *z_get(void *ctx, uInt n, uInt size)
{
    return qn_mem_get(ctx, (uint64_t)n * size, NULL);
}

static void z_put(void *ctx, void *p)
{
    qn_mem_put(ctx, p);
}

static qn_code inflate_all(struct unpack *u, z_stream *z, qn_err *err)
{
    bool ended = false;
    for (;;) {
        if (z->avail_in == 0 && u->n_in < u->n_bytes) {
            size_t n;
            QN_TRY(take(u, &n, err));
            z->next_in = u->in;
            z->avail_in = (uInt)n;
        }
        if (ended && z->avail_in == 0)
            return QN_OK;
        if (ended && inflateReset(z) != Z_OK)
            return QN_BUG(err, "inflateReset failed");
        z->next_out = u->buf;
        z->avail_out = OUT_BYTES;
        const int r = inflate(z, Z_NO_FLUSH);
        const uint64_t at = u->n_in - z->avail_in;
        if (r == Z_MEM_ERROR)
            return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory for a gzip decoder");
        if (r == Z_BUF_ERROR)
            return QN_FAIL(err, QN_E_INPUT, at, "gzip data end early: the file is cut");
        if (r != Z_OK && r != Z_STREAM_END)
            return QN_FAIL(err, QN_E_INPUT, at, ended ? "bytes behind the end of the gzip data" : "gzip data are damaged%s%s",
                           z->msg ? ": " : "", z->msg ? z->msg : "");
        QN_TRY(put(u, u->buf, OUT_BYTES - z->avail_out, err));
        ended = r == Z_STREAM_END;
    }
}

static qn_code unpack_gzip(struct unpack *u, qn_err *err)
{
    union {
        const qn_alloc *c;
        void *p;
    } alloc = {.c = u->env->alloc};
    z_stream z = {.zalloc = z_get, .zfree = z_put, .opaque = alloc.p};
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory for a gzip decoder");
    const qn_code rc = inflate_all(u, &z, err);
    (void)inflateEnd(&z);
    return rc;
}

/* ---- the others ---- */

static la_ssize_t feed(struct archive *a, void *ctx, const void **p)
{
    struct unpack *u = ctx;
    size_t n = 0;
    if (u->failed == QN_OK)
        u->failed = take(u, &n, u->err);
    *p = u->in;
    if (u->failed == QN_OK)
        return (la_ssize_t)n;
    archive_set_error(a, EIO, "reading failed");
    return -1;
}

static qn_code explain(const struct unpack *u, struct archive *a, const char *what, qn_err *err)
{
    const char *why = archive_error_string(a);
    char shown[160];
    if (u->failed != QN_OK)
        return u->failed;
    if (archive_errno(a) == ENOMEM)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory for a decoder of %s", what);
    qn_printable(shown, sizeof shown, why ? why : "no reason given", strlen(why ? why : "no reason given"));
    return QN_FAIL(err, QN_E_INPUT, u->n_in, "%s data are cut or damaged: %s", what, shown);
}

static qn_code read_archive(struct unpack *u, struct archive *a, int filter, const char *what, qn_err *err)
{
    struct archive_entry *entry;
    if (archive_read_support_format_raw(a) != ARCHIVE_OK || archive_read_append_filter(a, filter) != ARCHIVE_OK)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "this libarchive cannot read %s", what);
    if (archive_read_open(a, u, NULL, feed, NULL) != ARCHIVE_OK || archive_read_next_header(a, &entry) != ARCHIVE_OK)
        return explain(u, a, what, err);
    for (;;) {
        const la_ssize_t n = archive_read_data(a, u->buf, OUT_BYTES);
        if (n < 0)
            return explain(u, a, what, err);
        if (n == 0)
            break;
        QN_TRY(put(u, u->buf, (uint64_t)n, err));
    }
    return u->failed;
}

static qn_code unpack_other(struct unpack *u, qn_packing how, qn_err *err)
{
    static const struct {
        int filter;
        const char *name;
    } rows[] = {[QN_PACKING_ZSTD] = {ARCHIVE_FILTER_ZSTD, "zstd"}, [QN_PACKING_XZ] = {ARCHIVE_FILTER_XZ, "xz"},
                [QN_PACKING_BZIP2] = {ARCHIVE_FILTER_BZIP2, "bzip2"}};
    struct archive *a = archive_read_new();
    if (!a)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory for a decoder of %s", rows[how].name);
    const qn_code rc = read_archive(u, a, rows[how].filter, rows[how].name, err);
    (void)archive_read_free(a);
    return rc;
}

qn_code qn_unpack_stream(const qn_env *env, qn_packing how, const qn_file *f, uint64_t n_bytes, qn_spool *out, qn_err *err)
{
    struct unpack u = {.env = env, .f = f, .out = out, .n_bytes = n_bytes, .limit = qn_unpack_limit(n_bytes), .err = err};
    u.in = qn_mem_get(env->alloc, IN_BYTES + OUT_BYTES, err);
    if (!u.in)
        return QN_E_MEMORY;
    u.buf = u.in + IN_BYTES;
    const qn_code rc = how == QN_PACKING_GZIP ? unpack_gzip(&u, err) : unpack_other(&u, how, err);
    qn_mem_put(env->alloc, u.in);
    return rc;
}
