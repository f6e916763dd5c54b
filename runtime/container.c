/* container.c: header, footer and the stored form of the index. What is inside the index is index.c's. */
#include "runtime/container.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>
#include <zstd.h>

struct footer {
    uint64_t index_off, stored_bytes, index_bytes, file_bytes;
    qn_digest digest;
    uint32_t flags;
};

static qn_code read_header(const qn_bytes_in *in, qn_err *err)
{
    uint8_t h[QN_HEADER_BYTES];
    if (in->n_bytes < QN_HEADER_BYTES + QN_FOOTER_BYTES)
        return QN_FAIL(err, QN_E_INPUT, in->n_bytes, "not a whole .quern file: %llu bytes found, at least %d needed",
                       (unsigned long long)in->n_bytes, QN_HEADER_BYTES + QN_FOOTER_BYTES);
    QN_TRY(in->read(in->ctx, h, sizeof h, 0, err));
    if (memcmp(h, QN_MAGIC, 8) != 0)
        return QN_FAIL(err, QN_E_INPUT, 0, "not a .quern file: wrong magic");
    if (qn_load64(h + 56) != qn_hash64(h, 56))
        return QN_FAIL(err, QN_E_INPUT, 56, "header checksum does not match");
    if (qn_load16(h + 8) != QN_FORMAT_MAJOR)
        return QN_FAIL(err, QN_E_UNSUPPORTED, 8, "format version %u.%u found, this program reads %d.x", qn_load16(h + 8),
                       qn_load16(h + 10), QN_FORMAT_MAJOR);
    for (size_t i = 12; i < 56; i++)
        if (h[i] != 0)
            return QN_FAIL(err, QN_E_UNSUPPORTED, i, "header: reserved byte is 0x%02x, 0 expected", h[i]);
    return QN_OK;
}

static qn_code read_footer(const qn_bytes_in *in, struct footer *f, qn_err *err)
{
    uint8_t b[QN_FOOTER_BYTES];
    const uint64_t at = in->n_bytes - QN_FOOTER_BYTES;
    QN_TRY(in->read(in->ctx, b, sizeof b, at, err));
    if (qn_load64(b + 56) != qn_hash64(b, 56))
        return QN_FAIL(err, QN_E_INPUT, at, "footer checksum does not match: the file is cut short or damaged");
    f->index_off = qn_load64(b);
    f->stored_bytes = qn_load64(b + 8);
    f->index_bytes = qn_load64(b + 16);
    f->file_bytes = qn_load64(b + 24);
    memcpy(f->digest.b, b + 32, sizeof f->digest.b);
    f->flags = qn_load32(b + 48);
    if (qn_load32(b + 52) != 0 || (f->flags & ~(uint32_t)QN_FOOTER_ZSTD))
        return QN_FAIL(err, QN_E_UNSUPPORTED, at + 48, "footer: unknown flags 0x%x", f->flags);
    if (f->file_bytes != in->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, at + 24, "file length: %llu found, the footer says %llu",
                       (unsigned long long)in->n_bytes, (unsigned long long)f->file_bytes);
    bool ovf = false;
    const uint64_t end = qn_align_up(qn_add(f->index_off, f->stored_bytes, &ovf), 64, &ovf);
    if (ovf || f->index_off < QN_HEADER_BYTES || f->index_off % 64 != 0 || end != at)
        return QN_FAIL(err, QN_E_INPUT, at, "footer: the index does not lie between payloads and footer");
    if (f->flags & QN_FOOTER_ZSTD ? !qn_index_ratio_ok(f->stored_bytes, f->index_bytes)
                                  : f->index_bytes != f->stored_bytes)
        return QN_FAIL(err, QN_E_INPUT, at + 16, "footer: index of %llu bytes in %llu stored is out of range",
                       (unsigned long long)f->index_bytes, (unsigned long long)f->stored_bytes);
    return QN_OK;
}

static qn_code check_zeros(const qn_bytes_in *in, uint64_t off, uint64_t end, qn_err *err)
{
    uint8_t pad[64] = {0};
    if (end - off > sizeof pad)
        return QN_FAIL(err, QN_E_INPUT, off, "%llu bytes belong to nothing", (unsigned long long)(end - off));
    QN_TRY(in->read(in->ctx, pad, end - off, off, err));
    for (uint64_t i = 0; i < end - off; i++)
        if (pad[i] != 0)
            return QN_FAIL(err, QN_E_INPUT, off + i, "padding byte is 0x%02x, 0 expected", pad[i]);
    return QN_OK;
}

static qn_code read_index(qn_index *ix, qn_arena *arena, const qn_alloc *alloc, const qn_bytes_in *in,
                          const struct footer *f, qn_err *err)
{
    qn_code rc = QN_E_MEMORY;
    uint8_t *stored = qn_mem_get(alloc, f->stored_bytes, err), *plain = NULL;
    if (!stored)
        goto out;
    rc = in->read(in->ctx, stored, f->stored_bytes, f->index_off, err);
    if (rc != QN_OK)
        goto out;
    const qn_digest d = qn_hash128(stored, (size_t)f->stored_bytes);
    if (!qn_digest_equal(&d, &f->digest)) {
        rc = QN_FAIL(err, QN_E_INPUT, f->index_off, "index checksum does not match");
        goto out;
    }
    const uint8_t *bytes = stored;
    if (f->flags & QN_FOOTER_ZSTD) {
        plain = qn_mem_get(alloc, f->index_bytes, err);
        if (!plain) {
            rc = QN_E_MEMORY;
            goto out;
        }
        if (ZSTD_findFrameCompressedSize(stored, (size_t)f->stored_bytes) != f->stored_bytes) {
            rc = QN_FAIL(err, QN_E_INPUT, f->index_off, "index is not exactly one zstd frame");
            goto out;
        }
        const size_t got = ZSTD_decompress(plain, (size_t)f->index_bytes, stored, (size_t)f->stored_bytes);
        if (ZSTD_isError(got) || got != f->index_bytes) {
            rc = QN_FAIL(err, QN_E_INPUT, f->index_off, "index does not decompress: %s",
                         ZSTD_isError(got) ? ZSTD_getErrorName(got) : "wrong length");
            goto out;
        }
        qn_mem_put(alloc, stored);
        stored = NULL;
        bytes = plain;
    }
    qn_err inner;
    qn_err_clear(&inner);
    rc = qn_index_parse(ix, arena, bytes, (size_t)f->index_bytes, &inner);
    if (rc != QN_OK && err && err->code == QN_OK) {
        /* make the position one in the file: of a compressed index only its beginning is one */
        if (inner.off != QN_NO_OFFSET)
            inner.off = f->index_off + (bytes == stored ? inner.off : 0);
        *err = inner;
    }
out:
    qn_mem_put(alloc, stored);
    qn_mem_put(alloc, plain);
    return rc;
}

qn_code qn_index_open(qn_index *ix, qn_arena *arena, const qn_alloc *alloc, const qn_bytes_in *in, qn_err *err)
{
    struct footer f;
    QN_TRY(read_header(in, err));
    QN_TRY(read_footer(in, &f, err));
    QN_TRY(read_index(ix, arena, alloc, in, &f, err));
    ix->index_off = f.index_off;
    ix->file_bytes = f.file_bytes;
    if (ix->payload_end > f.index_off)
        return QN_FAIL(err, QN_E_INPUT, f.index_off, "payloads reach to byte %llu, into the index",
                       (unsigned long long)ix->payload_end);
    QN_TRY(check_zeros(in, ix->payload_end, f.index_off, err));
    return check_zeros(in, f.index_off + f.stored_bytes, f.file_bytes - QN_FOOTER_BYTES, err);
}

uint64_t qn_index_n_lossy(const qn_index *ix)
{
    uint64_t n = 0;
    for (uint64_t o = 0; o < ix->n_objects; o++)
        for (uint64_t c = ix->objects[o].first_chunk; c < ix->objects[o + 1].first_chunk; c++) {
            const qn_index_chunk *k = &ix->chunks[c];
            if (!qn_codec_is_lossy(k->codec == QN_CODEC_SHARED ? ix->chunks[k->off].codec : k->codec))
                continue;
            n++;
            break;
        }
    return n;
}
