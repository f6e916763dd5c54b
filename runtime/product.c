/* product.c: see product.h: the table, and products of chunks that have to be decoded first. */
#include "runtime/product.h"
#include "base/err.h"
#include "runtime/widths.h"
#include <string.h>

const qn_product_fn qn_product_tab[QN_CODEC_COUNT] = {
    [QN_CODEC_GRID] = qn_product_grid,
    [QN_CODEC_VQ] = qn_product_vq,
};

enum { PIECE = 256, LANES = 16 };

struct decoded {
    qn_dtype dtype;
    uint32_t n;
    const uint8_t *units;
};

static void load(const qn_product *p, const float *x, void *work)
{
    memcpy(work, x, p->cols * sizeof *x);
}

static void widen(qn_dtype t, const uint8_t *src, uint32_t n, float *v)
{
    uint16_t half[PIECE];
    if (t == QN_F32) {
        for (uint32_t i = 0; i < n; i++)
            v[i] = qn_bits_f32(qn_load32(src + 4 * (size_t)i));
        return;
    }
    qn_unpack16(half, src, n);
    for (uint32_t i = 0; i < n; i++)
        v[i] = qn_bits_f32(t == QN_BF16 ? (uint32_t)half[i] << 16 : qn_f16_wide(half[i]));
}

static void rows_of(const qn_product *p, const void *work, uint32_t r0, uint32_t r1, float *y)
{
    const struct decoded *d = p->self;
    const float *x = work;
    const size_t unit = qn_unit_bytes(d->dtype);
    for (uint32_t r = r0; r < r1; r++) {
        const size_t first = (size_t)r * p->cols;
        const uint32_t n = d->n - first < p->cols ? (uint32_t)(d->n - first) : p->cols;
        float sum[LANES] = {0}, v[PIECE];
        for (uint32_t at = 0; at < n; at += PIECE) {
            const uint32_t len = n - at < PIECE ? n - at : PIECE;
            widen(d->dtype, d->units + (first + at) * unit, len, v);
            uint32_t i = 0;
            for (; i + LANES <= len; i += LANES)
                for (uint32_t k = 0; k < LANES; k++)
                    sum[k] += v[i + k] * x[at + i + k];
            for (; i < len; i++)
                sum[i % LANES] += v[i] * x[at + i];
        }
        for (uint32_t k = LANES / 2; k > 0; k /= 2)
            for (uint32_t i = 0; i < k; i++)
                sum[i] += sum[i + k];
        y[r - r0] = sum[0];
    }
}

static qn_code decode(const qn_dec_ctx *cx, unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                      qn_arena *keep, qn_product *p, qn_err *err)
{
    const uint64_t units = (uint64_t)b->n * qn_unit_bytes(b->dtype);
    struct decoded *d = qn_arena_get(keep, sizeof *d, 64, err);
    uint8_t *dst = d ? qn_arena_get(keep, units, 64, err) : NULL;
    if (!dst)
        return QN_E_MEMORY;
    QN_TRY(qn_codec_decode(cx, codec, b, payload, n_bytes, dst, err));
    *d = (struct decoded){.dtype = b->dtype, .n = b->n, .units = dst};
    p->n_bytes = units;
    p->work_bytes = p->cols * sizeof(float);
    p->load = load;
    p->rows_of = rows_of;
    p->self = d;
    return QN_OK;
}

qn_code qn_product_prepare(const qn_dec_ctx *cx, unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                           qn_arena *keep, qn_product *p, qn_err *err)
{
    if (b->dtype != QN_F32 && b->dtype != QN_BF16 && b->dtype != QN_F16)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "product: of %s: only F32, BF16 and F16", qn_dtype_name(b->dtype));
    if (b->n == 0 || b->cols == 0 || b->cols > b->n || (uint64_t)b->n * qn_unit_bytes(b->dtype) > QN_CHUNK_MAX_BYTES)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "block of %u units in rows of %u: out of range", b->n, b->cols);
    *p = (qn_product){.rows = (b->n - 1) / b->cols + 1, .cols = b->cols, .step = 1};
    bool taken = false;
    if (codec < QN_CODEC_COUNT && qn_product_tab[codec])
        QN_TRY(qn_product_tab[codec](cx, b, payload, n_bytes, keep, p, &taken, err));
    p->fused = taken;
    return taken ? QN_OK : decode(cx, codec, b, payload, n_bytes, keep, p, err);
}

static qn_code once(const qn_dec_ctx *cx, unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes, const float *x,
                    float *y, qn_err *err)
{
    qn_product p;
    QN_TRY(qn_product_prepare(cx, codec, b, payload, n_bytes, cx->scratch, &p, err));
    void *work = qn_arena_get(cx->scratch, p.work_bytes, 64, err);
    if (!work)
        return QN_E_MEMORY;
    p.load(&p, x, work);
    p.rows_of(&p, work, 0, p.rows, y);
    return QN_OK;
}

qn_code qn_product_once(const qn_dec_ctx *cx, unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                        const float *x, float *y, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    const qn_code rc = once(cx, codec, b, payload, n_bytes, x, y, err);
    qn_arena_rewind(cx->scratch, mark);
    return rc;
}
