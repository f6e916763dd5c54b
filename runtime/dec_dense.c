/* dec_dense.c: DENSE, scale-relative exponents with their top fraction bits in 12-bit rANS, all else raw.
 * Format: docs/codecs/dense.md. */
#include "base/err.h"
#include "runtime/dense.h"
#include "runtime/rans_tab.h"

typedef struct layout {
    qn_dense_cut cut;
    unsigned n_tables, code_shift; /* an octave is 2^code_shift codes */
    uint32_t cols, n_rows;
    const uint8_t *rows;  /* by row: octave × n_tables + table; NULL: all zero */
    const uint16_t *cols_add;
    uint16_t base[QN_DENSE_TABLES_MAX], freq[QN_DENSE_TABLES_MAX][256];
    size_t n_of[QN_DENSE_TABLES_MAX]; /* units by table */
} layout;

static qn_code read_side(const qn_dec_ctx *cx, const qn_block *b, layout *l, unsigned flags, qn_cur *c, qn_err *err)
{
    if (flags & QN_DENSE_ROWS) {
        uint8_t *rows = qn_arena_get(cx->scratch, l->n_rows, 64, err);
        if (!rows)
            return QN_E_MEMORY;
        QN_TRY(qn_rans_unpack_side(cx->kern, c, rows, l->n_rows, err));
        l->rows = rows;
        for (uint32_t r = 0; r < l->n_rows; r++) {
            const size_t left = b->n - (size_t)r * l->cols;
            l->n_of[rows[r] % l->n_tables] += left < l->cols ? left : l->cols;
        }
    } else {
        l->n_of[0] = b->n;
    }
    if (flags & QN_DENSE_COLS) {
        uint8_t *cols = qn_arena_get(cx->scratch, l->cols, 64, err);
        uint16_t *add = qn_arena_get(cx->scratch, 2 * (uint64_t)l->cols, 64, err);
        if (!cols || !add)
            return QN_E_MEMORY;
        QN_TRY(qn_rans_unpack_side(cx->kern, c, cols, l->cols, err));
        for (uint32_t i = 0; i < l->cols; i++)
            add[i] = (uint16_t)(cols[i] << l->code_shift);
        l->cols_add = add;
    }
    return QN_OK;
}

static qn_code read_tables(layout *l, unsigned flags, qn_cur *c, qn_err *err)
{
    if (flags & QN_DENSE_SHAPE) {
        const unsigned shape = qn_cur_u8(c), octaves = (l->cut.code_mask + 1u) >> l->code_shift;
        const uint64_t octave = qn_cur_varint(c);
        if (c->failed || (shape & 8) || octave >= octaves)
            return QN_FAIL(err, QN_E_INPUT, c->at, "dense: shape %#x, octave %llu of %u", shape, (unsigned long long)octave,
                           octaves);
        for (unsigned k = 0; k < l->n_tables; k++) {
            l->base[k] = (uint16_t)(4 * ((int)octave - QN_DENSE_SHAPE_WINDOW) - QN_DENSE_FIRST);
            qn_dense_shape_freq(shape & 7, (shape >> 4) + 16 * k / l->n_tables, l->freq[k]);
        }
        return QN_OK;
    }
    for (unsigned k = 0; k < l->n_tables; k++) {
        l->base[k] = qn_cur_u16(c);
        QN_TRY(qn_rans_read_freq(c, 64, l->freq[k], err));
    }
    return QN_OK;
}

/* All symbols of table 0, then of table 1, …: start[k] are their places in the buffer. */
static qn_code read_symbols(const qn_dec_ctx *cx, const layout *l, qn_rans *s, uint8_t *sym, uint8_t **start, qn_err *err)
{
    qn_rans_tab tab;
    for (unsigned k = 0; k < l->n_tables; k++) {
        start[k] = sym;
        if (l->n_of[k] == 0)
            continue;
        qn_rans_tab_make64(&tab, l->freq[k]);
        if (!cx->kern->dense.decode(s, &tab, sym, l->n_of[k]))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dense: coded symbols cut short");
        sym += l->n_of[k];
    }
    return qn_rans_finish(s, false, err);
}

/* Where the planes lie for units from `from` on. */
typedef struct planes {
    const uint8_t *pack, *low;
    size_t n_pack_bytes, from;
} planes;

/* The end of the planes, put together from payload and states. */
static qn_code read_tail(const qn_dec_ctx *cx, const qn_dense_tail *t, const qn_rans *s, const planes *head, unsigned spare,
                         planes *tail, qn_err *err)
{
    const size_t n = t->pack_tail + t->low_tail, stored = n - t->carry;
    uint8_t *p = qn_arena_get(cx->scratch, (uint64_t)n + 1, 64, err);
    unsigned bad = 0;
    if (!p)
        return QN_E_MEMORY;
    const size_t n_pack = stored < t->pack_tail ? stored : t->pack_tail;
    if (n_pack)
        memcpy(p, head->pack + t->pack_head, n_pack);
    if (stored > n_pack)
        memcpy(p + n_pack, head->low + t->low_head, stored - n_pack);
    for (unsigned i = 0; i < s->n_lanes; i++)
        for (unsigned k = 0; k < 2; k++) {
            const uint8_t v = (uint8_t)(s->lo[i] >> (8 * k));
            if (2 * i + k < t->carry)
                p[stored + 2 * i + k] = v;
            else
                bad |= v;
        }
    if (bad || (spare && t->pack_tail && p[t->pack_tail - 1] >> spare))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dense: unused bits of the packed plane are not zero");
    *tail = (planes){.pack = p, .low = p + t->pack_tail, .n_pack_bytes = t->pack_tail, .from = t->split};
    return QN_OK;
}

static qn_code merge(const qn_dec_ctx *cx, const qn_block *b, const layout *l, const planes part[2], qn_dense_row *row,
                     uint8_t **sym, uint8_t *dst, qn_err *err)
{
    const size_t unit = qn_unit_bytes(b->dtype), split = part[1].from;
    const bool whole = !l->rows && !l->cols_add; /* rows do not matter: one call for each part */
    const size_t cols = whole ? b->n : l->cols;
    for (size_t r = 0, at = 0; at < b->n; r++) {
        const unsigned q = l->rows ? l->rows[r] : 0, k = q % l->n_tables;
        const size_t end = b->n - at < cols ? b->n : at + cols;
        row->base = (uint16_t)(l->base[k] + ((q / l->n_tables) << l->code_shift));
        row->col = l->cols_add;
        while (at < end) {
            const planes *p = &part[at >= split];
            row->n = (at < split && split < end ? split : end) - at;
            row->sym = sym[k];
            row->pack = p->pack;
            row->low = p->low;
            row->n_pack_bytes = p->n_pack_bytes;
            row->at = at - p->from;
            if (!cx->kern->dense.merge(&l->cut, row, dst + at * unit))
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dense: list of escaped values cut short");
            sym[k] += row->n;
            at += row->n;
            row->col = row->col ? row->col + row->n : NULL;
        }
    }
    if (row->esc != row->esc_end)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dense: list of escaped values too long");
    return QN_OK;
}

qn_code qn_dec_dense(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst,
                     qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    const unsigned flags = qn_cur_u8(&c), shape = qn_cur_u8(&c), m = flags & QN_DENSE_M_BITS;
    const bool sign_coded = flags & QN_DENSE_SIGN;
    layout l = {.n_tables = (flags >> QN_DENSE_TABLES_SHIFT & 3) + 1, .code_shift = m + sign_coded};
    if (c.failed || !qn_dense_cut_make(&l.cut, b->dtype, m, sign_coded) ||
        (l.n_tables > 1 && !(flags & QN_DENSE_ROWS)) ||
        ((flags & QN_DENSE_SHAPE) && (m != 2 || sign_coded)))
        return QN_FAIL(err, QN_E_INPUT, 0, "dense: first byte %#x does not go with %s", flags, qn_dtype_name(b->dtype));
    l.cols = qn_dense_row_units(b, shape >> 4);
    l.n_rows = (uint32_t)qn_ceil_div(b->n, l.cols);
    QN_TRY(read_side(cx, b, &l, flags, &c, err));
    QN_TRY(read_tables(&l, flags, &c, err));

    const uint64_t n_esc = qn_cur_varint(&c), n_words = qn_cur_varint(&c);
    qn_rans s;
    QN_TRY(qn_rans_begin(&s, &c, shape & 15, err));
    const qn_dense_tail t = qn_dense_tail_of(&l.cut, b->n, s.n_lanes);
    const size_t n_pack = t.pack_head + t.pack_tail, n_low = t.low_head + t.low_tail, n_raw = n_pack + n_low - t.carry;
    if (n_esc > b->n || n_words > b->n || qn_cur_left(&c) != 2 * (n_esc + n_words) + n_raw)
        return QN_FAIL(err, QN_E_INPUT, c.at, "dense: %zu bytes left, %llu escapes and %llu words stated", qn_cur_left(&c),
                       (unsigned long long)n_esc, (unsigned long long)n_words);
    s.p = payload + c.at;
    s.end = s.p + 2 * n_words;
    qn_dense_row row = {.esc = s.end, .esc_end = s.end + 2 * n_esc};
    planes part[2] = {{.pack = row.esc_end, .low = row.esc_end + (n_raw < n_pack ? n_raw : n_pack), .n_pack_bytes = t.pack_head}};

    uint8_t *sym = qn_arena_get(cx->scratch, b->n, 64, err), *start[QN_DENSE_TABLES_MAX];
    if (!sym)
        return QN_E_MEMORY;
    QN_TRY(read_symbols(cx, &l, &s, sym, start, err));
    QN_TRY(read_tail(cx, &t, &s, &part[0], (unsigned)((uint64_t)b->n * l.cut.n_pack % 8), &part[1], err));
    return merge(cx, b, &l, part, &row, start, dst, err);
}
