/* enc_simple.c: FILL and ZSTD; the mirror of runtime/dec_simple.c. */
#include "base/err.h"
#include "compress/encode.h"
#include <string.h>
#include <zstd.h>

qn_code qn_enc_fill(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                    qn_err *err)
{
    const size_t unit = qn_unit_bytes(b->dtype), total = (size_t)b->n * unit;
    (void)cx;
    (void)err;
    *n_out = 0;
    /* shifted by one unit it must equal itself */
    if (cap < unit || memcmp(src, src + unit, total - unit) != 0)
        return QN_OK;
    memcpy(dst, src, unit);
    *n_out = unit;
    return QN_OK;
}

/* Small blocks get the highest level: it costs microseconds there. */
static int level_of(qn_level level, size_t total)
{
    if (total <= qn_level_small_bytes(level) && level < QN_LEVEL_MAX)
        return total <= 1024 ? 19 : 9;
    return level == QN_LEVEL_FAST ? 1 : level == QN_LEVEL_DENSE ? 9 : 19;
}

/* The frame's magic says nothing that the codec id has not said: it is left out. */
qn_code qn_enc_zstd(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                    qn_err *err)
{
    const size_t total = (size_t)b->n * qn_unit_bytes(b->dtype), bound = ZSTD_compressBound(total);
    *n_out = 0;
    uint8_t *room = qn_arena_get(cx->scratch, bound, 64, err);
    if (!room)
        return QN_E_MEMORY;
    const size_t n = ZSTD_compress(room, bound, src, total, level_of(cx->level, total));
    if (ZSTD_isError(n))
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "zstd: %s", ZSTD_getErrorName(n));
    if (n - QN_ZSTD_MAGIC_BYTES > cap)
        return QN_OK;
    *n_out = n - QN_ZSTD_MAGIC_BYTES;
    memcpy(dst, room + QN_ZSTD_MAGIC_BYTES, *n_out);
    return QN_OK;
}
