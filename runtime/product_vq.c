/* product_vq.c: products with vectors of centroids as they are stored. docs/codecs/vq.md.
 *
 * A centroid is multiplied where it lies in the book: vectors run down the columns, so that each serves v rows with one x, and no
 * table of partial products could be shared by several columns. */
#include "base/err.h"
#include "runtime/product.h"
#include "runtime/vq_parts.h"
#include <string.h>

struct held {
    qn_vq_parts p;
    const qn_kern_vq_mul *kern;
};

static void load(const qn_product *p, const float *x, void *work)
{
    const struct held *h = p->self;
    float *to = work;
    for (uint32_t j = 0; j < p->cols; j++)
        to[j] = x[j] * h->p.strip.col[j];
}

static void rows_of(const qn_product *p, const void *work, uint32_t r0, uint32_t r1, float *y)
{
    const struct held *h = p->self;
    qn_vq_strip s = h->p.strip;
    for (uint32_t r = r0; r < r1; r += s.v) {
        float rows[QN_VQ_VECTOR_MAX];
        const uint32_t i = r / s.v;
        s.bytes = h->p.indices + i * s.n_bytes;
        s.row = h->p.row[i];
        h->kern->strip(&s, work, rows);
        memcpy(y + (r - r0), rows, (r1 - r < s.v ? r1 - r : s.v) * sizeof *y);
    }
}

qn_code qn_product_vq(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_arena *keep, qn_product *p,
                      bool *taken, qn_err *err)
{
    struct held *h = qn_arena_get(keep, sizeof *h, 64, err);
    if (!h)
        return QN_E_MEMORY;
    h->kern = &cx->kern->vq_mul;
    QN_TRY(qn_vq_open(cx, b, payload, n_bytes, keep, &h->p, err));
    p->step = h->p.strip.v;
    p->n_bytes = (uint64_t)h->p.n_strips * h->p.strip.n_bytes;
    p->work_bytes = (size_t)p->cols * sizeof(float);
    p->load = load;
    p->rows_of = rows_of;
    p->self = h;
    *taken = true;
    return QN_OK;
}
