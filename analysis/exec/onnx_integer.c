/* onnx_integer.c: MatMulInteger, QLinearMatMul, ConvInteger, QLinearConv: products of 8-bit integers less their zero points, summed in i32. */
#include "analysis/exec/onnx_product.h"
#include "analysis/exec/onnx_quant.h"
#include "analysis/exec/onnx_window.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

static qn_code need_bytes(const qn_array *t, const char *what, qn_err *err)
{
    char text[128];
    if (t->dtype == QN_U8 || t->dtype == QN_I8)
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s; 8-bit integers are needed", what, qn_array_text(t, text));
}

/* One value, or one for each of n. */
static qn_code need_params(const qn_array *t, const char *what, uint64_t n, qn_err *err)
{
    if (!t || t->n == 1 || t->n == n)
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " values of %s; 1 or %" PRIu64 " are allowed", t->n, what, n);
}

static int32_t zero_of(const qn_array *zero, uint64_t i)
{
    return zero ? (int32_t)qn_elem_int(zero, zero->n == 1 ? 0 : i) : 0;
}

/* --- MatMul ------------------------------------------------------------------------------------------------------------ */

/* Rows of A as one matrix, B a matrix or as many as A has: the shapes that quantized models have. */
typedef struct mm {
    uint64_t n_batch, m, k, n;
    int64_t dims[QN_ARRAY_RANK_MAX];
    unsigned rank;
} mm;

static qn_code mm_fit(mm *s, const int64_t *a, unsigned a_rank, const int64_t *b, unsigned b_rank, qn_err *err)
{
    bool fits = a_rank >= 2 && (b_rank == 2 || b_rank == a_rank) && a[a_rank - 1] == b[b_rank - 2];
    for (unsigned i = 0; fits && b_rank > 2 && i + 2 < a_rank; i++)
        fits = a[i] == b[i];
    if (!fits)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET,
                       "an integer MatMul of tensors of rank %u and %u; supported are (…, m, k) with (k, n) or with (…, k, n)", a_rank, b_rank);
    s->rank = a_rank;
    memcpy(s->dims, a, a_rank * sizeof *a);
    s->dims[a_rank - 1] = b[b_rank - 1];
    s->k = (uint64_t)a[a_rank - 1];
    s->n = (uint64_t)b[b_rank - 1];
    s->n_batch = b_rank > 2 ? qn_span(a, 0, a_rank - 2) : 1;
    s->m = b_rank > 2 ? (uint64_t)a[a_rank - 2] : qn_span(a, 0, a_rank - 1);
    return QN_OK;
}

/* sum: i32 (n_batch, m, n). Zero points of A: one, or one a row; of B: one, or one a column. */
static qn_code mm_run(qn_exec *x, const mm *s, const qn_array *a, const qn_array *az, const qn_array *b, const qn_array *bz, qn_array *sum,
                      qn_err *err)
{
    QN_TRY(need_bytes(a, "A", err));
    QN_TRY(need_bytes(b, "B", err));
    const uint64_t rows = (uint64_t)s->dims[s->rank - 2];
    QN_TRY(need_params(az, "A's zero point", rows, err));
    QN_TRY(need_params(bz, "B's zero point", s->n, err));
    qn_array wa, wb;
    QN_TRY(qn_exec_new(x, &wa, QN_I32, a->dims, a->rank, err));
    qn_code rc = qn_exec_new(x, &wb, QN_I32, b->dims, b->rank, err);
    if (rc == QN_OK) {
        for (uint64_t i = 0; i < a->n; i++)
            ((int32_t *)wa.data)[i] = (int32_t)qn_elem_int(a, i) - zero_of(az, i / s->k % rows);
        for (uint64_t i = 0; i < b->n; i++)
            ((int32_t *)wb.data)[i] = (int32_t)qn_elem_int(b, i) - zero_of(bz, i % s->n);
        rc = qn_exec_new(x, sum, QN_I32, s->dims, s->rank, err);
        for (uint64_t i = 0; i < s->n_batch && rc == QN_OK && sum->n; i++)
            rc = qn_onnx_product_of(x, QN_I32, false, s->m, s->n, s->k, (int32_t *)wa.data + i * s->m * s->k,
                                    (int32_t *)wb.data + i * s->k * s->n, (int32_t *)sum->data + i * s->m * s->n, err);
        qn_array_release(&wb);
    }
    qn_array_release(&wa);
    return rc;
}

static void mm_info(const qn_info *a, const qn_info *b, unsigned dtype, qn_info *out)
{
    out->dtype = (uint8_t)dtype;
    if (a->rank == QN_RANK_UNKNOWN || b->rank == QN_RANK_UNKNOWN || a->rank < 2 || b->rank < 2)
        return;
    qn_info_set(out, dtype, a->dims, a->rank);
    out->dims[a->rank - 1] = b->dims[b->rank - 1];
}

qn_code qn_onnx_matmul_integer_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    mm_info(&in[0], &in[1], QN_I32, out);
    return QN_OK;
}

qn_code qn_onnx_matmul_integer(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    mm s;
    QN_TRY(mm_fit(&s, in[0].dims, in[0].rank, in[1].dims, in[1].rank, err));
    return mm_run(x, &s, &in[0], qn_onnx_has(n, in, 2) ? &in[2] : NULL, &in[1], qn_onnx_has(n, in, 3) ? &in[3] : NULL, &out[0], err);
}

qn_code qn_onnx_qlinear_matmul_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    mm_info(&in[0], &in[3], in[7].dtype, out);
    return QN_OK;
}

static float scale_of(const qn_array *t, uint64_t i)
{
    return ((const float *)t->data)[t->n == 1 ? 0 : i];
}

/* in: a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero */
qn_code qn_onnx_qlinear_matmul(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    mm s;
    (void)n;
    QN_TRY(mm_fit(&s, in[0].dims, in[0].rank, in[3].dims, in[3].rank, err));
    QN_TRY(need_bytes(&in[7], "y_zero_point", err));
    const uint64_t rows = (uint64_t)s.dims[s.rank - 2];
    for (unsigned i = 1; i < 7; i += i == 1 ? 3 : 2) { /* 1, 4, 6 */
        QN_TRY(qn_onnx_need_f32(&in[i], "a scale", err));
        QN_TRY(need_params(&in[i], "a scale", i == 1 ? rows : i == 4 ? s.n : 1, err));
    }
    QN_TRY(need_params(&in[7], "y_zero_point", 1, err));
    qn_array sum = {0};
    qn_code rc = mm_run(x, &s, &in[0], &in[2], &in[3], &in[5], &sum, err);
    if (rc == QN_OK)
        rc = qn_exec_new(x, &out[0], (qn_dtype)in[7].dtype, s.dims, s.rank, err);
    for (uint64_t i = 0; rc == QN_OK && i < sum.n; i++) {
        const float scale = scale_of(&in[1], i / s.n % rows) * scale_of(&in[4], i % s.n) / scale_of(&in[6], 0);
        qn_onnx_put_quantized(&out[0], i, (double)((float)((const int32_t *)sum.data)[i] * scale), (double)zero_of(&in[7], 0));
    }
    qn_array_release(&sum);
    return rc;
}

/* --- Conv ---------------------------------------------------------------------------------------------------------------- */

typedef struct iconv {
    qn_window win;
    int64_t dims[5];
    unsigned rank;
    uint64_t groups, cg, mg, k, n_in, n_out;
} iconv;

static qn_code iconv_fit(iconv *c, const qn_node *n, const qn_array *x, const qn_array *w, qn_err *err)
{
    const int64_t groups = qn_node_int(n, "group", 1);
    QN_TRY(need_bytes(x, "the input", err));
    QN_TRY(need_bytes(w, "the weight", err));
    if (x->rank != w->rank || x->rank < 3 || x->rank > 5 || groups < 1 || x->dims[1] % groups || w->dims[0] % groups ||
        x->dims[1] / groups != w->dims[1]) {
        char a[128], b[128];
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a convolution of %s with %s in %" PRId64 " groups", qn_array_text(x, a),
                       qn_array_text(w, b), groups);
    }
    QN_TRY(qn_window_init(&c->win, n, x->rank - 2u, x->dims + 2, w->dims + 2, false, err));
    c->rank = x->rank;
    c->groups = (uint64_t)groups;
    c->cg = (uint64_t)w->dims[1];
    c->mg = (uint64_t)w->dims[0] / c->groups;
    c->k = c->cg * qn_window_taps(&c->win);
    c->n_in = qn_window_in(&c->win);
    c->n_out = qn_window_out(&c->win);
    c->dims[0] = x->dims[0];
    c->dims[1] = w->dims[0];
    for (unsigned i = 0; i < c->win.n_axes; i++)
        c->dims[2 + i] = c->win.out[3 - c->win.n_axes + i];
    return QN_OK;
}

/* Patches of places [from, to) as columns (k, to − from), less the zero point (so pads are 0). */
static void unroll(const iconv *c, const qn_array *x, uint64_t plane0, int32_t zero, uint64_t from, uint64_t to, int32_t *cols)
{
    const qn_window *w = &c->win;
    for (uint64_t ch = 0; ch < c->cg; ch++)
        for (int64_t kd = 0; kd < w->kernel[0]; kd++)
            for (int64_t kh = 0; kh < w->kernel[1]; kh++)
                for (int64_t kw = 0; kw < w->kernel[2]; kw++)
                    for (uint64_t p = from; p < to; p++) {
                        const int64_t ow = (int64_t)p % w->out[2], row = (int64_t)p / w->out[2];
                        const int64_t iw = ow * w->stride[2] - w->pad[2] + kw * w->dilation[2];
                        const int64_t ih = row % w->out[1] * w->stride[1] - w->pad[1] + kh * w->dilation[1];
                        const int64_t id = row / w->out[1] * w->stride[0] - w->pad[0] + kd * w->dilation[0];
                        const bool in = id >= 0 && id < w->in[0] && ih >= 0 && ih < w->in[1] && iw >= 0 && iw < w->in[2];
                        const uint64_t at = (plane0 + ch) * c->n_in + (uint64_t)((id * w->in[1] + ih) * w->in[2] + iw);
                        *cols++ = in ? (int32_t)qn_elem_int(x, at) - zero : 0;
                    }
}

static qn_code iconv_group(qn_exec *x, const iconv *c, uint64_t image, uint64_t g, const qn_array *src, int32_t zero, const int32_t *w,
                           int32_t *cols, int32_t *part, uint64_t tile, int32_t *sum, qn_err *err)
{
    for (uint64_t from = 0; from < c->n_out; from += tile) {
        const uint64_t to = qn_min_u64(from + tile, c->n_out), len = to - from;
        unroll(c, src, image * (uint64_t)src->dims[1] + g * c->cg, zero, from, to, cols);
        QN_TRY(qn_onnx_product_of(x, QN_I32, false, c->mg, len, c->k, w, cols, part, err));
        for (uint64_t m = 0; m < c->mg; m++)
            memcpy(sum + m * c->n_out + from, part + m * len, len * sizeof *sum);
    }
    return QN_OK;
}

static qn_code iconv_run(qn_exec *x, const iconv *c, const qn_array *src, const qn_array *xz, const qn_array *w, const qn_array *wz,
                         qn_array *sum, qn_err *err)
{
    const uint64_t m = (uint64_t)c->dims[1];
    QN_TRY(need_params(xz, "the input's zero point", 1, err));
    QN_TRY(need_params(wz, "the weight's zero point", m, err));
    QN_TRY(qn_exec_new(x, sum, QN_I32, c->dims, c->rank, err));
    if (!sum->n)
        return QN_OK;
    const uint64_t tile = qn_max_u64(1, qn_min_u64(c->n_out, (UINT64_C(1) << 18) / qn_max_u64(c->k, 1)));
    const int64_t sizes[3] = {(int64_t)w->n, (int64_t)(c->k * tile), (int64_t)(c->mg * tile)};
    qn_array room[3] = {{0}};
    qn_code rc = QN_OK;
    for (unsigned i = 0; i < 3 && rc == QN_OK; i++)
        rc = qn_exec_new(x, &room[i], QN_I32, &sizes[i], 1, err);
    int32_t *wide = room[0].data;
    for (uint64_t i = 0; rc == QN_OK && i < w->n; i++)
        wide[i] = (int32_t)qn_elem_int(w, i) - zero_of(wz, i / c->k);
    for (uint64_t i = 0; rc == QN_OK && i < (uint64_t)c->dims[0] * c->groups; i++) {
        const uint64_t image = i / c->groups, g = i % c->groups;
        rc = iconv_group(x, c, image, g, src, zero_of(xz, 0), wide + g * c->mg * c->k, room[1].data, room[2].data, tile,
                         (int32_t *)sum->data + (image * m + g * c->mg) * c->n_out, err);
    }
    for (unsigned i = 0; i < 3; i++)
        qn_array_release(&room[i]);
    return rc;
}

qn_code qn_onnx_conv_integer(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    iconv c;
    QN_TRY(iconv_fit(&c, n, &in[0], &in[1], err));
    return iconv_run(x, &c, &in[0], qn_onnx_has(n, in, 2) ? &in[2] : NULL, &in[1], qn_onnx_has(n, in, 3) ? &in[3] : NULL, &out[0], err);
}

static qn_code iconv_info(const qn_node *n, const qn_info *x, const qn_info *w, unsigned dtype, qn_info *out, qn_err *err)
{
    qn_window win;
    out->dtype = (uint8_t)dtype;
    if (x->rank == QN_RANK_UNKNOWN || w->rank != x->rank || x->rank < 3 || x->rank > 5)
        return QN_OK;
    for (unsigned i = 2; i < w->rank; i++)
        if (w->dims[i] < 0)
            return QN_OK;
    QN_TRY(qn_window_init(&win, n, x->rank - 2u, x->dims + 2, w->dims + 2, false, err));
    qn_info_set(out, dtype, x->dims, x->rank);
    out->dims[1] = w->dims[0];
    for (unsigned i = 2; i < x->rank; i++)
        out->dims[i] = win.out[3 - win.n_axes + i - 2];
    return QN_OK;
}

qn_code qn_onnx_conv_integer_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return iconv_info(n, &in[0], &in[1], QN_I32, out, err);
}

qn_code qn_onnx_qlinear_conv_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return iconv_info(n, &in[0], &in[3], in[7].dtype, out, err);
}

/* in: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias (i32, of scale x_scale · w_scale) */
qn_code qn_onnx_qlinear_conv(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    iconv c;
    QN_TRY(iconv_fit(&c, n, &in[0], &in[3], err));
    const uint64_t m = (uint64_t)c.dims[1];
    QN_TRY(need_bytes(&in[7], "y_zero_point", err));
    QN_TRY(need_params(&in[7], "y_zero_point", 1, err));
    for (unsigned i = 1; i < 7; i += i == 1 ? 3 : 2) { /* 1, 4, 6 */
        QN_TRY(qn_onnx_need_f32(&in[i], "a scale", err));
        QN_TRY(need_params(&in[i], "a scale", i == 4 ? m : 1, err));
    }
    const qn_array *bias = qn_onnx_has(n, in, 8) ? &in[8] : NULL;
    if (bias && (bias->dtype != QN_I32 || bias->n != m))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the bias must be %" PRIu64 " values of i32", m);
    qn_array sum = {0};
    qn_code rc = iconv_run(x, &c, &in[0], &in[2], &in[3], &in[5], &sum, err);
    if (rc == QN_OK)
        rc = qn_exec_new(x, &out[0], (qn_dtype)in[7].dtype, c.dims, c.rank, err);
    for (uint64_t i = 0; rc == QN_OK && i < sum.n; i++) {
        const uint64_t ch = i / c.n_out % m;
        const float scale = scale_of(&in[1], 0) * scale_of(&in[4], ch) / scale_of(&in[6], 0);
        const int64_t total = (int64_t)((const int32_t *)sum.data)[i] + (bias ? ((const int32_t *)bias->data)[ch] : 0);
        qn_onnx_put_quantized(&out[0], i, (double)((float)total * scale), (double)zero_of(&in[7], 0));
    }
    qn_array_release(&sum);
    return rc;
}
