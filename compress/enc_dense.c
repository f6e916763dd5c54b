/* enc_dense.c: DENSE; the mirror of runtime/dec_dense.c. What to write is decided in dense_model.c. */
#include "base/err.h"
#include "compress/dense_model.h"
#include "compress/rans_pack.h"

enum { ROW_LOG2 = 8, SIDE_MAX = 10 };

typedef struct plan {
    qn_dense_cut cut;
    unsigned shift;         /* codes in an octave, log2 */
    uint8_t *sym;           /* by table, then by row */
    uint8_t *start[QN_DENSE_TABLES_MAX];
    size_t n_of[QN_DENSE_TABLES_MAX], n_esc;
    uint16_t *esc, base[QN_DENSE_TABLES_MAX];
    uint32_t count[QN_DENSE_TABLES_MAX][256];
} plan;

/* Highest 16 (8) bits of a unit. */
static inline unsigned top_of(const qn_dense_cut *cut, const uint8_t *unit)
{
    return cut->top_bits == 16 ? qn_load16(unit + cut->n_low) : unit[cut->n_low];
}

/* Views every unit with m = 2; see dense_model.h. */
static void view(const qn_dense_cut *cut, const uint8_t *src, uint32_t n, uint16_t *fine)
{
    const unsigned unit = cut->top_bits / 8u + cut->n_low, sign_at = cut->top_bits - 1u, down = cut->frac_bits;
    if (unit == 2 && cut->n_low == 0) {
        for (uint32_t i = 0; i < n; i++) {
            const unsigned top = qn_load16(src + 2 * (size_t)i);
            fine[i] = (uint16_t)(((top & 0x7fffu) >> down) * 2u + (top >> 15));
        }
        return;
    }
    if (unit == 4) {
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t w = qn_load32(src + 4 * (size_t)i);
            fine[i] = (uint16_t)(((w & 0x7fffffffu) >> (16 + down)) * 2u + (w >> 31));
        }
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const unsigned top = top_of(cut, src + (size_t)i * unit), sign = top >> sign_at;
        fine[i] = (uint16_t)((top & ((1u << sign_at) - 1)) >> down << 1 | sign);
    }
}

/* Turns a row into symbols; escapes are counted and kept. */
static void symbols(plan *p, const qn_dense_model *m, const uint16_t *fine, uint32_t n, uint16_t base, uint8_t *out)
{
    const unsigned down = 2u - m->m, sign = m->sign_coded, mask = p->cut.code_mask, shift = p->shift;
    unsigned special = 0;
    const uint8_t *const col = m->has_cols ? m->col : NULL;
    for (uint32_t i = 0; i < n; i++) { /* in 16 bits throughout, so that it vectorises well */
        const uint16_t code = (uint16_t)(((unsigned)fine[i] >> 1 >> down) << sign | (fine[i] & sign));
        const uint16_t s = (uint16_t)((code - base - (col ? (unsigned)col[i] << shift : 0u)) & mask);
        const uint16_t in = s >= QN_DENSE_FIRST && s < 64 ? s : QN_DENSE_ESCAPE;
        out[i] = (uint8_t)(code == 0 ? QN_DENSE_ZERO : in);
    }
    for (uint32_t i = 0; i < n; i++)
        special += out[i] == QN_DENSE_ESCAPE;
    for (uint32_t i = 0; special && i < n; i++)
        if (out[i] == QN_DENSE_ESCAPE) {
            p->esc[p->n_esc++] = (uint16_t)(((unsigned)fine[i] >> 1 >> down) << sign | (fine[i] & sign));
            special--;
        }
}

static void count_bytes(const uint8_t *p, size_t n, uint32_t count[256])
{
    uint32_t a[4][64] = {{0}}; /* symbols are below 64; four tables, so that equal neighbours do not wait for each other */
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t k = 0; k < 4; k++)
            a[k][p[i + k]]++;
    for (; i < n; i++)
        a[0][p[i]]++;
    for (unsigned s = 0; s < 64; s++)
        count[s] = a[0][s] + a[1][s] + a[2][s] + a[3][s];
}

static qn_code make_symbols(const qn_enc_ctx *cx, const qn_dense_model *m, const uint16_t *fine, uint32_t n, plan *p,
                            qn_err *err)
{
    uint8_t *next[QN_DENSE_TABLES_MAX];
    p->sym = qn_arena_get(cx->scratch, n, 64, err);
    p->esc = qn_arena_get(cx->scratch, 2 * (uint64_t)n, 64, err);
    if (!p->sym || !p->esc)
        return QN_E_MEMORY;
    for (uint32_t r = 0, at = 0; at < n; r++, at += m->cols)
        p->n_of[m->has_rows ? m->rows[r] % m->n_tables : 0] += n - at < m->cols ? n - at : m->cols;
    uint8_t *to = p->sym;
    for (unsigned k = 0; k < m->n_tables; k++) {
        p->start[k] = next[k] = to;
        to += p->n_of[k];
        p->base[k] = (uint16_t)(m->oct_first * (1 << p->shift) + m->window[k] - QN_DENSE_FIRST);
    }
    for (uint32_t r = 0, at = 0; at < n; r++, at += m->cols) {
        const unsigned q = m->has_rows ? m->rows[r] : 0, k = q % m->n_tables;
        const uint32_t len = n - at < m->cols ? n - at : m->cols;
        symbols(p, m, fine + at, len, (uint16_t)(p->base[k] + ((q / m->n_tables) << p->shift)), next[k]);
        next[k] += len;
    }
    for (unsigned k = 0; k < m->n_tables; k++)
        count_bytes(p->start[k], p->n_of[k], p->count[k]);
    return QN_OK;
}

/* Eight units fill r bytes, eight bytes are stored: to stay inside, the last 64 units are left to the caller. Returns how many
 * are done. Inlined with constants for the usual cuts. */
static inline __attribute__((always_inline)) uint32_t pack_eights(const uint8_t *top, unsigned unit, uint32_t n, unsigned frac_bits,
                                                                  unsigned sign, uint8_t *dst)
{
    const uint64_t frac_mask = (1u << frac_bits) - 1;
    const unsigned r = frac_bits + sign;
    uint32_t i = 0;
    for (; n - i >= 64; i += 8, dst += r) {
        uint64_t eight = 0;
        for (unsigned k = 0; k < 8; k++) {
            const uint64_t t = qn_load16(top + (size_t)(i + k) * unit);
            eight |= ((t & frac_mask) | ((t >> 15) & sign) << frac_bits) << (k * r);
        }
        qn_store64(dst, eight);
    }
    return i;
}

/* The raw bits of each top, one after the other from the lowest bit on. */
static void pack_raw(const qn_dense_cut *cut, const uint8_t *src, uint32_t n, uint8_t *dst)
{
    const unsigned unit = cut->top_bits / 8u + cut->n_low, sign_at = cut->top_bits - 1u, r = cut->n_pack;
    const unsigned frac_mask = (1u << cut->frac_bits) - 1, sign_mask = cut->sign_coded ? 0 : 1;
    uint64_t hold = 0;
    unsigned have = 0;
    uint32_t i = 0;
    if (cut->top_bits == 16 && r > 0) {
        if (unit == 2 && r == 6 && sign_mask)
            i = pack_eights(src, 2, n, 5, 1, dst);
        else if (unit == 4 && r == 6 && sign_mask)
            i = pack_eights(src + 2, 4, n, 5, 1, dst);
        else
            i = pack_eights(src + cut->n_low, unit, n, cut->frac_bits, sign_mask, dst);
        dst += (size_t)i / 8 * r;
    }
    for (; i < n; i++) {
        const unsigned top = top_of(cut, src + (size_t)i * unit);
        hold |= (uint64_t)((top & frac_mask) | (top >> sign_at & sign_mask) << cut->frac_bits) << have;
        have += r;
        if (have >= 32) {
            qn_store32(dst, (uint32_t)hold);
            dst += 4;
            hold >>= 32;
            have -= 32;
        }
    }
    for (; have > 0; have = have > 8 ? have - 8 : 0, hold >>= 8)
        *dst++ = (uint8_t)hold;
}

static void copy_low(const qn_dense_cut *cut, const uint8_t *src, uint32_t n, uint8_t *dst)
{
    if (cut->n_low == 2) {
        for (uint32_t i = 0; i < n; i++)
            memcpy(dst + 2 * (size_t)i, src + 4 * (size_t)i, 2);
    } else if (cut->n_low == 1) {
        for (uint32_t i = 0; i < n; i++)
            dst[i] = src[2 * (size_t)i];
    } else if (cut->n_low == 6) {
        for (uint32_t i = 0; i < n; i++)
            memcpy(dst + 6 * (size_t)i, src + 8 * (size_t)i, 6);
    }
}

/* Header, side information and tables; *n_out = their bytes. */
static qn_code write_head(const qn_enc_ctx *cx, const qn_dense_model *m, const plan *p, const qn_rans_plan *tables,
                          unsigned log2_lanes, uint8_t *dst, size_t *n_out, qn_err *err)
{
    size_t at = 2, len;
    dst[0] = (uint8_t)(m->m | (m->sign_coded ? QN_DENSE_SIGN : 0) | (m->n_tables - 1) << QN_DENSE_TABLES_SHIFT |
                       (m->has_rows ? QN_DENSE_ROWS : 0) | (m->has_cols ? QN_DENSE_COLS : 0) | (m->has_shape ? QN_DENSE_SHAPE : 0));
    dst[1] = (uint8_t)(log2_lanes | m->log2_row << 4);
    if (m->has_rows) {
        QN_TRY(qn_rans_pack_side(cx, m->rows, m->n_rows, dst + at, &len, err));
        at += len;
    }
    if (m->has_cols) {
        QN_TRY(qn_rans_pack_side(cx, m->col, m->cols, dst + at, &len, err));
        at += len;
    }
    if (m->has_shape) {
        const unsigned octave = (unsigned)(m->oct_first + m->window[0] / 4 + QN_DENSE_SHAPE_WINDOW);
        dst[at++] = (uint8_t)(m->shape | m->phase << 4);
        at += qn_put_varint(dst + at, octave & (unsigned)(p->cut.code_mask >> p->shift));
    }
    for (unsigned k = 0; k < m->n_tables && !m->has_shape; k++) {
        qn_store16(dst + at, p->base[k]);
        memcpy(dst + at + 2, tables[k].table, tables[k].table_bytes);
        at += 2 + tables[k].table_bytes;
    }
    *n_out = at;
    return QN_OK;
}

/* A lane costs one byte: half a word that its last state wastes on average. A thousand weights are some 1300 bytes or more. */
static unsigned log2_lanes_for(uint32_t n)
{
    const unsigned log2 = 31u - (unsigned)__builtin_clz(n | 1);
    return log2 < 10 ? 0 : log2 > 18 ? 8 : log2 - 10;
}

static qn_code write_payload(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, const qn_dense_model *m, plan *p,
                             uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const unsigned log2_lanes = log2_lanes_for(b->n), n_lanes = 1u << log2_lanes;
    const qn_dense_tail t = qn_dense_tail_of(&p->cut, b->n, n_lanes);
    const size_t n_pack = t.pack_head + t.pack_tail, n_low = t.low_head + t.low_tail, n_raw = n_pack + n_low - t.carry;
    const size_t head_max = 2 + (size_t)m->n_rows + m->cols + 2 * SIDE_MAX + m->n_tables * (2 + QN_RANS_TABLE_MAX) + 20;
    qn_rans_plan *tables = qn_arena_get(cx->scratch, m->n_tables * sizeof *tables, 64, err);
    qn_rans_etab *e = qn_arena_get(cx->scratch, sizeof *e, 64, err);
    uint8_t *head = qn_arena_get(cx->scratch, head_max, 64, err);
    uint8_t *words = qn_arena_get(cx->scratch, 2 * (uint64_t)b->n + 2, 64, err);
    uint32_t x[QN_RANS_LANES_MAX];
    size_t at;
    uint8_t *tail = qn_arena_get(cx->scratch, (uint64_t)t.pack_tail + t.low_tail + 8, 64, err);
    if (!tables || !e || !head || !words || !tail)
        return QN_E_MEMORY;
    const uint8_t *const src_tail = src + t.split * qn_unit_bytes(b->dtype);
    pack_raw(&p->cut, src_tail, (uint32_t)(b->n - t.split), tail);
    copy_low(&p->cut, src_tail, (uint32_t)(b->n - t.split), tail + t.pack_tail);
    const size_t tail_stored = t.pack_tail + t.low_tail - t.carry;
    for (unsigned i = 0; i < n_lanes; i++) {
        x[i] = QN_RANS_START;
        for (unsigned k = 0; k < 2 && 2 * i + k < t.carry; k++)
            x[i] |= (uint32_t)tail[tail_stored + 2 * i + k] << (8 * k);
    }
    uint8_t *const end = words + 2 + 2 * (size_t)b->n, *first = end;
    for (unsigned k = m->n_tables; k-- > 0;) {
        qn_rans_tab tab;
        if (p->n_of[k] == 0)
            p->count[k][0] = 1; /* a table nobody uses is stored all the same */
        if (m->has_shape) {
            qn_dense_shape_freq(m->shape, m->phase + 16 * k / m->n_tables, tables[k].freq);
        } else {
            qn_rans_plan_make(&tables[k], p->count[k], 64);
        }
        qn_rans_tab_make64(&tab, tables[k].freq);
        qn_rans_etab_make(e, &tab, tables[k].freq);
        first = cx->ekern->dense.encode(e, p->start[k], p->n_of[k], x, n_lanes, first);
    }
    const size_t n_words = (size_t)(end - first);
    QN_TRY(write_head(cx, m, p, tables, log2_lanes, head, &at, err));
    at += qn_put_varint(head + at, p->n_esc);
    at += qn_put_varint(head + at, n_words / 2);
    const size_t total = at + 4 * (size_t)n_lanes + n_words + 2 * p->n_esc + n_raw;
    if (total > cap)
        return QN_OK;
    memcpy(dst, head, at);
    dst += at;
    for (unsigned i = 0; i < n_lanes; i++, dst += 4)
        qn_store32(dst, x[i]);
    memcpy(dst, first, n_words);
    dst += n_words;
    for (size_t i = 0; i < p->n_esc; i++, dst += 2)
        qn_store16(dst, p->esc[i]);
    const size_t tail_pack = tail_stored < t.pack_tail ? tail_stored : t.pack_tail;
    pack_raw(&p->cut, src, (uint32_t)t.split, dst);
    memcpy(dst + t.pack_head, tail, tail_pack);
    dst += t.pack_head + tail_pack;
    copy_low(&p->cut, src, (uint32_t)t.split, dst);
    memcpy(dst + t.low_head, tail + tail_pack, tail_stored - tail_pack);
    *n_out = total;
    return QN_OK;
}

static qn_code write_model(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, const uint16_t *fine,
                           const qn_dense_model *m, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    plan *p = qn_arena_get(cx->scratch, sizeof *p, 64, err);
    *n_out = 0;
    if (!p)
        return QN_E_MEMORY;
    memset(p, 0, sizeof *p);
    p->shift = m->m + m->sign_coded;
    if (!qn_dense_cut_make(&p->cut, b->dtype, m->m, m->sign_coded))
        return QN_BUG(err, "dense: no cut for m = %u", m->m);
    QN_TRY(make_symbols(cx, m, fine, b->n, p, err));
    return write_payload(cx, b, src, m, p, dst, cap, n_out, err);
}

qn_code qn_enc_dense(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                     qn_err *err)
{
    qn_dense_model m = {.cost = UINT64_MAX};
    qn_dense_cut cut;
    *n_out = 0;
    if (!qn_dense_cut_make(&cut, b->dtype, 2, false))
        return QN_OK;
    uint16_t *fine = qn_arena_get(cx->scratch, 2 * (uint64_t)b->n, 64, err);
    if (!fine)
        return QN_E_MEMORY;
    view(&cut, src, b->n, fine);
    qn_dense_view v = {.fine = fine, .n = b->n, .cols = b->cols, .n_rows = (uint32_t)qn_ceil_div(b->n, b->cols)};
    QN_TRY(qn_dense_model_fit(cx, &v, b->dtype, &m, err));
    if (b->cols >= 4u << ROW_LOG2 && v.n_rows < 8) { /* few long rows: parts of them may differ too */
        v.cols = 1u << ROW_LOG2;
        v.n_rows = (uint32_t)qn_ceil_div(b->n, v.cols);
        v.log2_row = ROW_LOG2;
        QN_TRY(qn_dense_model_fit(cx, &v, b->dtype, &m, err));
    }
    if (m.cost >> 19 <= cap)
        QN_TRY(write_model(cx, b, src, fine, &m, dst, cap, n_out, err));
    return QN_OK;
}
