/* ect_pack.c: see ect_pack.h. rANS runs backwards: units are coded from the last to the first, words fill the room from its end. */
#include "compress/ect_pack.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/nest.h"

typedef struct coder {
    const qn_ect_book *b;
    const qn_ect_levels *l;
    uint16_t *slot[QN_ECT_TABS]; /* slot of (first of symbol + offset); NULL until it is needed */
    uint16_t first[QN_ECT_TABS][QN_ECT_SYMS];
    uint32_t x[QN_ECT_LANES_MAX];
    uint8_t *words, *at; /* written from the end downwards */
    bool full;
} coder;

/* Where the alias table put each offset of each symbol. */
static qn_code make_slots(coder *c, unsigned tab, qn_arena *scratch, qn_err *err)
{
    uint64_t bucket[QN_ECT_SYMS];
    const uint16_t *freq = c->b->freq[tab];
    uint16_t *slot = qn_arena_get(scratch, QN_ECT_M * sizeof *slot, 64, err);
    if (!slot)
        return QN_E_MEMORY;
    for (unsigned u = 0, sum = 0; u < QN_ECT_SYMS; sum += freq[u++])
        c->first[tab][u] = (uint16_t)sum;
    qn_ect_alias(freq, bucket);
    for (unsigned s = 0; s < QN_ECT_M; s++) {
        const uint32_t e = (uint32_t)bucket[s >> 8], in = s & 255;
        const bool other = in >= (e & 511);
        const unsigned u = other ? e >> 9 & 63 : s >> 8;
        slot[c->first[tab][u] + (other ? (in + (e >> 15)) & (QN_ECT_M - 1) : in)] = (uint16_t)s;
    }
    c->slot[tab] = slot;
    return QN_OK;
}

/* The symbol of a level in a class, and the number of an escape. */
static unsigned symbol_of(const qn_ect_book *b, unsigned class, int32_t level, unsigned *tab, int32_t *half)
{
    const int32_t k = level >> 1;
    *half = k >> 1 >> qn_ect_low_bits(class, b->top);
    *tab = 2 * qn_ect_table(class, b->top) | (unsigned)(level & 1);
    const int32_t u = 2 * *half + (k & 1) + QN_ECT_ZERO;
    return u < 2 || u >= QN_ECT_SYMS || b->freq[*tab][u] == 0 ? (unsigned)(k & 1) : (unsigned)u;
}

static qn_code code_row(coder *c, uint32_t i, unsigned mask, qn_arena *scratch, qn_err *err)
{
    const int16_t *level = c->l->level + (size_t)i * c->l->cols;
    for (uint32_t j = c->l->cols; j-- > 0;) {
        unsigned tab;
        int32_t half;
        const unsigned class = qn_ect_clamp(c->l->class[j] + c->l->row[i], c->b->top),
                       u = symbol_of(c->b, class, level[j], &tab, &half);
        if (!c->slot[tab])
            QN_TRY(make_slots(c, tab, scratch, err));
        const uint32_t f = c->b->freq[tab][u];
        uint32_t x = c->x[j & mask];
        if (x >> (32 - QN_ECT_BITS) >= f) {
            if (c->at - c->words < 2) {
                c->full = true;
                return QN_OK;
            }
            c->at -= 2;
            qn_store16(c->at, (uint16_t)x);
            x >>= 16;
        }
        c->x[j & mask] = x / f << QN_ECT_BITS | c->slot[tab][c->first[tab][u] + x % f];
    }
    return QN_OK;
}

typedef struct plain {
    uint8_t *escapes, *low;
    uint64_t n_escapes, n_low_bits;
} plain;

/* Escapes and low bits in unit order; counted only where the pointers are NULL. low is zeroed. */
static void collect(const qn_ect_book *b, const qn_ect_levels *l, plain *p)
{
    for (uint32_t i = 0; i < l->rows; i++)
        for (uint32_t j = 0; j < l->cols; j++) {
            unsigned tab;
            int32_t half;
            const int32_t level = l->level[(size_t)i * l->cols + j];
            const unsigned class = qn_ect_clamp(l->class[j] + l->row[i], b->top), low = qn_ect_low_bits(class, b->top);
            if (symbol_of(b, class, level, &tab, &half) < 2) {
                if (p->escapes)
                    qn_store16(p->escapes + 2 * p->n_escapes, (uint16_t)half);
                p->n_escapes++;
            }
            const unsigned v = (unsigned)(level >> 2) & ((1u << low) - 1);
            for (unsigned k = 0; k < low && p->low; k++)
                p->low[(p->n_low_bits + k) / 8] |= (uint8_t)((v >> k & 1) << ((p->n_low_bits + k) % 8));
            p->n_low_bits += low;
        }
}

unsigned qn_ect_log2_lanes(uint64_t n, uint32_t cols)
{
    unsigned want = n >= 1u << 22 ? 6 : n >= 1u << 17 ? 5 : n >= 1u << 15 ? 4 : n >= 1u << 13 ? 3 : 0;
    while (1u << want > cols)
        want--;
    return want;
}

static qn_code put_side(const qn_enc_ctx *cx, const qn_ect_levels *l, qn_sink *s, qn_err *err)
{
    const qn_block by_col = {QN_U8, l->cols, l->cols}, by_row = {QN_U8, l->rows, l->rows};
    uint8_t *stored = qn_arena_get(cx->scratch, l->cols, 64, err);
    if (!stored)
        return QN_E_MEMORY;
    for (uint32_t j = 0; j < l->cols; j++)
        stored[j] = (uint8_t)(l->class[j] + 3 * l->q[j] / 8);
    QN_TRY(qn_nest_encode(cx, s, &by_col, l->q, true, err));
    QN_TRY(qn_nest_encode(cx, s, &by_col, stored, true, err));
    return qn_nest_encode(cx, s, &by_row, (const uint8_t *)l->row, true, err);
}

qn_code qn_ect_pack(const qn_enc_ctx *cx, const qn_ect_book *b, const qn_ect_levels *l, uint8_t *dst, size_t cap,
                    size_t *n_out, qn_err *err)
{
    const uint64_t n = (uint64_t)l->rows * l->cols;
    const unsigned log2 = qn_ect_log2_lanes(n, l->cols), n_lanes = 1u << log2;
    qn_sink s = qn_sink_over(dst, cap);
    uint8_t number[4];
    *n_out = 0;
    qn_sink_u8(&s, b->code.log2_states | log2 << 4);
    qn_sink_u8(&s, b->shape);
    qn_store32(number, qn_f32_bits(l->base));
    qn_sink_put(&s, number, 4);
    qn_sink_varint(&s, l->cols);
    QN_TRY(put_side(cx, l, &s, err));

    coder *c = qn_arena_get(cx->scratch, sizeof *c, 64, err);
    uint8_t *words = qn_arena_get(cx->scratch, 2 * n + 2, 64, err);
    if (!c || !words)
        return QN_E_MEMORY;
    *c = (coder){.b = b, .l = l, .words = words, .at = words + 2 * n + 2};
    for (unsigned i = 0; i < n_lanes; i++)
        c->x[i] = QN_ECT_START;
    for (uint32_t i = l->rows; i-- > 0 && !c->full;)
        QN_TRY(code_row(c, i, n_lanes - 1, cx->scratch, err));
    plain p = {0};
    collect(b, l, &p);
    const size_t n_words = (size_t)(words + 2 * n + 2 - c->at), n_low = (size_t)(p.n_low_bits + 7) / 8;
    qn_sink_varint(&s, p.n_escapes);
    qn_sink_varint(&s, n_words / 2);
    for (unsigned i = 0; i < n_lanes; i++) {
        qn_store32(number, c->x[i]);
        qn_sink_put(&s, number, 4);
    }
    qn_sink_put(&s, c->at, n_words);
    const size_t n_plain = 2 * (size_t)p.n_escapes + n_low;
    if (c->full || n_words > 2 * n || n_plain > qn_sink_left(&s) || s.full)
        return QN_OK;
    memset(dst + s.n, 0, n_plain);
    plain put = {.escapes = dst + s.n, .low = dst + s.n + 2 * p.n_escapes};
    if (n_plain)
        collect(b, l, &put);
    *n_out = s.n + n_plain;
    return QN_OK;
}
