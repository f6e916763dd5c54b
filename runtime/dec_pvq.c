/* dec_pvq.c: groups of 16 or 32 weights down a column, each a point of a pyramid and a length. docs/codecs/pvq.md. */
#include "base/err.h"
#include "base/half.h"
#include "runtime/nest.h"
#include "runtime/pvq_codec.h"
#include <string.h>

enum { PIECE = 256 };

typedef struct plan {
    const qn_block *b;
    uint32_t n, rows;
    float base;
    unsigned n_classes;
    qn_pvq_class cls[QN_PVQ_CLASSES];
    uint32_t *order;      /* (cols) columns, class after class, ascending within each         */
    uint32_t *pos;        /* (cols) place of a column in `order`; NULL when that is its number */
    const uint8_t *row_scale;
    float *col_scale;     /* (cols) in the order of `order` */
    const float *inverse; /* [q] = 1/√q for q ≤ the largest K²; [0] = 0 */
    /* work of one block of rows */
    int8_t *y;            /* (n, cols) in the order of `order` */
    uint32_t *norm2;      /* (cols) likewise                   */
    float *amplitude;     /* (cols) likewise                   */
    float *scale;         /* (cols) in the order of columns    */
} plan;

static qn_code read_classes(plan *p, qn_cur *c, const qn_dec_ctx *cx, qn_err *err)
{
    const uint64_t n = qn_cur_varint(c);
    const uint32_t tail = p->rows % p->n;
    unsigned before = 0;
    if (c->failed || n == 0 || n > QN_PVQ_CLASSES)
        return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: %llu classes of columns: allowed are 1 to %d", (unsigned long long)n,
                       QN_PVQ_CLASSES);
    p->n_classes = (unsigned)n;
    for (unsigned i = 0; i < n; i++) {
        qn_pvq_class *k = p->cls + i;
        const unsigned pulses = qn_cur_u8(c), gain = qn_cur_u8(c), key = pulses << 8 | gain;
        if (c->failed || pulses > QN_PVQ_PULSES || gain > QN_PVQ_GAIN_BITS || (pulses == 0 && gain) || (i && key <= before) ||
            qn_pvq_bits(p->n, pulses) > QN_PVQ_FIELD)
            return QN_FAIL(err, QN_E_INPUT, c->at, "pvq: class %u: %u pulses on %u rows and %u bits of gain", i, pulses, p->n, gain);
        before = key;
        QN_TRY(qn_pvq_tab_make(&k->tab, p->n, pulses, cx->scratch, err));
        k->gain_bits = gain;
        (void)qn_pvq_short_k(&k->tab, gain, p->n, &k->width);
        k->short_k = tail ? qn_pvq_short_k(&k->tab, gain, tail, &k->short_width) : 0;
    }
    return QN_OK;
}

/* Which column is of which class; class numbers are checked. */
static qn_code sort_columns(plan *p, const uint8_t *of, const qn_dec_ctx *cx, qn_err *err)
{
    const uint32_t cols = p->b->cols;
    uint32_t first[QN_PVQ_CLASSES + 1] = {0};
    p->order = qn_arena_get(cx->scratch, (uint64_t)cols * 4, 64, err);
    p->pos = qn_arena_get(cx->scratch, (uint64_t)cols * 4, 64, err);
    if (!p->order || !p->pos)
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
        p->pos[j] = at;
        moved |= at != j;
    }
    if (!moved)
        p->pos = NULL;
    return QN_OK;
}

static qn_code work_space(plan *p, const uint8_t *col_scale, const qn_dec_ctx *cx, qn_err *err)
{
    const uint64_t cols = p->b->cols, height = p->rows < p->n ? p->rows : p->n;
    uint32_t most = 0;
    for (unsigned i = 0; i < p->n_classes; i++)
        most = p->cls[i].tab.k > most ? p->cls[i].tab.k : most;
    float *inverse = qn_arena_get(cx->scratch, ((uint64_t)most * most + 1) * sizeof *inverse, 64, err);
    p->y = qn_arena_get(cx->scratch, height * cols, 64, err);
    p->norm2 = qn_arena_get(cx->scratch, cols * sizeof *p->norm2, 64, err);
    p->amplitude = qn_arena_get(cx->scratch, cols * sizeof *p->amplitude, 64, err);
    p->scale = qn_arena_get(cx->scratch, cols * sizeof *p->scale, 64, err);
    p->col_scale = qn_arena_get(cx->scratch, cols * sizeof *p->col_scale, 64, err);
    if (!inverse || !p->y || !p->norm2 || !p->amplitude || !p->scale || !p->col_scale)
        return QN_E_MEMORY;
    for (uint32_t at = 0; at < cols; at++)
        p->col_scale[at] = qn_pvq_scale(col_scale[p->order[at]]);
    inverse[0] = 0;
    for (uint32_t q = 1; q <= most * most; q++)
        inverse[q] = qn_pvq_inverse_root(q);
    p->inverse = inverse;
    return QN_OK;
}

/* The groups of one class in one block of m rows: points to p->y and lengths to p->amplitude, from place `at` of the order. */
static qn_code read_groups(plan *p, const qn_kern *kern, const qn_pvq_class *k, uint32_t m, uint8_t row_scale, const uint8_t *bytes,
                           size_t n_bytes, uint64_t bit, uint32_t at, qn_err *err)
{
    const bool whole = m == p->n;
    const uint32_t pulses = whole ? k->tab.k : k->short_k;
    const unsigned width = whole ? k->width : k->short_width, gain = width ? k->gain_bits : 0, bits = width - gain;
    const uint64_t last = qn_u128_sub(qn_pvq_tab_size(&k->tab, m, pulses), qn_u128_of(1)).lo;
    const uint64_t index_mask = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
    const uint32_t level_mask = (1u << gain) - 1;
    const float row = p->base * qn_pvq_scale(row_scale);
    float level[1 << QN_PVQ_GAIN_BITS];
    uint64_t index[PIECE];
    for (uint32_t i = 0; i <= level_mask; i++)
        level[i] = (float)qn_pvq_gain_levels(p->n, gain)[i] / 4096.0f;
    for (uint32_t done = 0; done < k->n_cols;) {
        const uint32_t len = k->n_cols - done < PIECE ? k->n_cols - done : PIECE;
        uint64_t most = 0;
        for (uint32_t i = 0; i < len; i++, bit += width) {
            uint64_t g;
            if (width <= 57 && n_bytes - bit / 8 >= 8) { /* both in one load */
                const uint64_t v = qn_load64(bytes + bit / 8) >> bit % 8;
                index[i] = v & index_mask;
                g = v >> bits & level_mask;
            } else {
                index[i] = qn_pvq_field(bytes, n_bytes, bit, bits);
                g = qn_pvq_field(bytes, n_bytes, bit + bits, gain);
            }
            most = index[i] > most ? index[i] : most;
            p->amplitude[at + i] = row * p->col_scale[at + i] * level[g];
        }
        if (most > last)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pvq: a point has number %llu: P(%u, %u) ends at %llu",
                           (unsigned long long)most, m, pulses, (unsigned long long)last);
        kern->pvq.points(&k->tab, m, pulses, index, len, p->y + at, p->b->cols);
        done += len;
        at += len;
    }
    return QN_OK;
}

static qn_code decode_rows(plan *p, const qn_kern *kern, qn_cur *c, uint32_t row, uint8_t *dst, qn_err *err)
{
    const uint32_t cols = p->b->cols, m = p->rows - row < p->n ? p->rows - row : p->n;
    const size_t row_bytes = (size_t)cols * qn_unit_bytes(p->b->dtype);
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
        QN_TRY(read_groups(p, kern, k, m, p->row_scale[row / p->n], bytes, n_bytes, bit, at, err));
        bit += (uint64_t)k->n_cols * (m == p->n ? k->width : k->short_width);
        at += k->n_cols;
    }
    kern->pvq.norms(p->y, cols, m, cols, p->norm2);
    for (uint32_t at = 0; at < cols; at++)
        p->scale[p->order[at]] = p->amplitude[at] * p->inverse[p->norm2[at]];
    for (uint32_t i = 0; i < m; i++)
        kern->pvq.row(p->b->dtype, p->y + (size_t)i * cols, p->scale, p->pos, cols, dst + i * row_bytes);
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
    const unsigned log2_n = qn_cur_u8(&c);
    p.base = qn_bits_f32(qn_cur_u32(&c));
    if (c.failed || (log2_n != 4 && log2_n != 5))
        return QN_FAIL(err, QN_E_INPUT, 0, "pvq: groups of 2^%u rows: allowed are 16 and 32", log2_n);
    if (!(p.base >= QN_PVQ_BASE_MIN && p.base <= QN_PVQ_BASE_MAX))
        return QN_FAIL(err, QN_E_INPUT, 1, "pvq: scale %g: allowed are 2^-64 to 2^64", (double)p.base);
    p.n = 1u << log2_n;
    QN_TRY(read_classes(&p, &c, cx, err));
    const uint32_t n_blocks = (uint32_t)qn_ceil_div(p.rows, p.n);
    const qn_block per_col = {QN_U8, b->cols, b->cols}, per_row = {QN_U8, n_blocks, n_blocks};
    if (p.n_classes > 1 && !(of = qn_nest_get(cx, &c, &per_col, "pvq: classes", &rc, err)))
        return rc;
    if (!(col_scale = qn_nest_get(cx, &c, &per_col, "pvq: scales of columns", &rc, err)) ||
        !(p.row_scale = qn_nest_get(cx, &c, &per_row, "pvq: scales of rows", &rc, err)))
        return rc;
    QN_TRY(sort_columns(&p, of, cx, err));
    QN_TRY(work_space(&p, col_scale, cx, err));
    for (uint32_t row = 0; row < p.rows; row += p.n)
        QN_TRY(decode_rows(&p, cx->kern, &c, row, dst + (size_t)row * b->cols * qn_unit_bytes(b->dtype), err));
    return qn_nest_end(&c, "pvq", err);
}
