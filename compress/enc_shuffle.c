/* enc_shuffle.c: byte planes, when a sample says that they are worth more than what is already found. */
#include "base/err.h"
#include "compress/nest.h"
#include "compress/sample.h"
#include <string.h>

/* All planes end to end as one zstd frame: what small blocks gain by sharing one header and one window. */
static qn_code try_joint(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                         size_t *n_out, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const size_t total = (size_t)b->n * unit;
    const qn_block all = {QN_U8, b->n * unit, b->n};
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    size_t n = 0;
    uint8_t *planes = qn_arena_get(cx->scratch, total, 64, err);
    if (!planes)
        return QN_E_MEMORY;
    for (unsigned k = 0; k < unit; k++)
        for (uint32_t i = 0; i < b->n; i++)
            planes[(size_t)k * b->n + i] = src[(size_t)i * unit + k];
    *n_out = 0;
    if (cap > 1)
        QN_TRY(qn_enc_zstd(cx, &all, planes, dst + 1, cap - 1, &n, err));
    qn_arena_rewind(cx->scratch, mark);
    if (n == 0)
        return QN_OK;
    dst[0] = QN_SHUFFLE_JOINT | QN_CODEC_ZSTD;
    *n_out = n + 1;
    return QN_OK;
}

qn_code qn_enc_shuffle(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                       size_t *n_out, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const size_t total = (size_t)b->n * unit;
    *n_out = 0;
    if (unit < 2 || !qn_nest_allowed(cx))
        return QN_OK;
    /* Planes can hold runs and repeats that order-0 does not see: only large blocks are judged by the sample, and
     * those with repeats are let through. The sample is good to a percent or so, and where a float codec has set `cap`
     * a win is unlikely: at the fast level it must be a clear one. */
    if (total > qn_level_small_bytes(cx->level) && cx->level < QN_LEVEL_MAX) {
        const size_t guess = qn_sample_planes(src, b->n, unit);
        const size_t margin = cx->level == QN_LEVEL_FAST && cap < total - 1 ? guess / 16 : 0;
        if (guess + margin > cap && qn_sample_repeats(src, total) < 32 && qn_sample_matches(src, b->n, unit) < 24)
            return QN_OK;
    }
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    uint8_t *plane = qn_arena_get(cx->scratch, b->n, 64, err);
    if (!plane)
        return QN_E_MEMORY;
    const qn_block pb = {QN_U8, b->n, b->cols};
    qn_sink s = qn_sink_over(dst, cap);
    for (unsigned k = 0; k < unit && !s.full; k++) {
        for (uint32_t i = 0; i < b->n; i++)
            plane[i] = src[(size_t)i * unit + k];
        QN_TRY(qn_nest_encode(cx, &s, &pb, plane, false, err));
    }
    qn_arena_rewind(cx->scratch, mark);
    *n_out = s.full ? 0 : s.n;
    if (total > qn_level_small_bytes(cx->level))
        return QN_OK;
    size_t n;
    uint8_t *other = qn_arena_get(cx->scratch, total, 64, err);
    if (!other)
        return QN_E_MEMORY;
    QN_TRY(try_joint(cx, b, src, other, *n_out ? *n_out - 1 : cap < total ? cap : total, &n, err));
    if (n) {
        memcpy(dst, other, n);
        *n_out = n;
    }
    qn_arena_rewind(cx->scratch, mark);
    return QN_OK;
}
