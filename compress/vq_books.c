/* vq_books.c: see vq_books.h. */
#include "compress/vq_books.h"
#include "base/err.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

enum { GROWN = 12, AGAIN = 8 }; /* rounds for a new book, and for one that was trained before on other vectors */

static qn_code get_book(float **book, float **half, unsigned v, unsigned bits, qn_arena *arena, qn_err *err)
{
    if (bits == 0)
        return QN_OK;
    *book = qn_arena_get(arena, ((uint64_t)v << bits) * sizeof **book, 64, err);
    *half = *book ? qn_arena_get(arena, sizeof **half << bits, 64, err) : NULL;
    if (!*half)
        return QN_E_MEMORY;
    memset(*book, 0, ((size_t)v << bits) * sizeof **book);
    return QN_OK;
}

qn_code qn_vq_books_make(qn_vq_books *b, unsigned v, const qn_vq_bits *choice, uint32_t cols, qn_arena *arena, qn_err *err)
{
    *b = (qn_vq_books){.v = v, .of = qn_arena_get(arena, cols, 64, err)};
    if (!b->of)
        return QN_E_MEMORY;
    /* in the order of bits: there are 13 · 13 pairs, of which a ladder has 21 at most */
    for (unsigned main = 0; main <= QN_VQ_BITS; main++)
        for (unsigned residual = 0; residual <= QN_VQ_BITS; residual++) {
            uint32_t n = 0;
            for (uint32_t j = 0; j < cols; j++)
                if (choice[j].main == main && choice[j].residual == residual) {
                    b->of[j] = (uint8_t)b->n_classes;
                    n++;
                }
            if (!n)
                continue;
            qn_vq_class *k = b->cls + b->n_classes++;
            const int16_t *constant = qn_vq_constant(v, main);
            k->bits = (qn_vq_bits){(uint8_t)main, (uint8_t)residual};
            k->n_cols = n;
            k->stored = main && !constant;
            QN_TRY(get_book(&k->main, &k->main_half, v, main, arena, err));
            QN_TRY(get_book(&k->residual, &k->residual_half, v, residual, arena, err));
            if (!constant)
                continue;
            for (size_t i = 0; i < (size_t)v << main; i++)
                k->main[i] = (float)constant[i] / 4096.0f;
            qn_vq_book_halves(k->main, v, 1u << main, k->main_half);
        }
    return QN_OK;
}

static void shorten(float *book, float *half, unsigned v, unsigned bits)
{
    for (size_t i = 0; bits && i < (size_t)v << bits; i++) {
        const float x = qn_bf16_to_f32(qn_f32_to_bf16(book[i]));
        book[i] = qn_f16_to_f32(qn_f32_to_f16(x)) + 0.0f; /* no negative zero: an offset of zero would turn it */
    }
    if (bits)
        qn_vq_book_halves(book, v, 1u << bits, half);
}

void qn_vq_books_shorten(qn_vq_books *b)
{
    for (unsigned k = 0; k < b->n_classes; k++) {
        qn_vq_class *c = &b->cls[k];
        shorten(c->main, c->main_half, b->v, c->bits.main);
        shorten(c->residual, c->residual_half, b->v, c->bits.residual);
    }
}

qn_code qn_vq_capture_make(qn_vq_capture *c, const qn_vq_books *b, uint32_t strips, qn_arena *arena, qn_err *err)
{
    memset(c, 0, sizeof *c);
    for (unsigned k = 0; k < b->n_classes; k++) {
        if (!b->cls[k].bits.main)
            continue;
        c->room[k] = (size_t)b->cls[k].n_cols * strips;
        c->x[k] = qn_arena_get(arena, (uint64_t)c->room[k] * b->v * sizeof(float), 64, err);
        c->weight[k] = c->x[k] ? qn_arena_get(arena, c->room[k] * sizeof(float), 64, err) : NULL;
        if (!c->weight[k])
            return QN_E_MEMORY;
    }
    return QN_OK;
}

static bool is_empty(const float *book, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (book[i] != 0)
            return false;
    return true;
}

static qn_code train_book(const qn_ekern_vq *kern, const qn_vq_sample *s, float *book, float *half, unsigned bits, double *error,
                          qn_arena *arena, qn_err *err)
{
    if (is_empty(book, (size_t)s->v << bits))
        QN_TRY(qn_vq_grow(kern, s, book, 1u << bits, GROWN, error, arena, err));
    else
        QN_TRY(qn_vq_lloyd(kern, s, book, 1u << bits, AGAIN, error, arena, err));
    qn_vq_book_halves(book, s->v, 1u << bits, half);
    return QN_OK;
}

static qn_code train_residual(qn_vq_class *k, const qn_vq_sample *s, const qn_ekern_vq *kern, qn_arena *arena, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(arena);
    float *rest = qn_arena_get(arena, (uint64_t)s->n * s->v * sizeof *rest, 64, err);
    uint16_t *at = rest ? qn_arena_get(arena, s->n * sizeof *at, 64, err) : NULL;
    if (!at)
        return QN_E_MEMORY;
    const qn_vq_book main = {s->v, 1u << k->bits.main, k->main, k->main_half};
    kern->nearest(&main, s->x, s->ld, s->n, at);
    for (unsigned d = 0; d < s->v; d++)
        for (size_t i = 0; i < s->n; i++)
            rest[d * s->n + i] = s->x[d * s->ld + i] - k->main[(size_t)at[i] * s->v + d];
    const qn_vq_sample of_rest = {.v = s->v, .n = s->n, .ld = s->n, .x = rest, .weight = s->weight};
    QN_TRY(train_book(kern, &of_rest, k->residual, k->residual_half, k->bits.residual, NULL, arena, err));
    qn_arena_rewind(arena, mark);
    return QN_OK;
}

/* Is a trained book worth 16 bits for each coordinate? Half a bit for each halving of the error, in each weight. What k centroids
 * gain on the n vectors that they were trained on is not all there on others: about 2k/n of it. */
static qn_code worth(const qn_vq_class *k, const qn_vq_sample *s, const qn_ekern_vq *kern, double whole, bool *yes, qn_arena *arena,
                     qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(arena);
    const unsigned bits = k->bits.main;
    const size_t many = (size_t)s->v << bits;
    float *book = qn_arena_get(arena, many * sizeof *book, 64, err);
    double before, after;
    if (!book)
        return QN_E_MEMORY;
    memcpy(book, k->main, many * sizeof *book);
    QN_TRY(qn_vq_lloyd(kern, s, book, 1u << bits, 0, &before, arena, err));
    QN_TRY(qn_vq_lloyd(kern, s, book, 1u << bits, AGAIN, &after, arena, err));
    after *= 1 + exp2(bits + 1) / (double)s->n * (1 - 1 / whole);
    *yes = before > 0 && 0.5 * log2(before / after) * (double)s->n * s->v * whole > 16.0 * (double)many;
    qn_arena_rewind(arena, mark);
    return QN_OK;
}

qn_code qn_vq_books_train(qn_vq_books *b, const qn_vq_capture *c, const qn_ekern_vq *kern, double whole, uint32_t *constant_too,
                          qn_arena *arena, qn_err *err)
{
    for (unsigned i = 0; i < b->n_classes; i++) {
        qn_vq_class *k = b->cls + i;
        const qn_vq_sample s = {.v = b->v, .n = c->n[i], .ld = c->room[i], .x = c->x[i], .weight = c->weight[i]};
        if (!k->bits.main || !s.n)
            continue;
        if (constant_too) {
            bool yes = false;
            if (!k->stored)
                QN_TRY(worth(k, &s, kern, whole, &yes, arena, err));
            *constant_too |= yes ? 1u << k->bits.main : 0;
            continue;
        }
        if (k->stored)
            QN_TRY(train_book(kern, &s, k->main, k->main_half, k->bits.main, NULL, arena, err));
        if (k->bits.residual)
            QN_TRY(train_residual(k, &s, kern, arena, err));
    }
    return QN_OK;
}
