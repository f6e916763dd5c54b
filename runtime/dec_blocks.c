/* dec_blocks.c: rows of ggml's blocks, rounded to the tensor's dtype. docs/codecs/blocks.md.
 *
 * A block whose scales make a weight that is not finite is refused: no encoder writes one, and what Inf × 0 gives need not be told. */
#include "base/err.h"
#include "base/ggml.h"
#include "runtime/blocks.h"
#include "runtime/grid.h"
#include "runtime/widths.h"

qn_code qn_blocks_open(const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_blocks_parts *out, qn_err *err)
{
    if (!qn_grid_dtype(b->dtype))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "blocks: of dtype %s, allowed are F32, F16 and BF16", qn_dtype_name(b->dtype));
    if (n_bytes < QN_BLOCKS_HEAD_BYTES)
        return QN_FAIL(err, QN_E_INPUT, 0, "blocks: the payload is empty");
    const qn_dtype t = (qn_dtype)payload[0];
    if (!qn_ggml_block(t))
        return QN_FAIL(err, QN_E_INPUT, 0, "blocks: type %u is no block type", payload[0]);
    const uint32_t per = qn_dtype_block_elems(t);
    if (b->cols % per || b->n % b->cols)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "blocks: %u units in rows of %u, blocks of %s hold %u", b->n, b->cols, qn_dtype_name(t), per);
    *out = (qn_blocks_parts){.type = t, .rows = b->n / b->cols, .cols = b->cols, .blocks = payload + QN_BLOCKS_HEAD_BYTES};
    out->row_bytes = (size_t)(b->cols / per) * qn_dtype_block_bytes(t);
    const uint64_t want = QN_BLOCKS_HEAD_BYTES + (uint64_t)out->rows * out->row_bytes;
    if (n_bytes != want)
        return QN_FAIL(err, QN_E_INPUT, n_bytes < want ? n_bytes : want, "blocks: %zu bytes found, %llu expected", n_bytes,
                       (unsigned long long)want);
    return QN_OK;
}

/* False: one of them is not finite. */
static bool narrow(qn_dtype t, const float *v, unsigned n, uint8_t *dst)
{
    bool finite = true;
    for (unsigned i = 0; i < n; i++) {
        const uint32_t u = qn_f32_bits(v[i]);
        finite &= (u & 0x7f800000) != 0x7f800000;
        if (t == QN_F32)
            qn_store32(dst + 4 * (size_t)i, u);
        else
            qn_store16(dst + 2 * (size_t)i, t == QN_BF16 ? qn_bf16_narrow(u) : qn_f16_narrow(u));
    }
    return finite;
}

qn_code qn_dec_blocks(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    (void)cx;
    qn_blocks_parts p;
    QN_TRY(qn_blocks_open(b, payload, n_bytes, &p, err));
    const qn_ggml_block_fn block = qn_ggml_block(p.type);
    const unsigned per = qn_dtype_block_elems(p.type), bytes = qn_dtype_block_bytes(p.type);
    const size_t unit = qn_unit_bytes(b->dtype);
    for (uint32_t i = 0; i < b->n; i += per, p.blocks += bytes, dst += per * unit) {
        float y[QN_GGML_BLOCK_MAX];
        block(p.blocks, y);
        if (!narrow(b->dtype, y, per, dst))
            return QN_FAIL(err, QN_E_INPUT, (uint64_t)(p.blocks - payload), "blocks: a block of %s holds what is not finite", qn_dtype_name(p.type));
    }
    return QN_OK;
}
