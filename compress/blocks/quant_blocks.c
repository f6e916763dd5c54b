/* quant_blocks.c: the quantizer of ggml's block types: one for every coder of block.h, by its name.
 *
 * A group of the engine is a span: when it is reached, each row's targets go through the coder, and the columns that follow are told
 * what came of it. Rounding for itself, which the engine compares with, is the same with no errors fed back: weights of columns alone. */
#include "base/err.h"
#include "base/ggml.h"
#include "base/num.h"
#include "compress/blocks/metric.h"
#include "compress/blocks/quant_blocks.h"
#include "runtime/blocks.h"
#include <cblas.h>
#include <math.h>
#include <string.h>

enum { TILE = 16 }; /* rows that are gathered together */

typedef struct blocks {
    const qn_block_coder *coder;
    uint32_t per, bytes; /* of a block */
    float gain;
    const qn_span_kern *kern;
} blocks;

struct plan {
    const blocks *k;
    qn_span_metrics fed, plain; /* fed: n_spans 0 where nothing is fed back */
    const double *weight;       /* of the layer that fed is for             */
    const qn_ldl *ldl;
};

struct state {
    const blocks *k;
    const qn_span_metrics *metrics;
    const qn_ldl *ldl;  /* NULL: nothing is fed back */
    const float *w;     /* (rows, cols)              */
    uint32_t rows, cols, col0;
    size_t row_bytes;
    uint8_t *blocks; /* (rows, row_bytes)                                             */
    float *recon;    /* (n, rows) of the span that begins with column col0            */
    float *tile;     /* (TILE, QN_SPAN_MAX) targets, and behind it one row of answers */
    void *scratch;   /* the coder's */
    bool finite;
};

static qn_code prepare(const qn_block_coder *c, const qn_span_metrics *all, qn_arena *arena, qn_err *err)
{
    for (uint32_t i = 0; i < all->n_spans; i++) {
        void *to = all->at[i].m ? qn_arena_get(arena, c->prepared_bytes, 64, err) : NULL;
        if (!all->at[i].m)
            continue;
        if (!to)
            return QN_E_MEMORY;
        memset(to, 0, c->prepared_bytes);
        c->prepare(&all->at[i], to);
        all->at[i].prepared = to;
    }
    return QN_OK;
}

static qn_code blocks_begin(const qn_quantizer *q, const qn_quant_layer *layer, qn_arena *arena, const void **plan, qn_err *err)
{
    const blocks *k = q->self;
    struct plan *p = qn_arena_get(arena, sizeof *p, 64, err);
    if (!p)
        return QN_E_MEMORY;
    *p = (struct plan){.k = k, .weight = layer->weight, .ldl = layer->ldl};
    if (layer->cols % k->per)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: rows of %u, blocks hold %u", k->coder->name, layer->cols, k->per);
    if (layer->ldl && layer->ldl->feed)
        QN_TRY(qn_span_metrics_fed(&p->fed, layer->ldl, q->group_cols, k->kern, arena, err));
    if (k->coder->prepare)
        QN_TRY(prepare(k->coder, &p->fed, arena, err));
    const double *alone = p->fed.n_spans ? layer->ldl->diagonal : layer->weight;
    *plan = p;
    return qn_span_metrics_plain(&p->plain, alone, layer->cols, q->group_cols, k->kern, arena, err);
}

static qn_code blocks_segment(const qn_quantizer *q, const qn_quant_layer *layer, const void *plan, const qn_quant_segment *seg, void **out,
                              qn_err *err)
{
    const blocks *k = q->self;
    const struct plan *p = plan;
    struct state *s = qn_arena_get(seg->scratch, sizeof *s, 64, err);
    if (!s)
        return QN_E_MEMORY;
    *s = (struct state){.k = k, .rows = seg->rows, .cols = layer->cols, .finite = true};
    s->w = seg->w;
    s->ldl = p->fed.n_spans && layer->weight == p->weight ? p->ldl : NULL;
    s->metrics = s->ldl ? &p->fed : &p->plain;
    s->row_bytes = (size_t)(layer->cols / k->per) * k->bytes;
    s->blocks = qn_arena_get(seg->scratch, s->rows * s->row_bytes, 64, err);
    s->recon = s->blocks ? qn_arena_get(seg->scratch, (uint64_t)q->group_cols * s->rows * sizeof *s->recon, 64, err) : NULL;
    s->tile = s->recon ? qn_arena_get(seg->scratch, (TILE + 1) * QN_SPAN_MAX * sizeof *s->tile, 64, err) : NULL;
    s->scratch = s->tile ? qn_arena_get(seg->scratch, k->coder->scratch_bytes + 64, 64, err) : NULL;
    *out = s;
    return s->scratch ? QN_OK : QN_E_MEMORY;
}

/* Row i of the segment: targets t, in the order of the tensor. */
static qn_code encode_row(struct state *s, const qn_span_metric *m, uint32_t i, const float *t, qn_err *err)
{
    const blocks *k = s->k;
    float *r = s->tile + TILE * QN_SPAN_MAX, y[QN_SPAN_MAX];
    uint8_t *to = s->blocks + i * s->row_bytes + (size_t)(s->col0 / k->per) * k->bytes;
    k->coder->encode(m, t, to, r, s->scratch);
    QN_TRY(qn_ggml_f32(k->coder->dtype, to, m->n, y, err));
    for (uint32_t c = 0; c < m->n; c++) {
        if (y[c] != r[c])
            return QN_BUG(err, "%s: %g decodes to %g", k->coder->name, (double)r[c], (double)y[c]);
        s->finite &= isfinite(y[c]) != 0;
        s->recon[(size_t)c * s->rows + i] = y[c];
    }
    return QN_OK;
}

/* The span's columns get s_j = Σ e_k L̃_kj from the columns before it: t = w + s. The loss that it adds, Σ_j L_jj² (e_j + s_j + Σ_k e_k L̃_kj)² with k in the
 * span, is (e + c)ᵀ M (e + c) for the c with c_j + Σ_k c_k L̃_kj = s_j: so w + c is what a coder is to come near. s becomes c: (n, rows) by visit. */
static void centre(const struct state *s, uint32_t v0, uint32_t n, float *c)
{
    cblas_strsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasUnit, (blasint)n, (blasint)s->rows, 1,
                s->ldl->feed + (uint64_t)v0 * s->ldl->n + v0, (blasint)s->ldl->n, c, (blasint)s->rows);
}

static qn_code blocks_group(void *state, const uint32_t *cols, uint32_t n, const float *t, size_t ld, qn_err *err)
{
    struct state *s = state;
    const uint32_t span = s->metrics->span;
    const qn_span_metric *m = &s->metrics->at[cols[0] / span];
    s->col0 = cols[0] / span * span;
    if (n != m->n)
        return QN_BUG(err, "blocks: a group of %u columns, a span of %u", n, m->n);
    float *by_visit = s->recon; /* row by row it is needed no longer when the answer takes its place */
    for (uint32_t c = 0; c < n; c++)
        for (uint32_t i = 0; i < s->rows; i++)
            by_visit[(size_t)c * s->rows + i] = s->ldl ? t[c * ld + i] - s->w[(size_t)i * s->cols + cols[c]] : t[c * ld + i];
    if (s->ldl)
        centre(s, s->metrics->v0[cols[0] / span], n, by_visit);
    for (uint32_t i0 = 0; i0 < s->rows; i0 += TILE) {
        const uint32_t rows = s->rows - i0 < TILE ? s->rows - i0 : TILE;
        for (uint32_t c = 0; c < n; c++)
            for (uint32_t i = 0; i < rows; i++)
                s->tile[i * QN_SPAN_MAX + cols[c] - s->col0] =
                    by_visit[(size_t)c * s->rows + i0 + i] + (s->ldl ? s->w[(size_t)(i0 + i) * s->cols + cols[c]] : 0);
        for (uint32_t i = 0; i < rows; i++)
            QN_TRY(encode_row(s, m, i0 + i, s->tile + i * QN_SPAN_MAX, err));
    }
    return QN_OK;
}

static qn_code blocks_column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    const struct state *s = state;
    (void)t;
    (void)err;
    memcpy(recon, s->recon + (size_t)(j - s->col0) * s->rows, s->rows * sizeof *recon);
    return QN_OK;
}

static qn_code blocks_finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const struct state *s = state;
    const size_t n = s->rows * s->row_bytes;
    (void)err;
    *n_out = 0;
    if (!s->finite || cap < QN_BLOCKS_HEAD_BYTES + n)
        return QN_OK;
    dst[0] = (uint8_t)s->k->coder->dtype;
    memcpy(dst + QN_BLOCKS_HEAD_BYTES, s->blocks, n);
    *n_out = QN_BLOCKS_HEAD_BYTES + n;
    return QN_OK;
}

static const qn_quant_ops ops = {blocks_begin, blocks_segment, blocks_group, blocks_column, blocks_finish};

qn_code qn_quantizer_blocks(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err)
{
    blocks *k = qn_arena_get(arena, sizeof *k, 64, err);
    if (!k)
        return QN_E_MEMORY;
    *k = (blocks){.coder = qn_block_coder_find(q->name), .gain = set->gain > 0 ? (float)set->gain : 1};
    if (!k->coder)
        return QN_BUG(err, "no coder of %s", q->name);
    k->per = qn_dtype_block_elems(k->coder->dtype);
    k->bytes = qn_dtype_block_bytes(k->coder->dtype);
    k->kern = &q->ekern.span;
    if (set->bits > 0 && set->bits != qn_blocks_bits(q->name))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: %g bits found, the type has %g", q->name, set->bits, qn_blocks_bits(q->name));
    q->ops = &ops;
    q->codec = QN_CODEC_BLOCKS;
    q->group_cols = QN_SPAN_MAX;
    q->col_multiple = k->per;
    q->self = k;
    return QN_OK;
}

double qn_blocks_bits(const char *codec)
{
    const qn_block_coder *c = codec ? qn_block_coder_find(codec) : NULL;
    return c ? 8.0 * qn_dtype_block_bytes(c->dtype) / qn_dtype_block_elems(c->dtype) : 0;
}
