/* enc_shuffle.c: byte planes, when a sample says that they are worth more than what is already found. */
#include "base/err.h"
#include "compress/nest.h"
#include "compress/sample.h"

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
        if (guess + margin > cap && qn_sample_repeats(src, total) < 32)
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
    return QN_OK;
}
