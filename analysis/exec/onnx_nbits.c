/* onnx_nbits.c: com.microsoft.MatMulNBits: A (…, K) times the transpose of a matrix (N, K) whose weights are integers of 2, 4 or 8 bits, with a scale,
 * and maybe a zero point, for each block of a row:  w = (q − zero) · scale.
 *
 *     B            u8 (N, blocks, block_size · bits / 8), codes from the lowest bits up; blocks = ⌈K / block_size⌉
 *     scales       f32 (N, blocks)
 *     zero_points  u8 (N, ⌈blocks · bits / 8⌉), packed alike row by row, or f32 (N, blocks); without it 2^(bits − 1)
 *     bias         f32 (N)
 *
 * All but A also flat. accuracy_level (how a runtime may round A) is not looked at: products are of f32. Layout: onnxruntime's
 * documentation of its own operators. */
#include "analysis/exec/onnx_help.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

enum { TILE_UNITS = 1 << 18, BLOCK_LEAST = 16, BLOCK_MOST = 1 << 20 };

typedef struct nbits {
    uint64_t k, n, block, blocks, blob, zero_bytes; /* blob: bytes of a block; zero_bytes: of a row's zero points */
    unsigned bits;
    const uint8_t *b, *zero;
    const float *scale, *zero_f;
} nbits;

static qn_code read_sizes(const qn_node *n, nbits *s, qn_err *err)
{
    const int64_t k = qn_node_int(n, "K", 0), w = qn_node_int(n, "N", 0), bits = qn_node_int(n, "bits", 4), block = qn_node_int(n, "block_size", 0);
    if (k < 1 || w < 1 || k > INT32_MAX || w > INT32_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "K of %" PRId64 " and N of %" PRId64 "; both must be 1 to 2^31 - 1", k, w);
    if (bits != 2 && bits != 4 && bits != 8)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%" PRId64 " bits; supported are 2, 4 and 8", bits);
    if (block < BLOCK_LEAST || block > BLOCK_MOST || (block & (block - 1)))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "block_size is %" PRId64 "; it must be a power of two from 16 on", block);
    *s = (nbits){.k = (uint64_t)k, .n = (uint64_t)w, .bits = (unsigned)bits, .block = (uint64_t)block};
    s->blocks = qn_ceil_div(s->k, s->block);
    s->blob = s->block * s->bits / 8;
    s->zero_bytes = qn_ceil_div(s->blocks * s->bits, 8);
    return QN_OK;
}

qn_code qn_onnx_matmul_nbits_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    nbits s;
    QN_TRY(read_sizes(n, &s, err));
    out->dtype = in[0].dtype;
    if (!qn_onnx_info_has(n, in, 0))
        return QN_OK;
    const unsigned rank = in[0].rank;
    if (rank < 1 || (in[0].dims[rank - 1] >= 0 && (uint64_t)in[0].dims[rank - 1] != s.k))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "A's last axis is %" PRId64 " long, K is %" PRIu64, rank ? in[0].dims[rank - 1] : 0, s.k);
    qn_info_set(out, in[0].dtype, in[0].dims, rank);
    out->dims[rank - 1] = (int64_t)s.n;
    return QN_OK;
}

static qn_code need(const qn_array *t, const char *what, unsigned dtype, uint64_t n, qn_err *err)
{
    char text[128];
    return t->dtype == dtype && t->n == n ? QN_OK
                                          : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s; %" PRIu64 " elements of %s are needed", what,
                                                    qn_array_text(t, text), n, qn_dtype_name((qn_dtype)dtype));
}

static qn_code read_operands(const qn_node *n, const qn_array *in, nbits *s, qn_err *err)
{
    bool ovf = false;
    const uint64_t n_scales = qn_mul(s->n, s->blocks, &ovf), n_codes = qn_mul(n_scales, s->blob, &ovf);
    if (ovf)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "K and N are too large");
    QN_TRY(qn_onnx_need_f32(&in[0], "A", err));
    QN_TRY(need(&in[1], "B", QN_U8, n_codes, err));
    QN_TRY(need(&in[2], "scales", QN_F32, n_scales, err));
    s->b = in[1].data;
    s->scale = in[2].data;
    if (qn_onnx_has(n, in, 3) && in[3].dtype == QN_F32) {
        QN_TRY(need(&in[3], "zero_points", QN_F32, n_scales, err));
        s->zero_f = in[3].data;
    } else if (qn_onnx_has(n, in, 3)) {
        QN_TRY(need(&in[3], "zero_points", QN_U8, s->n * s->zero_bytes, err));
        s->zero = in[3].data;
    }
    if (qn_onnx_has(n, in, 4))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "g_idx, which newer runtimes do not take either");
    return qn_onnx_has(n, in, 5) ? need(&in[5], "bias", QN_F32, s->n, err) : QN_OK;
}

static unsigned code_at(const uint8_t *p, uint64_t i, unsigned bits)
{
    return p[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
}

static void dequantize_row(const nbits *s, uint64_t row, float *w)
{
    for (uint64_t g = 0; g < s->blocks; g++) {
        const uint64_t at = row * s->blocks + g, end = qn_min_u64(s->block, s->k - g * s->block);
        const float scale = s->scale[at];
        const float zero = s->zero_f ? s->zero_f[at] : s->zero ? (float)code_at(s->zero + row * s->zero_bytes, g, s->bits) : (float)(1u << (s->bits - 1));
        const uint8_t *p = s->b + at * s->blob;
        for (uint64_t i = 0; i < end; i++)
            w[g * s->block + i] = ((float)code_at(p, i, s->bits) - zero) * scale;
    }
}

struct tile {
    const nbits *s;
    uint64_t row0;
    float *w;
};

static qn_code tile_row(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    const struct tile *t = ctx;
    (void)slot;
    (void)err;
    dequantize_row(t->s, t->row0 + i, t->w + i * t->s->k);
    return QN_OK;
}

qn_code qn_onnx_matmul_nbits(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    nbits s;
    qn_array w;
    QN_TRY(read_sizes(n, &s, err));
    QN_TRY(read_operands(n, in, &s, err));
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const uint64_t m = out[0].n / s.n, each = qn_min_u64(s.n, qn_ceil_div(TILE_UNITS, s.k));
    if (m == 0)
        return QN_OK;
    QN_TRY(qn_exec_new(x, &w, QN_F32, (const int64_t[]){(int64_t)each, (int64_t)s.k}, 2, err));
    qn_code rc = QN_OK;
    for (uint64_t row = 0; row < s.n && rc == QN_OK; row += each) {
        const uint64_t some = qn_min_u64(each, s.n - row);
        struct tile t = {.s = &s, .row0 = row, .w = w.data};
        rc = qn_exec_parts(x, some, some * s.k * 4, tile_row, &t, err);
        if (rc == QN_OK)
            rc = qn_gemm(x, true, m, some, s.k, in[0].data, s.k, w.data, s.k, 0.0f, (float *)out[0].data + row, s.n, err);
    }
    qn_array_release(&w);
    if (rc == QN_OK && qn_onnx_has(n, in, 5))
        for (uint64_t i = 0; i < out[0].n; i++)
            ((float *)out[0].data)[i] += ((const float *)in[5].data)[i % s.n];
    return rc;
}
