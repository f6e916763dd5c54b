/* decode.c (dfloat11): ranges of weights, block by block of codes. A block is decoded from its own beginning, which its first gap gives, and must end
 * where the next one begins: a damaged one is found out. */
#include "base/err.h"
#include "base/num.h"
#include "formats/dfloat11/dfloat11.h"
#include <string.h>

struct block {
    uint8_t *codes;    /* room bytes: those of the block, and zeros or the next block's behind them */
    uint64_t room;
    uint64_t n_bits;   /* codes begin before that                                                   */
    uint64_t bit;      /* where the first one begins                                                */
    uint64_t expected; /* that the block before says; UINT64_MAX: not known                         */
};

static qn_code bad(const qn_df11_coded *g, const char *what, qn_err *err)
{
    return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "DFloat11: %s", what), g->module);
}

static qn_code read_gap(qn_source *s, const qn_df11_coded *g, uint64_t slice, uint64_t *gap, qn_err *err)
{
    uint8_t two[2] = {0};
    const uint64_t at = slice * 5 / 8, n = s->objects[g->gaps].n_bytes;
    QN_TRY(qn_source_read(s, g->gaps, at, qn_min_u64(2, n - at), two, err));
    *gap = ((unsigned)two[0] << 8 | two[1]) >> (11 - slice * 5 % 8) & 31;
    return QN_OK;
}

static qn_code read_block(qn_source *s, const qn_df11_coded *g, uint64_t b, struct block *x, qn_err *err)
{
    const uint64_t bytes = (uint64_t)s->df11->threads * s->df11->slice, at = b * bytes;
    const uint64_t n = qn_min_u64(bytes + 8, g->n_bytes - at);
    QN_TRY(qn_source_read(s, g->codes, at, n, x->codes, err));
    memset(x->codes + n, 0, x->room - n);
    x->n_bits = qn_min_u64(bytes, g->n_bytes - at) * 8;
    return read_gap(s, g, b * s->df11->threads, &x->bit, err);
}

/* The exponents of a block's first n weights, those from `skip` on to dst. *bit: where the one after them would begin. */
static bool decode(const qn_df11_coded *g, const struct block *x, uint64_t skip, uint64_t n, uint8_t *dst, uint64_t *end)
{
    const uint8_t *lengths = g->luts + 256 * (size_t)(g->n_rows - 1);
    uint64_t bit = x->bit;
    for (uint64_t i = 0; i < n; i++) {
        if (bit >= x->n_bits)
            return false;
        const uint8_t *p = x->codes + bit / 8;
        const uint64_t window = ((uint64_t)p[0] << 32 | (uint64_t)p[1] << 24 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 8 | p[4]) << (24 + bit % 8);
        unsigned e = g->luts[window >> 56];
        for (unsigned k = 1; k < 4 && e >= QN_DF11_POINTER; k++) {
            if (256 - e > g->n_rows - 2)
                return false;
            e = g->luts[256 * (256 - e) + (window >> (56 - 8 * k) & 255)];
        }
        if (e >= QN_DF11_POINTER || lengths[e] == 0)
            return false;
        bit += lengths[e];
        if (i >= skip)
            dst[i - skip] = (uint8_t)e;
    }
    *end = bit;
    return true;
}

/* Weights [first, first + n) of block b, which has them, in place of the sign and mantissa bytes at the end of dst. */
static qn_code read_part(qn_source *s, const qn_df11_coded *g, uint64_t b, uint64_t first, uint64_t n, struct block *x, uint8_t *e, uint8_t *rest,
                         uint8_t *dst, qn_err *err)
{
    const uint64_t start = g->position[b], skip = first - start, all = g->position[b + 1] - start;
    uint64_t end;
    QN_TRY(read_block(s, g, b, x, err));
    if (x->expected != UINT64_MAX && x->expected != x->bit)
        return bad(g, "a gap that the codes before it do not leave", err);
    if (!decode(g, x, skip, skip + n, e, &end) || end > g->n_bytes * 8 - b * s->df11->threads * s->df11->slice * 8)
        return bad(g, "codes that no table has, or fewer of them than weights", err);
    if (skip + n == all && b + 1 < g->n_blocks && end < x->n_bits && g->position[b + 1] < g->n)
        return bad(g, "more codes than weights", err);
    x->expected = skip + n == all && end >= x->n_bits ? end - x->n_bits : UINT64_MAX;
    QN_TRY(qn_source_read(s, g->rest, first, n, rest, err));
    for (uint64_t i = 0; i < n; i++) {
        dst[2 * i] = (uint8_t)(e[i] << 7 | (rest[i] & 127));
        dst[2 * i + 1] = (uint8_t)((rest[i] & 128) | e[i] >> 1);
    }
    return QN_OK;
}

/* The block that has weight i: the last that begins at or before it. */
static uint64_t find_block(const qn_df11_coded *g, uint64_t i)
{
    uint64_t lo = 0, hi = g->n_blocks - 1;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo + 1) / 2;
        if (g->position[mid] <= i)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static qn_code read_weights(qn_source *s, const qn_df11_coded *g, uint64_t first, uint64_t n, uint8_t *dst, qn_err *err)
{
    const uint64_t bytes = (uint64_t)s->df11->threads * s->df11->slice;
    struct block x = {.room = bytes + 16, .expected = UINT64_MAX};
    uint8_t *mem = qn_mem_get(s->env->alloc, x.room + 2 * bytes * 8, err);
    qn_code rc = mem ? QN_OK : QN_E_MEMORY;
    x.codes = mem;
    for (uint64_t b = find_block(g, first); n && rc == QN_OK; b++) {
        /* positions end at n, so a range within it ends before the blocks do */
        const uint64_t m = qn_min_u64(n, g->position[b + 1] - first);
        if (m > bytes * 8) {
            rc = bad(g, "a block has more weights than bits", err);
            break;
        }
        if (m == 0)
            continue;
        rc = read_part(s, g, b, first, m, &x, mem + x.room, mem + x.room + bytes * 8, dst, err);
        first += m;
        n -= m;
        dst += 2 * m;
    }
    qn_mem_put(s->env->alloc, mem);
    return rc;
}

qn_code qn_df11_read_weight(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    const qn_df11_weight *w = &s->df11->weights[tensor - s->df11->first];
    const qn_df11_coded *g = &s->df11->groups[w->group];
    uint8_t two[2];
    if (off % 2) { /* half of a weight at the front … */
        QN_TRY(read_weights(s, g, w->first + off / 2, 1, two, err));
        *dst++ = two[1];
        off++;
        n--;
    }
    if (n / 2)
        QN_TRY(read_weights(s, g, w->first + off / 2, n / 2, dst, err));
    if (n % 2) { /* … and at the end */
        QN_TRY(read_weights(s, g, w->first + (off + n) / 2, 1, two, err));
        dst[n - 1] = two[0];
    }
    return QN_OK;
}
