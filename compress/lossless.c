/* lossless.c: picks the codec of a block: candidates in a table, cheapest decoder first; each tries, the smallest wins. */
#include "base/err.h"
#include "base/num.h"
#include "compress/encode.h"
#include <string.h>

/* Which blocks a candidate is tried on. */
enum {
    ON_FLOAT = 1, /* F16 BF16 F32 F64 C64 and the 8-bit floats */
    ON_WIDE = 2,  /* other units of more than one byte         */
    ON_BYTE = 4,  /* other units of one byte                   */
    ON_ALL = 7
};

struct candidate {
    unsigned codec, on;
    qn_level from, to; /* levels that try it                                       */
    bool final;        /* when it applies nothing else can be smaller: stop there   */
    qn_encode_fn encode;
};

static const struct candidate candidates[] = {
    {QN_CODEC_FILL, ON_ALL, QN_LEVEL_FAST, QN_LEVEL_MAX, true, qn_enc_fill},
    {QN_CODEC_FAST, ON_FLOAT, QN_LEVEL_FAST, QN_LEVEL_MAX, false, qn_enc_fast},
    {QN_CODEC_ORDER0, ON_BYTE | ON_FLOAT, QN_LEVEL_FAST, QN_LEVEL_MAX, false, qn_enc_order0},
    {QN_CODEC_DENSE, ON_FLOAT, QN_LEVEL_DENSE, QN_LEVEL_MAX, false, qn_enc_dense},
    {QN_CODEC_ZSTD, ON_ALL, QN_LEVEL_FAST, QN_LEVEL_MAX, false, qn_enc_zstd},
    {QN_CODEC_MAX, ON_FLOAT, QN_LEVEL_MAX, QN_LEVEL_MAX, false, qn_enc_max},
};

static unsigned kind_of(qn_dtype t)
{
    switch (t) {
    case QN_F16:
    case QN_BF16:
    case QN_F32:
    case QN_F64:
    case QN_C64:
    case QN_F8_E4M3:
    case QN_F8_E5M2:
    case QN_F8_E4M3FNUZ:
    case QN_F8_E5M2FNUZ:
        return ON_FLOAT;
    default:
        return qn_unit_bytes(t) > 1 ? ON_WIDE : ON_BYTE;
    }
}

qn_code qn_encode_best(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                       unsigned *codec, size_t *n_out, qn_err *err)
{
    const size_t total = (size_t)b->n * qn_unit_bytes(b->dtype);
    const unsigned kind = kind_of(b->dtype);
    size_t best = total;
    *codec = QN_CODEC_RAW;
    uint8_t *trial = qn_arena_get(cx->scratch, total, 64, err), *kept = dst;
    if (!trial)
        return QN_E_MEMORY;
    if (cap < total)
        return QN_BUG(err, "encode_best: room for %zu of %zu bytes", cap, total);
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        const struct candidate *c = &candidates[i];
        size_t n;
        if (!(c->on & kind) || cx->level < c->from || cx->level > c->to)
            continue;
        QN_TRY(c->encode(cx, b, src, trial, best - 1, &n, err));
        if (n == 0)
            continue;
        best = n;
        *codec = c->codec;
        uint8_t *swap = kept;
        kept = trial;
        trial = swap;
        if (c->final || best == 1)
            break;
    }
    if (*codec == QN_CODEC_RAW)
        memcpy(dst, src, total);
    else if (kept != dst)
        memcpy(dst, kept, best);
    *n_out = best;
    return QN_OK;
}
