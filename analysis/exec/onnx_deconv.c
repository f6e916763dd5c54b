/* onnx_deconv.c: ConvTranspose: what a convolution's output would have spread over its input.
 *     X: f32 (N, C, …in)   W: f32 (C, M / groups, …kernel)   Y: f32 (N, M, …out)
 * A group's products W^T · X give, for each output channel and tap, a plane of the size of the input (cols); each tap's plane is then added
 * to the output where it belongs. out = stride·(in − 1) + output_padding + (kernel − 1)·dilation + 1 − pads. */
#include "analysis/exec/onnx_window.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

qn_code qn_window_transposed(qn_window *w, const qn_node *n, unsigned rank, const int64_t *x, const int64_t *weight, qn_err *err)
{
    const unsigned n_axes = rank - 2, a0 = 3 - n_axes;
    /* reads and checks the attributes; auto_pad and sizes mean something else here and are done below */
    const int64_t unknown[3] = {QN_DIM_UNKNOWN, QN_DIM_UNKNOWN, QN_DIM_UNKNOWN};
    QN_TRY(qn_window_init(w, n, n_axes, unknown, weight + 2, false, err));
    int64_t extra[3] = {0}, want[3] = {0};
    bool given, sized;
    QN_TRY(qn_onnx_attr_ints(n, "output_padding", n_axes, extra + a0, &given, err));
    QN_TRY(qn_onnx_attr_ints(n, "output_shape", n_axes, want + a0, &sized, err));
    const char *autopad = qn_node_string(n, "auto_pad", "NOTSET");
    const bool upper = !strcmp(autopad, "SAME_UPPER"), lower = !strcmp(autopad, "SAME_LOWER");
    for (unsigned i = 0; i < 3; i++) {
        w->in[i] = i < a0 ? 1 : x[2 + i - a0];
        if (extra[i] < 0 || extra[i] >= INT32_MAX || want[i] < 0 || want[i] >= INT64_C(1) << 48)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "output_padding %" PRId64 ", output_shape %" PRId64 " along axis %u", extra[i],
                           want[i], i - a0 + 2);
        if (i < a0) {
            w->out[i] = 1;
            continue;
        }
        if (w->in[i] < 0) {
            w->out[i] = sized ? want[i] : QN_DIM_UNKNOWN;
            continue;
        }
        if (w->in[i] == 0 || w->in[i] > (INT64_C(1) << 60) / w->stride[i])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "an input of %" PRId64 " along axis %u with stride %" PRId64, w->in[i], i - a0 + 2,
                           w->stride[i]);
        const int64_t full = w->stride[i] * (w->in[i] - 1) + extra[i] + (w->kernel[i] - 1) * w->dilation[i] + 1;
        if (sized || upper || lower) {
            w->out[i] = sized ? want[i] : w->in[i] * w->stride[i];
            const int64_t total = full > w->out[i] ? full - w->out[i] : 0;
            w->pad[i] = upper ? total / 2 : total - total / 2;
            w->pad_end[i] = total - w->pad[i];
        } else {
            w->out[i] = full - w->pad[i] - w->pad_end[i];
        }
        if (w->out[i] < 0)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pads of %" PRId64 " and %" PRId64 " leave nothing of %" PRId64 " along axis %u",
                           w->pad[i], w->pad_end[i], full, i - a0 + 2);
    }
    return QN_OK;
}

static qn_code check(const qn_node *n, unsigned x_rank, const int64_t *x, unsigned w_rank, const int64_t *w, int64_t *groups, qn_err *err)
{
    *groups = qn_node_int(n, "group", 1);
    if (x_rank != w_rank || x_rank < 3 || x_rank > 5)
        return QN_FAIL(err, x_rank > 5 && x_rank == w_rank ? QN_E_UNSUPPORTED : QN_E_INPUT, QN_NO_OFFSET,
                       "an input of rank %u and a weight of rank %u; both must be the same, 3 to 5", x_rank, w_rank);
    if (*groups < 1 || (x[1] >= 0 && w[0] >= 0 && (x[1] != w[0] || x[1] % *groups)))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " channels in %" PRId64 " groups, and a weight for %" PRId64, x[1], *groups,
                       w[0]);
    return QN_OK;
}

qn_code qn_onnx_conv_transpose_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    if (!qn_onnx_info_has(n, in, 0) || !qn_onnx_info_has(n, in, 1))
        return QN_OK;
    int64_t groups;
    qn_window w;
    for (unsigned i = 1; i < in[1].rank; i++)
        if (in[1].dims[i] < 0)
            return QN_OK;
    QN_TRY(check(n, in[0].rank, in[0].dims, in[1].rank, in[1].dims, &groups, err));
    QN_TRY(qn_window_transposed(&w, n, in[0].rank, in[0].dims, in[1].dims, err));
    qn_info_set(out, in[0].dtype, in[0].dims, in[0].rank);
    out->dims[1] = groups > INT32_MAX ? QN_DIM_UNKNOWN : in[1].dims[1] * groups;
    for (unsigned i = 0; i < w.n_axes; i++)
        out->dims[2 + i] = w.out[3 - w.n_axes + i];
    return QN_OK;
}

typedef struct spread {
    const qn_window *w;
    const float *cols; /* (mg, taps, n_in) */
    const float *bias; /* of the group, or NULL */
    float *y;          /* (mg, n_out) */
} spread;

/* Task: one output channel. Taps in order, so that each output is summed in one order. */
static qn_code spread_channel(void *ctx, uint64_t m, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const spread *s = ctx;
    const qn_window *w = s->w;
    const uint64_t n_in = qn_window_in(w), n_out = qn_window_out(w);
    const float *col = s->cols + m * qn_window_taps(w) * n_in;
    float *y = s->y + m * n_out;
    for (uint64_t i = 0; i < n_out; i++)
        y[i] = s->bias ? s->bias[m] : 0.0f;
    for (int64_t kd = 0; kd < w->kernel[0]; kd++)
        for (int64_t kh = 0; kh < w->kernel[1]; kh++)
            for (int64_t kw = 0; kw < w->kernel[2]; kw++)
                for (int64_t id = 0; id < w->in[0]; id++)
                    for (int64_t ih = 0; ih < w->in[1]; ih++, col += w->in[2]) {
                        const int64_t od = id * w->stride[0] - w->pad[0] + kd * w->dilation[0];
                        const int64_t oh = ih * w->stride[1] - w->pad[1] + kh * w->dilation[1];
                        if (od < 0 || od >= w->out[0] || oh < 0 || oh >= w->out[1])
                            continue;
                        float *row = y + (od * w->out[1] + oh) * w->out[2];
                        int64_t ow = kw * w->dilation[2] - w->pad[2], iw = 0;
                        for (; iw < w->in[2] && ow < 0; iw++)
                            ow += w->stride[2];
                        for (; iw < w->in[2] && ow < w->out[2]; iw++, ow += w->stride[2])
                            row[ow] += col[iw];
                    }
    return QN_OK;
}

static void transpose(const float *src, uint64_t rows, uint64_t cols, float *dst)
{
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < cols; c++)
            dst[c * rows + r] = src[r * cols + c];
}

/* Every input place as a row of channels: what the weight multiplies. */
static qn_code tell_places(qn_exec *x, const qn_node *n, uint32_t g, const float *src, uint64_t cg, uint64_t n_in, qn_err *err)
{
    qn_array rows;
    QN_TRY(qn_exec_new(x, &rows, QN_F32, (const int64_t[]){(int64_t)n_in, (int64_t)cg}, 2, err));
    transpose(src, cg, n_in, rows.data);
    const qn_code rc = qn_exec_input(x, n->in[1], g, rows.data, n_in, cg, cg, err);
    qn_array_release(&rows);
    return rc;
}

qn_code qn_onnx_conv_transpose(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    qn_window w;
    int64_t groups;
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_f32(&in[1], "the weight", err));
    QN_TRY(check(n, in[0].rank, in[0].dims, in[1].rank, in[1].dims, &groups, err));
    QN_TRY(qn_window_transposed(&w, n, in[0].rank, in[0].dims, in[1].dims, err));
    int64_t dims[5] = {in[0].dims[0], 0};
    if (__builtin_mul_overflow(in[1].dims[1], groups, &dims[1]))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " groups of %" PRId64 " channels", groups, in[1].dims[1]);
    for (unsigned i = 0; i < w.n_axes; i++)
        dims[2 + i] = w.out[3 - w.n_axes + i];
    const bool biased = qn_onnx_has(n, in, 2);
    if (biased)
        QN_TRY(qn_onnx_need_vector(&in[2], "the bias", (uint64_t)dims[1], err));
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, dims, in[0].rank, err));
    if (!out[0].n)
        return QN_OK;
    const uint64_t n_in = qn_window_in(&w), n_out = qn_window_out(&w), c = (uint64_t)in[0].dims[1], m = (uint64_t)dims[1];
    const uint64_t cg = c / (uint64_t)groups, mg = m / (uint64_t)groups, k = mg * qn_window_taps(&w);
    qn_array wt, cols;
    QN_TRY(qn_exec_new(x, &wt, QN_F32, (const int64_t[]){(int64_t)k, (int64_t)cg}, 2, err));
    qn_code rc = qn_exec_new(x, &cols, QN_F32, (const int64_t[]){(int64_t)k, (int64_t)n_in}, 2, err);
    if (rc != QN_OK) {
        qn_array_release(&wt);
        return rc;
    }
    for (uint64_t g = 0; g < (uint64_t)groups && rc == QN_OK; g++) {
        transpose((const float *)in[1].data + g * cg * k, cg, k, wt.data);
        for (uint64_t i = 0; i < (uint64_t)dims[0] && rc == QN_OK; i++) {
            const float *src = (const float *)in[0].data + (i * c + g * cg) * n_in;
            spread s = {.w = &w, .cols = cols.data, .bias = biased ? (const float *)in[2].data + g * mg : NULL,
                        .y = (float *)out[0].data + (i * m + g * mg) * n_out};
            if (qn_exec_listens(x))
                rc = tell_places(x, n, (uint32_t)g, src, cg, n_in, err);
            if (rc == QN_OK)
                rc = qn_gemm(x, false, k, n_in, cg, wt.data, cg, src, n_in, 0.0f, cols.data, n_in, err);
            if (rc == QN_OK)
                rc = qn_exec_parts(x, mg, k * n_in + mg * n_out, spread_channel, &s, err);
        }
    }
    qn_array_release(&cols);
    qn_array_release(&wt);
    return rc;
}
