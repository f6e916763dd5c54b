/* dec_pvq.c: groups of 16 or 32 weights down a column, each a point of a pyramid and a length. docs/codecs/pvq.md. */
#include "base/err.h"
#include "base/half.h"
#include "runtime/nest.h"
#include "runtime/pvq_walk.h"
#include "runtime/pvq_shells.h"
#include <string.h>

typedef struct plan {
    const qn_block *b;
    uint32_t n, rows;
    float base;
    unsigned n_classes;
    qn_pvq_class cls[QN_PVQ_CLASSES];
    uint32_t *order;      /* (cols) columns, class after class, ascending within each         */
    const uint8_t *row_scale;
    float *col_scale;     /* (cols) by place */
    const float *inverse; /* [q] = 1/√q for q ≤ the largest K²; [0] = 0 */
    qn_pvq_walk walk;
    /* work of one block of rows, by place */
    uint32_t *norm2;      /* (cols) */
    float *amplitude;     /* (cols) */
} plan;

static qn_code read_classes(plan *p, qn_cur *c, qn_arena *scratch, qn_err *err)
{
    const uint64_t n = qn_cur_varint(c);
    unsigned before = 0, most = 0;
    if (c->failed || n == 0 || n > QN_PVQ_CLASSES)
        return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: %llu classes of columns: allowed are 1 to %d", (unsigned long long)n,
                       QN_PVQ_CLASSES);
    p->n_classes = (unsigned)n;
    for (unsigned i = 0; i < n; i++) {
        const unsigned pulses = qn_cur_u8(c), gain = qn_cur_u8(c), key = pulses << 8 | gain;
        if (c->failed || pulses > QN_PVQ_PULSES || gain > QN_PVQ_GAIN_BITS || (pulses == 0 && gain) || (i && key <= before) ||
            qn_pvq_bits(p->n, pulses) > 128)
            return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: class %u: %u pulses on %u rows and %u bits of gain", i, pulses, p->n, gain);
        before = key;
        most = pulses;
        p->cls[i] = (qn_pvq_class){.pulses = (uint8_t)pulses, .gain_bits = (uint8_t)gain};
    }
    QN_TRY(qn_pvq_walk_open(&p->walk, p->n, p->rows, p->b->cols, most, scratch, err));
    const qn_pvq_tab *all = p->walk.tab + qn_pvq_tier(&p->walk, most);
    for (qn_pvq_class *k = p->cls; k < p->cls + n; k++) {
        (void)qn_pvq_short_k(all, k->pulses, k->gain_bits, p->n, &k->width);
        k->short_k = p->walk.tail ? qn_pvq_short_k(all, k->pulses, k->gain_bits, p->walk.tail, &k->short_width) : 0;
    }
    return QN_OK;
}

/* Which column is of which class; class numbers are checked. */
static qn_code sort_columns(plan *p, const uint8_t *of, qn_arena *scratch, qn_err *err)
{
    const uint32_t cols = p->b->cols;
    uint32_t first[QN_PVQ_CLASSES + 1] = {0};
    p->order = qn_arena_get(scratch, (uint64_t)cols * 4, 64, err);
    if (!p->order)
        return QN_E_MEMORY;
    for (uint32_t j = 0; j < cols; j++) {
        const unsigned k = of ? of[j] : 0;
        if (k >= p->n_classes)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pvq: column %u is of class %u of %u", j, k, p->n_classes);
        p->cls[k].n_cols++;
    }
    for (unsigned k = 0; k < p->n_classes; k++)
        first[k + 1] = first[k] + p->cls[k].n_cols;
    bool moved = false;
    for (uint32_t j = 0; j < cols; j++) {
        const uint32_t at = first[of ? of[j] : 0]++;
        p->order[at] = j;
        p->walk.pos[j] = at;
        moved |= at != j;
    }
    if (!moved)
        p->walk.pos = NULL;
    return QN_OK;
}

static qn_code work_space(plan *p, const uint8_t *col_scale, qn_arena *scratch, qn_err *err)
{
    const uint64_t cols = p->b->cols;
    const uint32_t most = p->walk.k_most;
    float *inverse = qn_arena_get(scratch, ((uint64_t)most * most + 1) * sizeof *inverse, 64, err);
    p->norm2 = qn_arena_get(scratch, cols * sizeof *p->norm2, 64, err);
    p->amplitude = qn_arena_get(scratch, cols * sizeof *p->amplitude, 64, err);
    p->col_scale = qn_arena_get(scratch, cols * sizeof *p->col_scale, 64, err);
    if (!inverse || !p->norm2 || !p->amplitude || !p->col_scale)
        return QN_E_MEMORY;
    for (uint32_t at = 0; at < cols; at++)
        p->col_scale[at] = qn_pvq_scale(col_scale[p->order[at]]);
    inverse[0] = 0;
    for (uint32_t q = 1; q <= most * most; q++)
        inverse[q] = qn_pvq_inverse_root(q);
    p->inverse = inverse;
    return QN_OK;
}

/* The groups of one class in one block of m rows: indices from the end, and lengths to p->amplitude, from place `at` on. */
static qn_code read_groups(plan *p, const qn_pvq_class *k, uint32_t m, uint8_t row_scale, const uint8_t *bytes, size_t n_bytes,
                           uint64_t bit, uint32_t at, qn_err *err)
{
    const bool whole = m == p->n;
    const uint32_t pulses = whole ? k->pulses : k->short_k;
    const unsigned width = whole ? k->width : k->short_width, gain = width ? k->gain_bits : 0, bits = width - gain;
    const qn_u128 last = p->walk.of[!whole][pulses].last;
    const uint64_t index_mask = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
    const uint32_t level_mask = (1u << gain) - 1;
    const float row = p->base * qn_pvq_scale(row_scale);
    float level[1 << QN_PVQ_GAIN_BITS];
    bool over = false;
    for (uint32_t i = 0; i <= level_mask; i++)
        level[i] = (float)qn_pvq_gain_levels(p->n, gain)[i] / 4096.0f;
    memset(p->walk.k + at, (int)pulses, k->n_cols);
    for (uint32_t i = at; i < at + k->n_cols; i++, bit += width) {
        uint64_t g;
        if (width <= 57 && n_bytes - bit / 8 >= 8) { /* both in one load */
            const uint64_t v = qn_load64(bytes + bit / 8) >> bit % 8, index = v & index_mask;
            g = v >> bits & level_mask;
            over |= index > last.lo;
            p->walk.from_end[i] = last.lo - index;
            if (p->walk.wide) /* short groups of a class whose whole ones are wide */
                p->walk.wide[i] = qn_u128_of(last.lo - index);
        } else {
            const unsigned low = bits < 64 ? bits : 64;
            const qn_u128 index = {qn_pvq_field(bytes, n_bytes, bit, low), qn_pvq_field(bytes, n_bytes, bit + low, bits - low)};
            g = qn_pvq_field(bytes, n_bytes, bit + bits, gain);
            over |= !qn_u128_le(index, last);
            p->walk.from_end[i] = last.lo - index.lo;
            if (p->walk.wide)
                p->walk.wide[i] = qn_u128_sub(last, index);
        }
        p->amplitude[i] = row * p->col_scale[i] * level[g];
    }
    if (over)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pvq: the number of a point is not below that of the points of P(%u, %u)", m,
                       pulses);
    return QN_OK;
}

/* Classes are in the order of their K, and so are the tiers. Points of short groups are walked in the tables of whole ones. */
static void walk_points(plan *p, const qn_kern *kern, uint32_t m)
{
    uint32_t first = 0, count = 0;
    unsigned tier = 0;
    for (unsigned i = 0; i < p->n_classes; i++) {
        const unsigned next = qn_pvq_tier(&p->walk, p->cls[i].pulses);
        if (next != tier) {
            qn_pvq_walk_points(&p->walk, kern, m, tier, first, count);
            first += count;
            count = 0;
            tier = next;
        }
        count += p->cls[i].n_cols;
    }
    qn_pvq_walk_points(&p->walk, kern, m, tier, first, count);
}

static qn_code decode_rows(plan *p, const qn_kern *kern, qn_cur *c, uint32_t row, uint8_t *dst, qn_err *err)
{
    static const float no_shift[2] = {0, 0};
    const uint32_t cols = p->b->cols, m = p->rows - row < p->n ? p->rows - row : p->n;
    uint64_t bits = 0;
    for (unsigned i = 0; i < p->n_classes; i++)
        bits += (uint64_t)p->cls[i].n_cols * (m == p->n ? p->cls[i].width : p->cls[i].short_width);
    const size_t n_bytes = (size_t)((bits + 7) / 8);
    const uint8_t *bytes = qn_cur_take(c, n_bytes);
    if (!bytes)
        return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: %zu bytes of groups expected from row %u on", n_bytes, row);
    if (bits % 8 && bytes[n_bytes - 1] >> bits % 8)
        return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: bits behind the last group");
    uint64_t bit = 0;
    for (uint32_t i = 0, at = 0; i < p->n_classes; i++) {
        const qn_pvq_class *k = p->cls + i;
        QN_TRY(read_groups(p, k, m, p->row_scale[row / p->n], bytes, n_bytes, bit, at, err));
        bit += (uint64_t)k->n_cols * (m == p->n ? k->width : k->short_width);
        at += k->n_cols;
    }
    walk_points(p, kern, m);
    kern->pvq.norms(p->walk.y, cols, m, cols, p->norm2);
    for (uint32_t at = 0; at < cols; at++)
        p->walk.scale[p->order[at]] = p->amplitude[at] * p->inverse[p->norm2[at]];
    qn_pvq_walk_rows(&p->walk, kern, m, p->b->dtype, no_shift, dst);
    return QN_OK;
}

qn_code qn_dec_pvq(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    plan p = {.b = b, .rows = b->n / b->cols};
    qn_code rc;
    const uint8_t *of = NULL, *col_scale;
    if (!qn_pvq_dtype(b->dtype) || b->n % b->cols)
        return QN_FAIL(err, QN_E_INPUT, 0, "pvq: %u units of %s in rows of %u: allowed are whole rows of F32, F16, BF16", b->n,
                       qn_dtype_name(b->dtype), b->cols);
    const unsigned form = qn_cur_u8(&c), log2_n = form & ~QN_PVQ_SHELLS;
    p.base = qn_bits_f32(qn_cur_u32(&c));
    if (c.failed || (log2_n != 4 && (log2_n != 5 || form & QN_PVQ_SHELLS)))
        return QN_FAIL(err, QN_E_INPUT, 0, "pvq: form %u: known are 4, 5 and 132", form);
    if (!(p.base >= QN_PVQ_BASE_MIN && p.base <= QN_PVQ_BASE_MAX))
        return QN_FAIL(err, QN_E_INPUT, 1, "pvq: scale %g: allowed are 2^-64 to 2^64", (double)p.base);
    p.n = 1u << log2_n;
    if (form & QN_PVQ_SHELLS)
        return qn_pvq_shells(cx, b, p.base, &c, dst, err);
    QN_TRY(read_classes(&p, &c, cx->scratch, err));
    const uint32_t n_blocks = (uint32_t)qn_ceil_div(p.rows, p.n);
    const qn_block per_col = {QN_U8, b->cols, b->cols}, per_row = {QN_U8, n_blocks, n_blocks};
    if (p.n_classes > 1 && !(of = qn_nest_get(cx, &c, &per_col, "pvq: classes", &rc, err)))
        return rc;
    if (!(col_scale = qn_nest_get(cx, &c, &per_col, "pvq: scales of columns", &rc, err)) ||
        !(p.row_scale = qn_nest_get(cx, &c, &per_row, "pvq: scales of rows", &rc, err)))
        return rc;
    QN_TRY(sort_columns(&p, of, cx->scratch, err));
    QN_TRY(work_space(&p, col_scale, cx->scratch, err));
    for (uint32_t row = 0; row < p.rows; row += p.n)
        QN_TRY(decode_rows(&p, cx->kern, &c, row, dst + (size_t)row * b->cols * qn_unit_bytes(b->dtype), err));
    return qn_nest_end(&c, "pvq", err);
}
