/* dec_simple.c: RAW, FILL and ZSTD: three decoders too small for files of their own.
 *
 * RAW:  the bytes.   FILL: one unit, 1 … 8 bytes, repeated.   ZSTD: one frame without its magic, content size stated, no dictionary. */
#include "base/err.h"
#include "runtime/codec.h"
#include <string.h>
#include <zstd.h>

qn_code qn_dec_raw(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                   qn_err *err)
{
    const size_t want = (size_t)b->n * qn_unit_bytes(b->dtype);
    (void)cx;
    if (n_bytes != want)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "raw: %zu bytes found, %zu expected", n_bytes, want);
    memcpy(dst, payload, want);
    return QN_OK;
}

qn_code qn_dec_fill(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                    qn_err *err)
{
    const size_t unit = qn_unit_bytes(b->dtype), total = (size_t)b->n * unit;
    (void)cx;
    if (n_bytes != unit)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "fill: %zu bytes found, %zu expected", n_bytes, unit);
    memcpy(dst, payload, unit);
    for (size_t have = unit; have < total; have *= 2) /* doubling: as fast as memcpy */
        memcpy(dst + have, dst, have < total - have ? have : total - have);
    return QN_OK;
}

static const uint8_t zstd_magic[QN_ZSTD_MAGIC_BYTES] = {0x28, 0xb5, 0x2f, 0xfd};

qn_code qn_dec_zstd(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                    qn_err *err)
{
    const size_t want = (size_t)b->n * qn_unit_bytes(b->dtype), n = n_bytes + sizeof zstd_magic;
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    uint8_t *whole = qn_arena_get(cx->scratch, n, 64, err);
    if (!whole)
        return QN_E_MEMORY;
    memcpy(whole, zstd_magic, sizeof zstd_magic);
    memcpy(whole + sizeof zstd_magic, payload, n_bytes);
    if (ZSTD_getFrameContentSize(whole, n) != want)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "zstd: frame does not state a content of %zu bytes", want);
    const size_t frame = ZSTD_findFrameCompressedSize(whole, n);
    if (ZSTD_isError(frame) || frame != n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "zstd: not exactly one frame");
    const size_t got = ZSTD_decompress(dst, want, whole, n);
    if (ZSTD_isError(got))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "zstd: %s", ZSTD_getErrorName(got));
    qn_arena_rewind(cx->scratch, mark);
    return got == want ? QN_OK : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "zstd: %zu bytes decoded, %zu expected", got, want);
}
