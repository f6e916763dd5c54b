/* dec_trellis.c: windows of a bit string down each column. docs/codecs/trellis.md. */
#include "base/err.h"
#include "runtime/nest.h"
#include "runtime/trellis.h"
#include "runtime/widths.h"

typedef struct plan {
    const qn_block *b;
    unsigned log2_windows;
    uint32_t rows, n_groups, tiles;
    qn_trellis_group *groups;
    uint64_t tile_words, tail_words; /* of all groups: a tile of 32 rows, and the last one */
} plan;

static qn_code make_groups(plan *p, const uint8_t *k, const uint8_t *steps, const qn_dec_ctx *cx, qn_err *err)
{
    const uint32_t cols = p->b->cols, tail = (p->rows - 1) % QN_TRELLIS_TILE + 1;
    p->n_groups = (cols - 1) / QN_TRELLIS_LANES + 1;
    p->tiles = (p->rows - 1) / QN_TRELLIS_TILE + 1;
    p->groups = qn_arena_get(cx->scratch, (uint64_t)p->n_groups * sizeof *p->groups, 64, err);
    if (!p->groups)
        return QN_E_MEMORY;
    for (uint32_t j = 0; j < cols; j++)
        if (k[j] > QN_TRELLIS_K_MAX)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "trellis: column %u has %u bits a weight: allowed are 0 to %d", j, k[j],
                           QN_TRELLIS_K_MAX);
    for (uint32_t i = 0; i < p->n_groups; i++) {
        qn_trellis_group *g = p->groups + i;
        const uint32_t j0 = i * QN_TRELLIS_LANES, n = cols - j0 < QN_TRELLIS_LANES ? cols - j0 : QN_TRELLIS_LANES;
        qn_trellis_group_make(g, p->log2_windows, k + j0, n);
        p->tile_words += qn_trellis_words(g, QN_TRELLIS_TILE);
        p->tail_words += qn_trellis_words(g, tail);
        for (uint32_t lane = 0; lane < n; lane++) {
            const float v = qn_bits_f32((uint32_t)qn_load16(steps + 2 * (j0 + lane)) << 16);
            const bool zero = qn_f32_bits(v) == 0;
            if (!(v >= QN_TRELLIS_STEP_MIN && v <= QN_TRELLIS_STEP_MAX) && !zero)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "trellis: column %u has the step %g: allowed are 0 and 2^-100 to 2^100",
                               j0 + lane, (double)v);
            if (g->k[lane] == 0 && !zero)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "trellis: column %u has a step but no bits", j0 + lane);
            g->step[lane] = v;
        }
    }
    return QN_OK;
}

/* What comes before the first bit of each lane's string: its last L − K bits, or zeros when it has not as many. */
static qn_code bite_tails(plan *p, const uint8_t *words, qn_err *err)
{
    uint64_t at = 0; /* of the group in its tile */
    uint64_t tail_at = (uint64_t)(p->tiles - 1) * p->tile_words;
    const uint32_t tail = (p->rows - 1) % QN_TRELLIS_TILE + 1;
    for (uint32_t i = 0; i < p->n_groups; i++) {
        qn_trellis_group *g = p->groups + i;
        for (uint32_t lane = 0; lane < g->n; lane++) {
            const uint32_t k = g->k[lane], n = k * tail; /* bits in the last tile */
            if (k == 0)
                continue;
            const uint32_t n_words = (n - 1) / 32 + 1, spare = n_words * 32 - n;
            const uint32_t low = qn_load32(words + 4 * (tail_at + qn_trellis_place(g, lane, n_words - 1)));
            uint32_t high = 0;
            if (n_words > 1)
                high = qn_load32(words + 4 * (tail_at + qn_trellis_place(g, lane, n_words - 2)));
            else if (p->tiles > 1)
                high = qn_load32(words + 4 * ((uint64_t)(p->tiles - 2) * p->tile_words + at + qn_trellis_place(g, lane, k - 1)));
            const uint64_t both = (uint64_t)high << 32 | low;
            if (both & ((UINT64_C(1) << spare) - 1))
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "trellis: bits behind the end of column %u", i * QN_TRELLIS_LANES + lane);
            if (k < p->log2_windows && (uint64_t)k * p->rows >= p->log2_windows - k)
                g->last[lane] = (uint32_t)(both >> spare) & ((1u << (p->log2_windows - k)) - 1);
        }
        at += qn_trellis_words(g, QN_TRELLIS_TILE);
        tail_at += qn_trellis_words(g, tail);
    }
    return QN_OK;
}

qn_code qn_dec_trellis(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    plan p = {.b = b, .rows = b->n / b->cols};
    qn_code rc;
    p.log2_windows = qn_cur_u8(&c);
    if (!qn_trellis_dtype(b->dtype) || b->n % b->cols)
        return QN_FAIL(err, QN_E_INPUT, 0, "trellis: %u units of %s in rows of %u: allowed are whole rows of F32, F16, BF16", b->n,
                       qn_dtype_name(b->dtype), b->cols);
    if (c.failed || p.log2_windows < QN_TRELLIS_L_MIN || p.log2_windows > QN_TRELLIS_L_MAX)
        return QN_FAIL(err, QN_E_INPUT, 0, "trellis: windows of %u bits: allowed are %d to %d", p.log2_windows, QN_TRELLIS_L_MIN,
                       QN_TRELLIS_L_MAX);
    const qn_block kb = {QN_U8, b->cols, b->cols}, sb = {QN_BF16, b->cols, b->cols};
    const uint8_t *k = qn_nest_get(cx, &c, &kb, "trellis: bits of columns", &rc, err);
    const uint8_t *steps = k ? qn_nest_get(cx, &c, &sb, "trellis: steps of columns", &rc, err) : NULL;
    if (!steps)
        return rc;
    QN_TRY(make_groups(&p, k, steps, cx, err));
    const uint64_t want = 4 * ((p.tiles - 1) * p.tile_words + p.tail_words);
    const size_t left = qn_cur_left(&c);
    if (left != want)
        return QN_FAIL(err, QN_E_INPUT, c.at, "trellis: %zu bytes of words found, expected are %llu", left, (unsigned long long)want);
    const uint8_t *words = payload + c.at;
    QN_TRY(bite_tails(&p, words, err));
    const size_t unit = qn_unit_bytes(b->dtype), row_bytes = unit * b->cols;
    const qn_trellis_tile_fn run = cx->kern->trellis.tile[qn_trellis_out_of(b->dtype)];
    const uint8_t *const end = words + left;
    qn_trellis_tile t = {.mask = (1u << p.log2_windows) - 1};
    for (uint32_t row = 0; row < p.rows; row += QN_TRELLIS_TILE) {
        t.rows = p.rows - row < QN_TRELLIS_TILE ? p.rows - row : QN_TRELLIS_TILE;
        for (uint32_t i = 0; i < p.n_groups; i++) {
            t.words = words;
            t.n_bytes = (size_t)(end - words);
            run(p.groups + i, &t, dst + row * row_bytes + unit * QN_TRELLIS_LANES * i, row_bytes);
            words += 4 * (size_t)qn_trellis_words(p.groups + i, t.rows);
        }
    }
    return QN_OK;
}
