/* dec_pvq_shells.c: groups that tell the norm K of their point, then its number inside that shell. docs/codecs/pvq.md.
 *
 * The norms come first, as bytes in one nested payload for each context; all sizes follow from them. Then each block of rows
 * has a string of bits, with one number for each column. */
#include "runtime/pvq_shells.h"
#include "base/err.h"
#include "runtime/nest.h"
#include "runtime/pvq_walk.h"
#include <string.h>

typedef struct plan {
    const qn_block *b;
    unsigned n_contexts;
    const uint8_t *col, *row;              /* (cols), (blocks): contexts; NULL when there is one for all */
    const uint8_t *norm[QN_PVQ_CONTEXTS];  /* the next one of a context */
    float shift[2];
    uint64_t *n_short[2];                  /* (k_most + 1): how many numbers are a bit shorter; below 2^64 points */
    uint8_t *k;                            /* (cols): of the block at hand, by column */
    qn_pvq_walk walk;
} plan;

static qn_code read_contexts(plan *p, qn_cur *c, const qn_dec_ctx *cx, uint32_t n_blocks, qn_err *err)
{
    const qn_block per_col = {QN_U8, p->b->cols, p->b->cols}, per_row = {QN_U8, n_blocks, n_blocks};
    const uint64_t n = qn_cur_varint(c);
    qn_code rc;
    if (c->failed || n == 0 || n > QN_PVQ_CONTEXTS)
        return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: %llu contexts of norms: allowed are 1 to %d", (unsigned long long)n,
                       QN_PVQ_CONTEXTS);
    p->n_contexts = (unsigned)n;
    if (n > 1 && (!(p->col = qn_nest_get(cx, c, &per_col, "pvq: contexts of columns", &rc, err)) ||
                  !(p->row = qn_nest_get(cx, c, &per_row, "pvq: contexts of rows", &rc, err))))
        return rc;
    return QN_OK;
}

/* All norms, and the largest. */
static qn_code read_norms(plan *p, qn_cur *c, const qn_dec_ctx *cx, uint32_t n_blocks, uint32_t *most, qn_err *err)
{
    uint32_t count[QN_PVQ_CONTEXTS] = {0}, by_col[256] = {0};
    qn_code rc;
    for (uint32_t j = 0; j < p->b->cols; j++)
        by_col[p->col ? p->col[j] : 0]++;
    for (uint32_t b = 0; b < n_blocks; b++)
        for (unsigned i = 0; i < 256; i++)
            count[qn_pvq_context(i, p->row ? p->row[b] : 0, p->n_contexts)] += by_col[i];
    *most = 0;
    for (unsigned i = 0; i < p->n_contexts; i++) {
        const qn_block all = {QN_U8, count[i], count[i]};
        if (count[i] == 0)
            continue;
        const uint8_t *k = qn_nest_get(cx, c, &all, "pvq: norms", &rc, err);
        if (!k)
            return rc;
        for (uint32_t a = 0; a < count[i]; a++)
            *most = k[a] > *most ? k[a] : *most;
        p->norm[i] = k;
    }
    return QN_OK;
}

static qn_code count_short(plan *p, const qn_dec_ctx *cx, qn_err *err)
{
    for (unsigned i = 0; i < 2; i++) {
        p->n_short[i] = qn_arena_get(cx->scratch, (p->walk.k_most + 1) * sizeof *p->n_short[i], 64, err);
        if (!p->n_short[i])
            return QN_E_MEMORY;
        for (uint32_t k = 0; k <= p->walk.k_most && (i == 0 || p->walk.tail); k++)
            p->n_short[i][k] = qn_pvq_n_short(p->walk.of[i][k].last, p->walk.of[i][k].bits).lo;
    }
    return QN_OK;
}

/* Norms and places of one block; first[t]: the first place of tier t. */
static void place(plan *p, uint32_t block, uint32_t first[QN_PVQ_TIERS + 1])
{
    const uint32_t cols = p->b->cols;
    uint32_t next[QN_PVQ_TIERS], count[QN_PVQ_TIERS] = {0};
    uint8_t tier[QN_PVQ_PULSES + 1];
    for (uint32_t k = 0; k <= p->walk.k_most; k++)
        tier[k] = (uint8_t)qn_pvq_tier(&p->walk, k);
    for (uint32_t j = 0; j < cols; j++) {
        const unsigned context = p->col ? qn_pvq_context(p->col[j], p->row[block], p->n_contexts) : 0;
        p->k[j] = *p->norm[context]++;
        count[tier[p->k[j]]]++;
    }
    first[0] = 0;
    for (unsigned t = 0; t < QN_PVQ_TIERS; t++) {
        next[t] = first[t];
        first[t + 1] = first[t] + count[t];
    }
    for (uint32_t j = 0; j < cols; j++) {
        const uint32_t at = next[tier[p->k[j]]]++;
        p->walk.pos[j] = at;
        p->walk.k[at] = p->k[j];
    }
}

/* A number of two limbs. */
static qn_u128 wide_number(const uint8_t *bytes, size_t n_bytes, uint64_t *bit, const qn_pvq_index_of *of)
{
    const unsigned high = of->bits - 1, low = high < 64 ? high : 64;
    const qn_u128 v = {qn_pvq_field(bytes, n_bytes, *bit, low), qn_pvq_field(bytes, n_bytes, *bit + low, high - low)};
    const qn_u128 n_short = qn_pvq_n_short(of->last, of->bits);
    *bit += high;
    if (!qn_u128_le(n_short, v))
        return v;
    const qn_u128 twice = {v.lo << 1 | qn_pvq_field(bytes, n_bytes, *bit, 1), v.hi << 1 | v.lo >> 63};
    ++*bit;
    return qn_u128_sub(twice, n_short);
}

/* The numbers of the block's groups to their places, counted from the end. */
static qn_code read_numbers(plan *p, bool whole, qn_cur *c, qn_err *err)
{
    const size_t n_bytes = qn_cur_left(c);
    const uint8_t *bytes = c->p + c->at;
    const uint64_t room = (uint64_t)n_bytes * 8;
    const qn_pvq_index_of *of = p->walk.of[!whole];
    const uint64_t *n_short = p->n_short[!whole];
    uint64_t bit = 0;
    for (uint32_t j = 0; j < p->b->cols; j++) {
        const uint32_t k = p->k[j], at = p->walk.pos[j];
        const unsigned bits = of[k].bits;
        if (bits > 0 && bit + bits - 1 > room)
            return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: the numbers of points end early");
        uint64_t v = 0;
        if (bits > 64) {
            p->walk.wide[at] = qn_u128_sub(of[k].last, wide_number(bytes, n_bytes, &bit, of + k));
            continue;
        }
        if (bits > 0 && bits <= 56 && n_bytes - bit / 8 >= 8) {
            const uint64_t word = qn_load64(bytes + bit / 8) >> bit % 8;
            v = word & ((UINT64_C(1) << (bits - 1)) - 1);
            const bool is_long = v >= n_short[k];
            v = is_long ? 2 * v + (word >> (bits - 1) & 1) - n_short[k] : v;
            bit += bits - 1 + is_long;
        } else if (bits > 0) {
            v = qn_pvq_field(bytes, n_bytes, bit, bits - 1);
            bit += bits - 1;
            if (v >= n_short[k]) {
                if (bit == room)
                    return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: the numbers of points end early");
                v = 2 * v + qn_pvq_field(bytes, n_bytes, bit, 1) - n_short[k];
                bit++;
            }
        }
        p->walk.from_end[at] = of[k].last.lo - v;
        if (p->walk.wide)
            p->walk.wide[at] = qn_u128_of(p->walk.from_end[at]);
    }
    if (bit > room)
        return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: the numbers of points end early");
    const size_t used = (size_t)((bit + 7) / 8);
    if (bit % 8 && bytes[used - 1] >> bit % 8)
        return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: bits behind the last group");
    (void)qn_cur_take(c, used);
    return QN_OK;
}

qn_code qn_pvq_shells(const qn_dec_ctx *cx, const qn_block *b, float base, qn_cur *c, uint8_t *dst, qn_err *err)
{
    const uint32_t n = QN_PVQ_SHELL_N, rows = b->n / b->cols, n_blocks = (uint32_t)qn_ceil_div(rows, n);
    const qn_block per_col = {QN_U8, b->cols, b->cols};
    plan p = {.b = b};
    uint32_t most, first[QN_PVQ_TIERS + 1];
    qn_code rc;
    for (unsigned i = 0; i < 2; i++)
        p.shift[i] = (float)(int8_t)qn_cur_u8(c) / 256.0f;
    const uint8_t *step = qn_nest_get(cx, c, &per_col, "pvq: steps of columns", &rc, err);
    if (!step)
        return rc;
    QN_TRY(read_contexts(&p, c, cx, n_blocks, err));
    QN_TRY(read_norms(&p, c, cx, n_blocks, &most, err));
    if (most > QN_PVQ_PULSES)
        return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: a group of %u rows has %u pulses: allowed are 0 to %d", n, most, QN_PVQ_PULSES);
    QN_TRY(qn_pvq_walk_open(&p.walk, n, rows, b->cols, most, cx->scratch, err));
    QN_TRY(count_short(&p, cx, err));
    if (!(p.k = qn_arena_get(cx->scratch, b->cols, 64, err)))
        return QN_E_MEMORY;
    for (uint32_t j = 0; j < b->cols; j++)
        p.walk.scale[j] = base * qn_pvq_scale(step[j]);
    for (uint32_t block = 0; block < n_blocks; block++) {
        const uint32_t m = rows - block * n < n ? rows - block * n : n;
        place(&p, block, first);
        QN_TRY(read_numbers(&p, m == n, c, err));
        for (unsigned t = 0; t < QN_PVQ_TIERS; t++)
            qn_pvq_walk_points(&p.walk, cx->kern, m, t, first[t], first[t + 1] - first[t]);
        qn_pvq_walk_rows(&p.walk, cx->kern, m, b->dtype, p.shift, dst + (size_t)block * n * b->cols * qn_unit_bytes(b->dtype));
    }
    return qn_nest_end(c, "pvq", err);
}
