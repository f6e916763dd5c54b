/* stream.c (zip): an entry read from front to back. */
#include "base/err.h"
#include "base/num.h"
#include "formats/zip/impl.h"
#include <limits.h>
#include <string.h>
#include <zlib.h>

enum { IN_BYTES = 64 << 10 };

struct qn_zip_inflate {
    z_stream z;
    const qn_alloc *alloc;
    bool ended;
    uint8_t in[IN_BYTES];
};

static void *z_get(void *ctx, uInt n, uInt size)
{
    const struct qn_zip_inflate *f = ctx;
    return qn_mem_get(f->alloc, (uint64_t)n * size, NULL);
}

static void z_put(void *ctx, void *p)
{
    const struct qn_zip_inflate *f = ctx;
    qn_mem_put(f->alloc, p);
}

qn_code qn_zip_stream_open(qn_zip_stream *st, const qn_zip *z, const qn_zip_entry *e, qn_err *err)
{
    *st = (qn_zip_stream){.zip = z, .entry = e};
    if (e->method == QN_ZIP_STORED)
        return QN_OK;
    struct qn_zip_inflate *f = qn_mem_get(z->alloc, sizeof *f, err);
    if (!f)
        return QN_E_MEMORY;
    f->ended = false;
    f->z = (z_stream){.zalloc = z_get, .zfree = z_put, .opaque = f};
    f->alloc = z->alloc;
    if (inflateInit2(&f->z, -MAX_WBITS) != Z_OK) {
        qn_mem_put(z->alloc, f);
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory for a deflate decoder");
    }
    st->inflate = f;
    return QN_OK;
}

void qn_zip_stream_close(qn_zip_stream *st)
{
    if (!st->inflate)
        return;
    (void)inflateEnd(&st->inflate->z);
    qn_mem_put(st->zip->alloc, st->inflate);
    st->inflate = NULL;
}

static qn_code damaged(const qn_zip_stream *st, const char *what, qn_err *err)
{
    return QN_FAIL(err, QN_E_INPUT, st->entry->data_off, "entry '%s': %s", qn_zip_show(st->entry->name).text, what);
}

/* Into at most n bytes; *got = 0 only at the end of the deflated data. */
static qn_code inflate_some(qn_zip_stream *st, uint8_t *dst, uint64_t n, uint64_t *got, qn_err *err)
{
    struct qn_zip_inflate *f = st->inflate;
    f->z.next_out = dst;
    f->z.avail_out = (uInt)qn_min_u64(n, UINT_MAX);
    const uInt room = f->z.avail_out;
    while (!f->ended && f->z.avail_out == room) {
        const uint64_t left = st->entry->n_packed - st->n_in;
        if (f->z.avail_in == 0 && left > 0) {
            const uint64_t take = qn_min_u64(left, sizeof f->in);
            QN_TRY(st->zip->read(st->zip->ctx, f->in, take, st->entry->data_off + st->n_in, err));
            st->n_in += take;
            f->z.next_in = f->in;
            f->z.avail_in = (uInt)take;
        }
        const int r = inflate(&f->z, Z_NO_FLUSH);
        if (r == Z_MEM_ERROR)
            return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory for a deflate decoder");
        if (r == Z_STREAM_END)
            f->ended = true;
        else if (r == Z_BUF_ERROR)
            return damaged(st, "its deflated data end early", err);
        else if (r != Z_OK)
            return damaged(st, "its deflated data are damaged", err);
    }
    *got = room - f->z.avail_out;
    return QN_OK;
}

/* Behind the last byte: does the decoder agree that this is the end, and was all input used? */
static qn_code check_end(qn_zip_stream *st, qn_err *err)
{
    if (st->inflate) {
        uint8_t extra;
        uint64_t got;
        QN_TRY(inflate_some(st, &extra, 1, &got, err));
        if (got != 0)
            return damaged(st, "its deflated data give more than its size", err);
        if (st->inflate->z.avail_in != 0 || st->n_in != st->entry->n_packed)
            return damaged(st, "its deflated data end before its packed size", err);
    }
    if (st->crc != st->entry->crc)
        return QN_FAIL(err, QN_E_INPUT, st->entry->data_off, "entry '%s': CRC of its data is 0x%08x, 0x%08x is recorded",
                       qn_zip_show(st->entry->name).text, st->crc, st->entry->crc);
    return QN_OK;
}

qn_code qn_zip_stream_read(qn_zip_stream *st, void *dst, uint64_t n, qn_err *err)
{
    uint8_t *p = dst;
    const qn_zip_entry *e = st->entry;
    if (n > e->n_bytes - st->n_out)
        return QN_BUG(err, "read past the end of entry '%s'", qn_zip_show(e->name).text);
    if (n == 0 && st->n_out != e->n_bytes)
        return QN_OK;
    while (n > 0) {
        uint64_t got = qn_min_u64(n, UINT_MAX);
        if (st->inflate) {
            QN_TRY(inflate_some(st, p, n, &got, err));
            if (got == 0)
                return damaged(st, "its deflated data give less than its size", err);
        } else {
            QN_TRY(st->zip->read(st->zip->ctx, p, got, e->data_off + st->n_in, err));
            st->n_in += got;
        }
        st->crc = (uint32_t)crc32(st->crc, p, (uInt)got);
        st->n_out += got;
        p += got;
        n -= got;
    }
    return st->n_out == e->n_bytes ? check_end(st, err) : QN_OK;
}

qn_code qn_zip_check(const qn_zip *z, const qn_zip_entry *e, qn_err *err)
{
    enum { BUF_BYTES = 64 << 10 };
    qn_zip_stream st;
    uint8_t *buf = qn_mem_get(z->alloc, BUF_BYTES, err);
    if (!buf)
        return QN_E_MEMORY;
    qn_code rc = qn_zip_stream_open(&st, z, e, err);
    do {
        if (rc == QN_OK)
            rc = qn_zip_stream_read(&st, buf, qn_min_u64(BUF_BYTES, e->n_bytes - st.n_out), err);
    } while (rc == QN_OK && st.n_out < e->n_bytes);
    qn_zip_stream_close(&st);
    qn_mem_put(z->alloc, buf);
    return rc;
}
