/* vq_parts.c: see vq_parts.h. */
#include "base/err.h"
#include "base/half.h"
#include "runtime/nest.h"
#include "runtime/vq_parts.h"
#include <string.h>

typedef struct plan {
    const qn_block *b;
    qn_vq_parts *out;
    qn_arena *keep;
    float base;
    unsigned fine, n_classes;
    struct {
        unsigned main_bits, residual_bits, flags;
    } cls[QN_VQ_CLASSES];
    uint32_t first[QN_VQ_CLASSES], first2[QN_VQ_CLASSES]; /* where the books of a class begin */
    bool residual; /* some class has a second book */
    uint64_t bits; /* of a strip */
} plan;

static qn_code read_head(plan *p, qn_cur *c, qn_err *err)
{
    const unsigned v = qn_cur_u8(c);
    p->fine = qn_cur_u8(c);
    p->base = qn_bits_f32(qn_cur_u32(c));
    const uint64_t n = qn_cur_varint(c);
    if (c->failed || !qn_vq_vector_ok(v))
        return QN_FAIL(err, QN_E_INPUT, 0, "vq: vectors of %u rows: allowed are 2, 4, 6, 8, 12 and 16", v);
    if (p->fine > QN_VQ_SHORT)
        return QN_FAIL(err, QN_E_INPUT, 1, "vq: scales of fineness %u: allowed are 0, 1 and 2", p->fine);
    if (!(p->base >= QN_VQ_BASE_MIN && p->base <= QN_VQ_BASE_MAX))
        return QN_FAIL(err, QN_E_INPUT, 2, "vq: scale %g: allowed are 2^-64 to 2^64", (double)p->base);
    if (n == 0 || n > QN_VQ_CLASSES)
        return QN_FAIL(err, QN_E_INPUT, c->at, "vq: %llu classes of columns: allowed are 1 to %d", (unsigned long long)n, QN_VQ_CLASSES);
    p->out->strip.v = v;
    p->out->n_classes = p->n_classes = (unsigned)n;
    p->out->n_strips = (uint32_t)qn_ceil_div(p->out->rows, v);
    for (unsigned i = 0; i < n; i++) {
        const unsigned main = qn_cur_u8(c), residual = qn_cur_u8(c), flags = qn_cur_u8(c);
        if (c->failed || main > QN_VQ_BITS || residual > QN_VQ_BITS || flags > QN_VQ_STORED || (main == 0 && (residual || flags)))
            return QN_FAIL(err, QN_E_INPUT, c->at, "vq: class %u: %u and %u bits of index, flags %u", i, main, residual, flags);
        if (main && !(flags & QN_VQ_STORED) && !qn_vq_constant(v, main))
            return QN_FAIL(err, QN_E_INPUT, c->at, "vq: class %u: no constant book for vectors of %u and %u bits", i, v, main);
        p->cls[i].main_bits = main;
        p->cls[i].residual_bits = residual;
        p->cls[i].flags = flags;
        p->residual |= residual > 0;
    }
    p->out->main_bits = p->cls[0].main_bits;
    p->out->residual_bits = p->cls[0].residual_bits;
    p->out->base = p->base;
    return QN_OK;
}

/* n stored numbers → book. */
static qn_code read_book(qn_cur *c, float *book, size_t n, unsigned i, qn_err *err)
{
    const uint8_t *p = qn_cur_take(c, 2 * n);
    if (!p)
        return QN_FAIL(err, QN_E_INPUT, c->at, "vq: class %u: a book of %zu bytes is cut off", i, 2 * n);
    for (size_t k = 0; k < n; k++) {
        const uint16_t h = qn_load16(p + 2 * k);
        if ((h & 0x7c00) == 0x7c00)
            return QN_FAIL(err, QN_E_INPUT, c->at, "vq: class %u: a centroid is not finite", i);
        book[k] = qn_f16_to_f32(h);
    }
    return QN_OK;
}

/* A centroid of zeros for those that have none, then class after class. */
static qn_code read_books(plan *p, qn_cur *c, qn_err *err)
{
    const unsigned v = p->out->strip.v;
    uint64_t n = v, at = v;
    for (unsigned i = 0; i < p->n_classes; i++) {
        n += p->cls[i].main_bits ? (uint64_t)v << p->cls[i].main_bits : 0;
        n += p->cls[i].residual_bits ? (uint64_t)v << p->cls[i].residual_bits : 0;
    }
    /* stored books are in the payload, constant ones small: this is bounded by what was read */
    for (unsigned i = 0, need = 0; i < p->n_classes; i++) {
        need += p->cls[i].flags & QN_VQ_STORED ? 2u * v << p->cls[i].main_bits : 0;
        need += p->cls[i].residual_bits ? 2u * v << p->cls[i].residual_bits : 0;
        if (need > qn_cur_left(c))
            return QN_FAIL(err, QN_E_INPUT, c->at, "vq: class %u: a book is cut off", i);
    }
    float *book = qn_arena_get(p->keep, (n + QN_VQ_BOOK_SLACK) * sizeof *book, 64, err);
    if (!book)
        return QN_E_MEMORY;
    memset(book, 0, v * sizeof *book);
    memset(book + n, 0, QN_VQ_BOOK_SLACK * sizeof *book);
    for (unsigned i = 0; i < p->n_classes; i++) {
        const unsigned bits = p->cls[i].main_bits, bits2 = p->cls[i].residual_bits;
        if (bits) {
            const size_t many = (size_t)v << bits;
            const int16_t *constant = qn_vq_constant(v, bits);
            p->first[i] = (uint32_t)at;
            if (p->cls[i].flags & QN_VQ_STORED)
                QN_TRY(read_book(c, book + at, many, i, err));
            else
                for (size_t k = 0; k < many; k++)
                    book[at + k] = (float)constant[k] / 4096.0f;
            at += many;
        }
        if (bits2) {
            p->first2[i] = (uint32_t)at;
            QN_TRY(read_book(c, book + at, (size_t)v << bits2, i, err));
            at += (size_t)v << bits2;
        }
    }
    p->out->strip.book = book;
    return QN_OK;
}

static qn_code place_columns(plan *p, const uint8_t *of, const uint8_t *scale, qn_err *err)
{
    const uint32_t cols = p->b->cols;
    qn_vq_fields *a = &p->out->strip.at;
    uint32_t **const arrays[] = {&a->byte, &a->shift, &a->mask, &a->base, &a->shift2, &a->mask2, &a->base2};
    for (unsigned i = 0; i < (p->residual ? 7 : 4); i++)
        if (!(*arrays[i] = qn_arena_get(p->keep, (uint64_t)cols * sizeof **arrays[i], 64, err)))
            return QN_E_MEMORY;
    float *col = qn_arena_get(p->keep, (uint64_t)cols * sizeof *col, 64, err);
    if (!col)
        return QN_E_MEMORY;
    for (uint32_t j = 0; j < cols; j++) {
        const unsigned k = of ? of[j] : 0;
        if (k >= p->n_classes)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "vq: column %u is of class %u of %u", j, k, p->n_classes);
        a->byte[j] = (uint32_t)(p->bits / 8);
        a->shift[j] = p->bits % 8;
        a->mask[j] = (1u << p->cls[k].main_bits) - 1;
        a->base[j] = p->first[k];
        if (p->residual) {
            a->shift2[j] = a->shift[j] + p->cls[k].main_bits;
            a->mask2[j] = (1u << p->cls[k].residual_bits) - 1;
            a->base2[j] = p->first2[k];
        }
        p->bits += p->cls[k].main_bits + p->cls[k].residual_bits;
        col[j] = qn_vq_scale(scale[j], p->fine);
    }
    p->out->strip.cols = cols;
    p->out->strip.col = col;
    p->out->strip.bytes_all = p->n_classes == 1 && p->cls[0].main_bits == 8 && !p->residual;
    return QN_OK;
}

static qn_code check_strips(plan *p, qn_cur *c, qn_err *err)
{
    qn_vq_parts *o = p->out;
    const size_t n = o->strip.n_bytes = (size_t)((p->bits + 7) / 8);
    o->indices = c->p + c->at;
    for (uint32_t i = 0; i < o->n_strips; i++) {
        const uint8_t *bytes = qn_cur_take(c, n);
        if (!bytes)
            return QN_FAIL(err, QN_E_INPUT, c->at, "vq: %zu bytes of indices expected from row %llu on", n,
                           (unsigned long long)i * o->strip.v);
        if (p->bits % 8 && bytes[n - 1] >> p->bits % 8)
            return QN_FAIL(err, QN_E_INPUT, c->at, "vq: bits behind the last index");
    }
    return QN_OK;
}

qn_code qn_vq_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_arena *keep, qn_vq_parts *out,
                   qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    plan p = {.b = b, .out = out, .keep = keep};
    const uint8_t *of = NULL, *col_scale, *strip_scale;
    qn_code rc;
    *out = (qn_vq_parts){.rows = b->n / b->cols};
    if (!qn_vq_dtype(b->dtype) || b->n % b->cols)
        return QN_FAIL(err, QN_E_INPUT, 0, "vq: %u units of %s in rows of %u: allowed are whole rows of F32, F16, BF16", b->n,
                       qn_dtype_name(b->dtype), b->cols);
    QN_TRY(read_head(&p, &c, err));
    const qn_block per_col = {QN_U8, b->cols, b->cols}, per_strip = {QN_U8, out->n_strips, out->n_strips};
    if (p.n_classes > 1 && !(of = qn_nest_get(cx, &c, &per_col, "vq: classes", &rc, err)))
        return rc;
    if (!(col_scale = qn_nest_get(cx, &c, &per_col, "vq: scales of columns", &rc, err)) ||
        !(strip_scale = qn_nest_get(cx, &c, &per_strip, "vq: scales of rows", &rc, err)))
        return rc;
    float *row = qn_arena_get(keep, (uint64_t)out->n_strips * sizeof *row, 64, err);
    if (!row)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < out->n_strips; i++)
        row[i] = p.base * qn_vq_scale(strip_scale[i], 0);
    out->row = row;
    QN_TRY(read_books(&p, &c, err));
    QN_TRY(place_columns(&p, of, col_scale, err));
    QN_TRY(check_strips(&p, &c, err));
    return qn_nest_end(&c, "vq", err);
}
