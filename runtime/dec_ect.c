/* dec_ect.c: ECT, trellis levels in rANS, a step and a class for each column. Format: docs/codecs/ect.md. */
#include "base/err.h"
#include "runtime/nest.h"
#include "runtime/widths.h"

#define BASE_MIN 0x1p-80f
#define BASE_MAX 0x1p80f

typedef struct layer {
    uint32_t rows, cols;
    unsigned shape, top, kind;
    const int8_t *row;  /* rows: added to the class of the column       */
    uint8_t *class;     /* cols                                         */
    float *step;        /* cols                                         */
    uint8_t *tab2;      /* cols: 2 · table, for the row at hand         */
    uint8_t *trellis;   /* cols                                         */
    uint16_t *idx;      /* cols                                         */
    float *value;       /* cols                                         */
    qn_ect_dec *dec;
    qn_cur escapes, low;
    uint32_t held;      /* bits of `low` not yet used, lowest first     */
    unsigned n_held;
} layer;

static qn_code read_head(qn_cur *c, const qn_block *b, layer *l, unsigned *log2_lanes, float *base, qn_err *err)
{
    const unsigned first = qn_cur_u8(c), shape = qn_cur_u8(c);
    *base = qn_bits_f32(qn_cur_u32(c));
    const uint64_t cols = qn_cur_varint(c);
    *log2_lanes = first >> 4;
    if (c->failed || (b->dtype != QN_F32 && b->dtype != QN_F16 && b->dtype != QN_BF16))
        return QN_FAIL(err, QN_E_INPUT, 0, "ect: not a codec for %s, or cut short", qn_dtype_name(b->dtype));
    if (!qn_ect_code_get(first & 15, &l->dec->code) || *log2_lanes > 6 || shape >= QN_ECT_SHAPES)
        return QN_FAIL(err, QN_E_INPUT, 0, "ect: first bytes %#x, %#x: no such trellis, lanes or shape", first, shape);
    if (!(*base >= BASE_MIN && *base <= BASE_MAX))
        return QN_FAIL(err, QN_E_INPUT, 2, "ect: step %g", (double)*base);
    if (cols == 0 || cols > b->n || b->n % cols != 0)
        return QN_FAIL(err, QN_E_INPUT, 6, "ect: %u weights in rows of %llu", b->n, (unsigned long long)cols);
    l->cols = (uint32_t)cols;
    l->rows = b->n / l->cols;
    l->shape = shape;
    l->top = qn_ect_top[shape];
    l->kind = qn_ect_kind(first & 15);
    return QN_OK;
}

static qn_code read_side(const qn_dec_ctx *cx, qn_cur *c, layer *l, float base, qn_err *err)
{
    const qn_block by_col = {QN_U8, l->cols, l->cols}, by_row = {QN_U8, l->rows, l->rows};
    qn_code rc = QN_OK;
    const uint8_t *q = qn_nest_get(cx, c, &by_col, "ect: steps", &rc, err);
    if (!q)
        return rc;
    l->class = qn_nest_get(cx, c, &by_col, "ect: classes of columns", &rc, err);
    if (!l->class)
        return rc;
    const uint8_t *row = qn_nest_get(cx, c, &by_row, "ect: classes of rows", &rc, err);
    if (!row)
        return rc;
    l->row = (const int8_t *)row;
    l->step = qn_arena_get(cx->scratch, l->cols * sizeof *l->step, 64, err);
    l->value = l->step ? qn_arena_get(cx->scratch, l->cols * sizeof *l->value, 64, err) : NULL;
    l->idx = l->value ? qn_arena_get(cx->scratch, l->cols * sizeof *l->idx, 64, err) : NULL;
    l->tab2 = l->idx ? qn_arena_get(cx->scratch, l->cols, 64, err) : NULL;
    l->trellis = l->tab2 ? qn_arena_get(cx->scratch, l->cols, 64, err) : NULL;
    if (!l->trellis)
        return QN_E_MEMORY;
    for (uint32_t j = 0; j < l->cols; j++) {
        l->step[j] = qn_ect_step(base, q[j]);
        l->class[j] = qn_ect_col_class(l->class[j], q[j]);
    }
    memset(l->trellis, 0, l->cols);
    return QN_OK;
}

/* Only those that occur. */
static void make_tables(layer *l)
{
    bool col[256] = {false}, row[256] = {false}, used[QN_ECT_CLASSES] = {false};
    for (uint32_t j = 0; j < l->cols; j++)
        col[l->class[j]] = true;
    for (uint32_t i = 0; i < l->rows; i++)
        row[(uint8_t)l->row[i]] = true;
    for (int i = -128; i < 128; i++)
        for (int j = 0; row[(uint8_t)i] && j < 256; j++)
            if (col[j])
                used[qn_ect_table(qn_ect_clamp(i + j, l->top), l->top)] = true;
    for (unsigned t = 0; t < QN_ECT_CLASSES; t++)
        for (unsigned z = 0; used[t] && z < 2; z++) {
            uint16_t freq[QN_ECT_SYMS];
            const size_t at = (2 * (size_t)t + z) * QN_ECT_SYMS;
            qn_ect_freq(l->shape, t, z, freq);
            qn_ect_alias(freq, l->dec->bucket + at);
            for (unsigned u = 0; u < QN_ECT_SYMS; u++)
                l->dec->point[at + u] =
                    (float)qn_ect_point(l->kind, l->shape, t, 2 * ((int32_t)u - QN_ECT_ZERO) + (int32_t)z) * 0x1p-6f;
        }
}

static uint32_t low_bits(layer *l, unsigned n)
{
    while (l->n_held < n) {
        l->held |= (uint32_t)qn_cur_u8(&l->low) << l->n_held;
        l->n_held += 8;
    }
    const uint32_t v = l->held & ((1u << n) - 1);
    l->held >>= n;
    l->n_held -= n;
    return v;
}

/* One by one: rows with escapes or low bits. */
static void slow_row(layer *l, int row)
{
    for (uint32_t j = 0; j < l->cols; j++) {
        const unsigned class = qn_ect_clamp(l->class[j] + row, l->top), e = qn_ect_low_bits(class, l->top);
        const unsigned u = l->idx[j] & (QN_ECT_SYMS - 1), z = l->idx[j] >> 6 & 1;
        int32_t half = (int32_t)(u >> 1) - QN_ECT_ZERO / 2; /* k / 2, rounded down */
        if (u < 2)
            half = (int16_t)qn_cur_u16(&l->escapes);
        if (e)
            half = half * (1 << e) + (int32_t)low_bits(l, e);
        const int32_t level = 2 * (2 * half + (int32_t)(u & 1)) + (int32_t)z;
        const float point = e ? (float)level : (float)qn_ect_point(l->kind, l->shape, class, level) * 0x1p-6f;
        l->value[j] = point * l->step[j];
    }
}

static void store(const float *v, uint32_t n, qn_dtype t, uint8_t *dst)
{
    uint16_t h[256];
    if (t == QN_F32) {
        for (uint32_t j = 0; j < n; j++)
            qn_store32(dst + 4 * (size_t)j, qn_f32_bits(v[j]));
        return;
    }
    for (uint32_t at = 0; at < n; at += 256) {
        const uint32_t m = n - at < 256 ? n - at : 256;
        for (uint32_t j = 0; j < m; j++)
            h[j] = t == QN_BF16 ? qn_bf16_narrow(qn_f32_bits(v[at + j])) : qn_f16_narrow(qn_f32_bits(v[at + j]));
        qn_pack16(dst + 2 * (size_t)at, h, m);
    }
}

/* The table of every unit of a row; true when some have low bits. */
static bool row_tables(layer *l, int row)
{
    unsigned most = 0;
    for (uint32_t j = 0; j < l->cols; j++) {
        const unsigned class = qn_ect_clamp(l->class[j] + row, l->top);
        most = class > most ? class : most;
        l->tab2[j] = (uint8_t)(2 * qn_ect_table(class, l->top));
    }
    return most > l->top;
}

static qn_code rows(const qn_dec_ctx *cx, const qn_block *b, layer *l, uint8_t *dst, qn_err *err)
{
    const size_t unit = qn_unit_bytes(b->dtype);
    bool low = false;
    for (uint32_t i = 0; i < l->rows; i++, dst += unit * l->cols) {
        if (i == 0 || l->row[i] != l->row[i - 1])
            low = row_tables(l, l->row[i]);
        l->dec->escaped = false;
        if (!cx->kern->ect.row(l->dec, l->tab2, l->trellis, l->idx, l->cols))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "ect: coded levels cut short in row %u", i);
        if (low || l->dec->escaped)
            slow_row(l, l->row[i]);
        else
            cx->kern->ect.value(l->dec->point, l->idx, l->step, l->value, l->cols);
        store(l->value, l->cols, b->dtype, dst);
    }
    return QN_OK;
}

static qn_code check_end(const layer *l, qn_err *err)
{
    if (l->escapes.failed || qn_cur_left(&l->escapes))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "ect: list of escapes cut short or too long");
    if (l->low.failed || qn_cur_left(&l->low) || l->held)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "ect: low bits cut short or too long");
    for (unsigned i = 0; i < l->dec->n_lanes; i++)
        if (l->dec->x[i] != QN_ECT_START)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "ect: lane %u ends in state %#x", i, l->dec->x[i]);
    if (l->dec->p != l->dec->end)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "ect: words left over");
    return QN_OK;
}

qn_code qn_dec_ect(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    layer l = {.dec = qn_arena_get(cx->scratch, sizeof *l.dec, 64, err)};
    unsigned log2_lanes = 0;
    float base;
    if (!l.dec)
        return QN_E_MEMORY;
    QN_TRY(read_head(&c, b, &l, &log2_lanes, &base, err));
    QN_TRY(read_side(cx, &c, &l, base, err));
    make_tables(&l);
    qn_ect_dec *d = l.dec;
    d->n_lanes = 1u << log2_lanes;
    const uint64_t n_escapes = qn_cur_varint(&c), n_words = qn_cur_varint(&c);
    for (unsigned i = 0; i < d->n_lanes; i++) {
        d->x[i] = qn_cur_u32(&c);
        if (!c.failed && d->x[i] < QN_ECT_START)
            return QN_FAIL(err, QN_E_INPUT, c.at - 4, "ect: lane %u begins in state %#x", i, d->x[i]);
    }
    if (c.failed || n_escapes > b->n || n_words > b->n || qn_cur_left(&c) < 2 * (n_escapes + n_words))
        return QN_FAIL(err, QN_E_INPUT, c.at, "ect: %zu bytes left, %llu escapes and %llu words stated", qn_cur_left(&c),
                       (unsigned long long)n_escapes, (unsigned long long)n_words);
    d->p = qn_cur_take(&c, 2 * (size_t)n_words);
    d->end = d->p + 2 * n_words;
    l.escapes = qn_cur_over(qn_cur_take(&c, 2 * (size_t)n_escapes), 2 * (size_t)n_escapes);
    l.low = qn_cur_over(payload + c.at, n_bytes - c.at);
    QN_TRY(rows(cx, b, &l, dst, err));
    return check_end(&l, err);
}
