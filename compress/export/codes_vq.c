/* codes_vq.c: the codes of a vq tensor whose chunks share one book. See codes.h. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/export/codes_impl.h"
#include "runtime/vq_parts.h"
#include <string.h>

struct look {
    const qn_codes *c;
    qn_codes_book *b;
    qn_arena *keep;
    bool is, begun;
    float *main, *residual, *scale;
};

static bool is_short(float v)
{
    return qn_bf16_to_f32(qn_f32_to_bf16(v)) == v;
}

static qn_code begin(struct look *l, const qn_vq_parts *p, qn_err *err)
{
    qn_codes_book *b = l->b;
    const uint32_t cols = p->strip.cols;
    *b = (qn_codes_book){.v = p->strip.v, .main_bits = p->main_bits, .residual_bits = p->residual_bits};
    b->n_strips = (uint32_t)qn_ceil_div(l->c->rows, b->v);
    b->strip_bytes = (uint32_t)p->strip.n_bytes;
    l->main = qn_arena_get(l->keep, ((uint64_t)b->v << b->main_bits) * sizeof(float), 64, err);
    l->residual = l->main ? qn_arena_get(l->keep, ((uint64_t)b->v << b->residual_bits) * sizeof(float), 64, err) : NULL;
    l->scale = l->residual ? qn_arena_get(l->keep, (uint64_t)cols * sizeof(float), 64, err) : NULL;
    if (!l->scale)
        return QN_E_MEMORY;
    const float *book = p->strip.book + b->v;
    memcpy(l->main, book, ((size_t)b->v << b->main_bits) * sizeof(float));
    if (b->residual_bits)
        memcpy(l->residual, book + ((size_t)b->v << b->main_bits), ((size_t)b->v << b->residual_bits) * sizeof(float));
    for (uint32_t j = 0; j < cols; j++)
        l->scale[j] = p->base * p->strip.col[j];
    b->main = l->main;
    b->residual = b->residual_bits ? l->residual : NULL;
    b->scale = l->scale;
    return QN_OK;
}

/* Do its books and scales say the same as those of the first chunk, and may its strips stand with those of others? */
static bool same(const struct look *l, const qn_vq_parts *p)
{
    const qn_codes_book *b = l->b;
    const float *book = p->strip.book + p->strip.v;
    const size_t n = (size_t)b->v << b->main_bits;
    if (p->n_classes != 1 || p->strip.v != b->v || p->main_bits != b->main_bits || p->residual_bits != b->residual_bits || !p->main_bits)
        return false;
    if (memcmp(book, b->main, n * sizeof *book) || (b->residual && memcmp(book + n, b->residual, ((size_t)b->v << b->residual_bits) * sizeof *book)))
        return false;
    for (uint32_t j = 0; j < p->strip.cols; j++)
        if (p->base * p->strip.col[j] != b->scale[j] || !is_short(b->scale[j]))
            return false;
    for (uint32_t i = 0; i < p->n_strips; i++)
        if (p->row[i] != p->base)
            return false;
    for (size_t i = 0; i < n; i++)
        if (!is_short(b->main[i]))
            return false;
    for (size_t i = 0; b->residual && i < (size_t)b->v << b->residual_bits; i++)
        if (!is_short(b->residual[i]))
            return false;
    return true;
}

static qn_code look_at(void *ctx, const qn_codes_eye *e, const qn_codes_view *v, const qn_codes_part *part, qn_err *err)
{
    struct look *l = ctx;
    const qn_dec_ctx cx = qn_codes_context(e, v->depth);
    qn_vq_parts p;
    if (!l->is)
        return QN_OK;
    QN_TRY(qn_vq_open(&cx, &v->block, v->bytes, v->n_bytes, e->scratch, &p, err));
    if (!l->begun)
        QN_TRY(begin(l, &p, err));
    l->begun = true;
    /* merged rows are strips of rows that are not neighbours; only the last strip of all may be short */
    l->is = !v->map && same(l, &p) && (l->c->chunk_rows % l->b->v == 0 || part->n == l->c->rows);
    return QN_OK;
}

qn_code qn_codes_vq(const qn_codes *c, qn_codes_book *b, bool *is, qn_arena *keep, qn_arena *scratch, qn_err *err)
{
    struct look l = {.c = c, .b = b, .keep = keep, .is = true};
    *is = false;
    if (c->kind != QN_CODES_VQ || c->turned || c->parts != 1)
        return QN_OK;
    QN_TRY(qn_codes_each(c, 0, c->rows, look_at, &l, scratch, err));
    *is = l.is && l.begun;
    return QN_OK;
}

struct copy {
    const qn_codes_book *b;
    uint8_t *bytes;
    size_t stride;
};

static qn_code copy_strips(void *ctx, const qn_codes_eye *e, const qn_codes_view *v, const qn_codes_part *part, qn_err *err)
{
    const struct copy *o = ctx;
    const qn_dec_ctx cx = qn_codes_context(e, v->depth);
    qn_vq_parts p;
    QN_TRY(qn_vq_open(&cx, &v->block, v->bytes, v->n_bytes, e->scratch, &p, err));
    const uint32_t first = part->from / o->b->v, n = (uint32_t)qn_ceil_div(part->n, o->b->v), to = part->to / o->b->v;
    if (first + n > p.n_strips || p.strip.n_bytes != o->b->strip_bytes)
        return QN_BUG(err, "codes: strips of another tensor");
    for (uint32_t i = 0; i < n; i++)
        memcpy(o->bytes + (to + i) * o->stride, p.indices + (size_t)(first + i) * p.strip.n_bytes, p.strip.n_bytes);
    return QN_OK;
}

qn_code qn_codes_vq_strips(const qn_codes *c, const qn_codes_book *b, uint32_t strip0, uint32_t n, uint8_t *bytes, size_t stride, qn_arena *scratch,
                           qn_err *err)
{
    struct copy o = {.b = b, .bytes = bytes, .stride = stride};
    const uint64_t row0 = (uint64_t)strip0 * b->v, end = qn_min_u64(row0 + (uint64_t)n * b->v, c->rows);
    if (strip0 > b->n_strips || n > b->n_strips - strip0 || c->kind != QN_CODES_VQ)
        return QN_BUG(err, "codes: strips %u + %u of %u", strip0, n, b->n_strips);
    return qn_codes_each(c, row0, (uint32_t)(end - row0), copy_strips, &o, scratch, err);
}
