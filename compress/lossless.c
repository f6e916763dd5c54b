/* lossless.c: picks the codec of a block: candidates in a table; each tries, the smallest wins.
 *
 * Order matters for speed only. See-through codecs come first: each looks at a sample and gives up quickly, and when one
 * finds what the block secretly is, the coders of plain data need not be tried. zstd comes last and must be
 * promising: a second of it costs more than all the others together. */
#include "base/err.h"
#include "base/num.h"
#include "compress/encode.h"
#include "compress/sample.h"
#include <string.h>

/* Which blocks a candidate is tried on. */
enum {
    ON_FLOAT = 1, /* F16 BF16 F32 F64 C64 and the 8-bit floats */
    ON_WIDE = 2,  /* other units of more than one byte         */
    ON_BYTE = 4,  /* other units of one byte                   */
    ON_ALL = 7
};

enum how {
    PLAIN,
    FINAL,       /* when it applies nothing else can be smaller: stop there              */
    SEE_THROUGH, /* not inside a nested payload where it cannot pay; a big win ends it    */
    DISSOLVES,   /* see-through, and all that is worth trying is tried on what it leaves: */
                 /* whatever could be done with the block as it was cannot be better      */
    IF_PROMISING /* slow: only when a cheap look says that it could win                   */
};

struct candidate {
    unsigned codec, on;
    qn_level from, to; /* levels that try it */
    enum how how;
    qn_encode_fn encode;
};

static const struct candidate candidates[] = {
    {QN_CODEC_FILL, ON_ALL, QN_LEVEL_FAST, QN_LEVEL_MAX, FINAL, qn_enc_fill},
    {QN_CODEC_DELTA, ON_ALL, QN_LEVEL_FAST, QN_LEVEL_MAX, SEE_THROUGH, qn_enc_delta},
    {QN_CODEC_PALETTE, ON_ALL, QN_LEVEL_FAST, QN_LEVEL_MAX, SEE_THROUGH, qn_enc_palette},
    {QN_CODEC_ROWDUP, ON_ALL, QN_LEVEL_FAST, QN_LEVEL_MAX, SEE_THROUGH, qn_enc_rowdup},
    {QN_CODEC_DEQUANT, ON_FLOAT, QN_LEVEL_FAST, QN_LEVEL_MAX, DISSOLVES, qn_enc_dequant},
    {QN_CODEC_NARROW, ON_FLOAT, QN_LEVEL_FAST, QN_LEVEL_MAX, DISSOLVES, qn_enc_narrow},
    {QN_CODEC_NARROW, ON_WIDE, QN_LEVEL_FAST, QN_LEVEL_MAX, SEE_THROUGH, qn_enc_narrow},
    {QN_CODEC_SPARSE, ON_FLOAT | ON_WIDE, QN_LEVEL_FAST, QN_LEVEL_MAX, SEE_THROUGH, qn_enc_sparse},
    {QN_CODEC_FAST, ON_FLOAT, QN_LEVEL_FAST, QN_LEVEL_MAX, PLAIN, qn_enc_fast},
    {QN_CODEC_ORDER0, ON_BYTE | ON_FLOAT, QN_LEVEL_FAST, QN_LEVEL_MAX, PLAIN, qn_enc_order0},
    {QN_CODEC_DENSE, ON_FLOAT, QN_LEVEL_DENSE, QN_LEVEL_MAX, PLAIN, qn_enc_dense},
    {QN_CODEC_MAX, ON_FLOAT, QN_LEVEL_MAX, QN_LEVEL_MAX, PLAIN, qn_enc_max},
    {QN_CODEC_SHUFFLE, ON_FLOAT | ON_WIDE, QN_LEVEL_FAST, QN_LEVEL_MAX, PLAIN, qn_enc_shuffle},
    {QN_CODEC_ZSTD, ON_ALL, QN_LEVEL_FAST, QN_LEVEL_MAX, IF_PROMISING, qn_enc_zstd},
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

/* Could zstd come below `best` bytes? It sees repeats, and the order-0 entropy of single bytes. */
static bool zstd_promising(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, size_t best)
{
    const size_t total = (size_t)b->n * qn_unit_bytes(b->dtype);
    if (total <= qn_level_small_bytes(cx->level) || cx->level == QN_LEVEL_MAX || b->dtype == QN_BYTES || b->dtype == QN_BOOL)
        return true;
    if (qn_sample_repeats(src, total) >= 32 || qn_sample_matches(src, (uint32_t)total, 1) >= 24)
        return true;
    const size_t guess = qn_sample_planes(src, (uint32_t)total, 1);
    return guess + guess / 64 < best;
}

/* Is the candidate that gave `best` bytes the last one to try? A see-through that halves a block leaves plain coders, and
 * mostly the other see-throughs, nothing to win. */
static bool decisive(const qn_enc_ctx *cx, const struct candidate *c, size_t best, size_t total)
{
    if (c->how == FINAL || total <= qn_level_small_bytes(cx->level))
        return c->how == FINAL;
    if (c->how == DISSOLVES)
        return true;
    return c->how == SEE_THROUGH &&
           (cx->level == QN_LEVEL_FAST ? best <= total / 2 : cx->level == QN_LEVEL_DENSE && best <= total / 4);
}

static bool tried(const qn_enc_ctx *cx, const struct candidate *c, const qn_block *b, const uint8_t *src, size_t best)
{
    if (!(c->on & kind_of(b->dtype)) || cx->level < c->from || cx->level > c->to)
        return false;
    if (c->how == SEE_THROUGH || c->how == DISSOLVES)
        return !cx->no_lookthrough;
    return c->how != IF_PROMISING || zstd_promising(cx, b, src, best);
}

qn_code qn_encode_best(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                       unsigned *codec, size_t *n_out, qn_err *err)
{
    const size_t total = (size_t)b->n * qn_unit_bytes(b->dtype);
    const qn_arena_mark outer = qn_arena_tell(cx->scratch);
    size_t best = total;
    *codec = QN_CODEC_RAW;
    if (cap < total)
        return QN_BUG(err, "encode_best: room for %zu of %zu bytes", cap, total);
    uint8_t *trial = qn_arena_get(cx->scratch, total, 64, err), *kept = dst;
    if (!trial)
        return QN_E_MEMORY;
    const qn_arena_mark inner = qn_arena_tell(cx->scratch);
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0] && best > 1; i++) {
        const struct candidate *c = &candidates[i];
        size_t n;
        if (!tried(cx, c, b, src, best))
            continue;
        QN_TRY(c->encode(cx, b, src, trial, best - 1, &n, err));
        qn_arena_rewind(cx->scratch, inner);
        if (n == 0)
            continue;
        best = n;
        *codec = c->codec;
        uint8_t *swap = kept;
        kept = trial;
        trial = swap;
        if (decisive(cx, c, best, total))
            break;
    }
    if (*codec == QN_CODEC_RAW)
        memcpy(dst, src, total);
    else if (kept != dst)
        memcpy(dst, kept, best);
    *n_out = best;
    qn_arena_rewind(cx->scratch, outer);
    return QN_OK;
}
