/* write.c: see write.h. Bytes go out in file order and never twice, so a cut leaves a clean prefix. */
#include "formats/quern/write.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>
#include <zstd.h>

enum { BUF_BYTES = 4 << 20, INDEX_ZSTD_LEVEL = 9 };

qn_code qn_quern_writer_flush(qn_quern_writer *w, qn_err *err)
{
    const uint64_t n = w->buf_used;
    w->buf_used = 0; /* also after a failure: nothing is written twice */
    return w->file ? qn_file_write(w->file, w->buf, n, w->at - n, err) : QN_OK;
}

static qn_code append(qn_quern_writer *w, const void *src, uint64_t n, qn_err *err)
{
    const uint8_t *p = src;
    while (n > 0) {
        if (w->buf_used == BUF_BYTES)
            QN_TRY(qn_quern_writer_flush(w, err));
        const uint64_t take = qn_min_u64(n, BUF_BYTES - w->buf_used);
        memcpy(w->buf + w->buf_used, p, (size_t)take);
        w->buf_used += take;
        w->at += take;
        p += take;
        n -= take;
    }
    return QN_OK;
}

static qn_code append_zeros_to(qn_quern_writer *w, unsigned align, qn_err *err)
{
    static const uint8_t zeros[64];
    return append(w, zeros, (align - w->at % align) % align, err);
}

static qn_code append_header(qn_quern_writer *w, qn_err *err)
{
    uint8_t h[QN_HEADER_BYTES] = {0};
    memcpy(h, QN_MAGIC, 8);
    qn_store16(h + 8, QN_FORMAT_MAJOR);
    qn_store16(h + 10, QN_FORMAT_MINOR);
    qn_store64(h + 56, qn_hash64(h, 56));
    return append(w, h, sizeof h, err);
}

qn_code qn_quern_writer_open(qn_quern_writer *w, const qn_env *env, const qn_file *file, uint64_t at, qn_err *err)
{
    *w = (qn_quern_writer){.env = env, .file = file, .at = at};
    w->buf = qn_mem_get(env->alloc, BUF_BYTES, err);
    if (!w->buf)
        return QN_E_MEMORY;
    return at == 0 ? append_header(w, err) : QN_OK;
}

qn_code qn_quern_writer_add(qn_quern_writer *w, const uint8_t *payload, uint32_t n_bytes, uint64_t *off, qn_err *err)
{
    QN_TRY(append_zeros_to(w, qn_payload_align(n_bytes), err));
    *off = w->at;
    return append(w, payload, n_bytes, err);
}

static qn_code append_footer(qn_quern_writer *w, uint64_t index_off, uint64_t stored, uint64_t plain,
                             const qn_digest *digest, bool zstd, qn_err *err)
{
    uint8_t f[QN_FOOTER_BYTES] = {0};
    qn_store64(f, index_off);
    qn_store64(f + 8, stored);
    qn_store64(f + 16, plain);
    qn_store64(f + 24, w->at + sizeof f);
    memcpy(f + 32, digest->b, sizeof digest->b);
    qn_store32(f + 48, zstd ? QN_FOOTER_ZSTD : 0);
    qn_store64(f + 56, qn_hash64(f, 56));
    return append(w, f, sizeof f, err);
}

qn_code qn_quern_writer_finish(qn_quern_writer *w, const qn_index *ix, qn_err *err)
{
    const qn_alloc *alloc = w->env->alloc;
    uint8_t *plain = NULL, *packed = NULL;
    uint64_t n_plain;
    qn_code rc = qn_index_serialise(ix, alloc, &plain, &n_plain, err);
    if (rc != QN_OK)
        return rc;
    packed = qn_mem_get(alloc, ZSTD_compressBound((size_t)n_plain), err);
    if (!packed) {
        rc = QN_E_MEMORY;
        goto out;
    }
    const size_t n_packed =
        ZSTD_compress(packed, ZSTD_compressBound((size_t)n_plain), plain, (size_t)n_plain, INDEX_ZSTD_LEVEL);
    if (ZSTD_isError(n_packed)) {
        rc = QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "zstd: %s", ZSTD_getErrorName(n_packed));
        goto out;
    }
    const bool use = n_packed < n_plain && qn_index_ratio_ok(n_packed, n_plain);
    const uint8_t *stored = use ? packed : plain;
    const uint64_t n_stored = use ? n_packed : n_plain;
    const qn_digest digest = qn_hash128(stored, (size_t)n_stored);
    rc = append_zeros_to(w, 64, err);
    const uint64_t index_off = w->at;
    if (rc == QN_OK)
        rc = append(w, stored, n_stored, err);
    if (rc == QN_OK)
        rc = append_zeros_to(w, 64, err);
    if (rc == QN_OK)
        rc = append_footer(w, index_off, n_stored, n_plain, &digest, use, err);
    if (rc == QN_OK)
        rc = qn_quern_writer_flush(w, err);
out:
    qn_mem_put(alloc, plain);
    qn_mem_put(alloc, packed);
    return rc;
}

void qn_quern_writer_release(qn_quern_writer *w)
{
    qn_mem_put(w->env ? w->env->alloc : NULL, w->buf);
    w->buf = NULL;
}
