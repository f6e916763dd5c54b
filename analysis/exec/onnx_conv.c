/* onnx_conv.c: Conv. Three ways, chosen by shapes alone: 1 × 1 without stride is one product; a channel by itself (depthwise) is summed
 * directly; everything else unrolls patches (im2col) of a tile of output places and multiplies them with the weight.
 *     X: f32 (N, C, …in)   W: f32 (M, C / groups, …kernel)   Y: f32 (N, M, …out) */
#include "analysis/exec/onnx_window.h"
#include "base/num.h"
#include <cblas.h>
#include <inttypes.h>
#include <string.h>

typedef struct conv {
    qn_window win;
    uint64_t n, c, m, groups;      /* images, channels in and out */
    uint64_t cg, mg;               /* of a group                  */
    uint64_t n_in, n_out, taps;    /* places, kernel elements     */
    uint64_t k;                    /* cg · taps: length of a patch */
    uint64_t tile, n_tiles;        /* output places worked on at a time */
    const float *x, *w, *b;
    float *y, *scratch;
} conv;

static qn_code read_conv(conv *c, const qn_node *n, const int64_t *x, unsigned x_rank, const int64_t *w, unsigned w_rank, qn_err *err)
{
    if (x_rank != w_rank || x_rank < 3)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "an input of rank %u and a weight of rank %u; both must be the same and at least 3",
                       x_rank, w_rank);
    const int64_t groups = qn_node_int(n, "group", 1);
    if (groups < 1 || (w[0] >= 0 && w[0] % groups) || (x[1] >= 0 && w[1] >= 0 && (x[1] % groups || x[1] / groups != w[1])))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                       "%" PRId64 " channels in %" PRId64 " groups do not fit a weight of %" PRId64 " × %" PRId64 " channels", x[1], groups,
                       w[0], w[1]);
    c->groups = (uint64_t)groups;
    return qn_window_init(&c->win, n, x_rank - 2, x + 2, w + 2, false, err);
}

qn_code qn_onnx_conv_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    conv c;
    if (!qn_onnx_info_has(n, in, 0) || !qn_onnx_info_has(n, in, 1))
        return QN_OK;
    const qn_info *x = &in[0], *w = &in[1];
    for (unsigned i = 1; i < w->rank; i++)
        if (w->dims[i] < 0)
            return QN_OK;
    QN_TRY(read_conv(&c, n, x->dims, x->rank, w->dims, w->rank, err));
    qn_info_set(out, x->dtype, x->dims, x->rank);
    out->dims[1] = w->dims[0];
    for (unsigned i = 2; i < x->rank; i++)
        out->dims[i] = c.win.out[3 - c.win.n_axes + i - 2];
    return QN_OK;
}

/* Patches as rows (to − from, k): how the weight's rows see them. */
static void unroll_rows(const conv *c, const float *x, uint64_t from, uint64_t to, float *rows)
{
    const qn_window *w = &c->win;
    for (uint64_t p = from; p < to; p++) {
        const int64_t ow = (int64_t)p % w->out[2], row = (int64_t)p / w->out[2], oh = row % w->out[1], od = row / w->out[1];
        for (uint64_t ch = 0; ch < c->cg; ch++)
            for (int64_t kd = 0; kd < w->kernel[0]; kd++)
                for (int64_t kh = 0; kh < w->kernel[1]; kh++)
                    for (int64_t kw = 0; kw < w->kernel[2]; kw++) {
                        const int64_t id = od * w->stride[0] - w->pad[0] + kd * w->dilation[0];
                        const int64_t ih = oh * w->stride[1] - w->pad[1] + kh * w->dilation[1];
                        const int64_t iw = ow * w->stride[2] - w->pad[2] + kw * w->dilation[2];
                        const bool in = id >= 0 && id < w->in[0] && ih >= 0 && ih < w->in[1] && iw >= 0 && iw < w->in[2];
                        *rows++ = in ? x[ch * c->n_in + (uint64_t)((id * w->in[1] + ih) * w->in[2] + iw)] : 0.0f;
                    }
    }
}

static void begin_rows(const conv *c, uint64_t m, float *y, uint64_t ld, uint64_t n)
{
    for (uint64_t i = 0; i < c->mg; i++)
        for (uint64_t p = 0; p < n; p++)
            y[i * ld + p] = c->b ? c->b[m + i] : 0.0f;
}

/* Task: one tile of one group of one image. */
static qn_code conv_tile(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)err;
    const conv *c = ctx;
    const uint64_t t = i % c->n_tiles, g = i / c->n_tiles % c->groups, n = i / c->n_tiles / c->groups;
    const uint64_t from = t * c->tile, to = qn_min_u64(from + c->tile, c->n_out), len = to - from;
    float *cols = c->scratch + (uint64_t)slot * c->k * c->tile;
    float *y = c->y + (n * c->m + g * c->mg) * c->n_out + from;
    qn_window_unroll(&c->win, c->cg, c->x + (n * c->c + g * c->cg) * c->n_in, from, to, cols, len);
    begin_rows(c, g * c->mg, y, c->n_out, len);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)c->mg, (int)len, (int)c->k, 1.0f, c->w + g * c->mg * c->k, (int)c->k,
                cols, (int)len, 1.0f, y, (int)c->n_out);
    return QN_OK;
}

/* Task: one output channel of one image, of a group that has one input channel. */
static qn_code conv_channel(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const conv *c = ctx;
    const qn_window *w = &c->win;
    const uint64_t m = i % c->m, n = i / c->m;
    const float *x = c->x + (n * c->c + m / c->mg) * c->n_in, *k = c->w + m * c->taps;
    float *y = c->y + (n * c->m + m) * c->n_out;
    const float bias = c->b ? c->b[m] : 0.0f;
    const int64_t s = w->stride[2], d = w->dilation[2];
    for (int64_t od = 0; od < w->out[0]; od++)
        for (int64_t oh = 0; oh < w->out[1]; oh++, y += w->out[2]) {
            int64_t d0, d1, h0, h1;
            qn_window_inside(w, 0, od, &d0, &d1);
            qn_window_inside(w, 1, oh, &h0, &h1);
            for (int64_t ow = 0; ow < w->out[2]; ow++)
                y[ow] = bias;
            for (int64_t kd = d0; kd < d1; kd++)
                for (int64_t kh = h0; kh < h1; kh++) {
                    const int64_t id = od * w->stride[0] - w->pad[0] + kd * w->dilation[0];
                    const int64_t ih = oh * w->stride[1] - w->pad[1] + kh * w->dilation[1];
                    const float *row = x + (id * w->in[1] + ih) * w->in[2];
                    for (int64_t kw = 0; kw < w->kernel[2]; kw++) {
                        /* outputs whose tap kw lies inside: ow·s + at in [0, size) */
                        const int64_t at = kw * d - w->pad[2];
                        const int64_t o0 = at < 0 ? (-at + s - 1) / s : 0;
                        int64_t o1 = at >= w->in[2] ? 0 : (w->in[2] - at + s - 1) / s;
                        o1 = o1 < w->out[2] ? o1 : w->out[2];
                        const float v = k[(kd * w->kernel[1] + kh) * w->kernel[2] + kw];
                        if (s == 1)
                            for (int64_t o = o0; o < o1; o++)
                                y[o] += v * row[o + at];
                        else
                            for (int64_t o = o0; o < o1; o++)
                                y[o] += v * row[o * s + at];
                    }
                }
        }
    return QN_OK;
}

static bool is_pointwise(const conv *c)
{
    for (unsigned i = 0; i < 3; i++)
        if (c->win.kernel[i] != 1 || c->win.stride[i] != 1 || c->win.pad[i] || c->win.pad_end[i])
            return false;
    return true;
}

static qn_code pointwise(qn_exec *x, const conv *c, qn_err *err)
{
    for (uint64_t i = 0; i < c->n * c->groups; i++) {
        const uint64_t g = i % c->groups, n = i / c->groups;
        float *y = c->y + (n * c->m + g * c->mg) * c->n_out;
        begin_rows(c, g * c->mg, y, c->n_out, c->n_out);
        QN_TRY(qn_gemm(x, false, c->mg, c->n_out, c->cg, c->w + g * c->mg * c->cg, c->cg, c->x + (n * c->c + g * c->cg) * c->n_in,
                       c->n_in, 1.0f, y, c->n_out, err));
    }
    return QN_OK;
}

/* Few places and many channels: one tile for each image, whose product is the part that is cut. */
static qn_code by_product(qn_exec *x, const conv *c, qn_err *err)
{
    for (uint64_t i = 0; i < c->n * c->groups; i++) {
        const uint64_t g = i % c->groups, n = i / c->groups;
        float *y = c->y + (n * c->m + g * c->mg) * c->n_out;
        qn_window_unroll(&c->win, c->cg, c->x + (n * c->c + g * c->cg) * c->n_in, 0, c->n_out, c->scratch, c->n_out);
        begin_rows(c, g * c->mg, y, c->n_out, c->n_out);
        QN_TRY(qn_gemm(x, false, c->mg, c->n_out, c->k, c->w + g * c->mg * c->k, c->k, c->scratch, c->n_out, 1.0f, y, c->n_out, err));
    }
    return QN_OK;
}

/* Patches for those who measure a convolution's input: group by group, a bounded number at a time. */
static qn_code tell_patches(qn_exec *x, const qn_node *n, const conv *c, qn_err *err)
{
    const uint64_t most = qn_max_u64(1, qn_min_u64(c->n_out, (UINT64_C(1) << 20) / c->k));
    qn_array rows;
    QN_TRY(qn_exec_new(x, &rows, QN_F32, (const int64_t[]){(int64_t)most, (int64_t)c->k}, 2, err));
    qn_code rc = QN_OK;
    for (uint64_t g = 0; g < c->groups; g++)
        for (uint64_t i = 0; i < c->n; i++)
            for (uint64_t p = 0; p < c->n_out && rc == QN_OK; p += most) {
                const uint64_t to = qn_min_u64(p + most, c->n_out);
                unroll_rows(c, c->x + (i * c->c + g * c->cg) * c->n_in, p, to, rows.data);
                rc = qn_exec_input(x, n->in[1], (uint32_t)g, rows.data, to - p, c->k, c->k, err);
            }
    qn_array_release(&rows);
    return rc;
}

/* Columns in a tile: patches of about 256 KiB, a multiple of 16. */
static void set_tiles(conv *c)
{
    const uint64_t fit = (UINT64_C(1) << 16) / c->k & ~UINT64_C(15);
    c->tile = qn_min_u64(qn_max_u64(fit, 32), c->n_out);
    c->n_tiles = qn_ceil_div(c->n_out, c->tile);
}

static qn_code run(qn_exec *x, const qn_node *n, conv *c, qn_err *err)
{
    const uint64_t n_work = c->n * c->m * c->n_out * c->k;
    if (qn_exec_listens(x))
        QN_TRY(tell_patches(x, n, c, err));
    if (is_pointwise(c))
        return pointwise(x, c, err);
    if (c->cg == 1 && c->mg <= 4)
        return qn_exec_parts(x, c->n * c->m, n_work, conv_channel, c, err);
    set_tiles(c);
    if (c->mg > INT32_MAX || c->k > INT32_MAX || c->n_out > INT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a convolution with %" PRIu64 " channels, patches of %" PRIu64 " and %" PRIu64
                       " places; at most 2^31 - 1 each are supported", c->mg, c->k, c->n_out);
    const uint64_t n_tasks = c->n * c->groups * c->n_tiles;
    const bool few = n_tasks < 4 && c->n_out * c->k <= UINT64_C(1) << 22;
    const int64_t room[] = {few ? 1 : (int64_t)qn_exec_env(x)->n_threads, (int64_t)c->k, (int64_t)(few ? c->n_out : c->tile)};
    qn_array scratch;
    QN_TRY(qn_exec_new(x, &scratch, QN_F32, room, 3, err));
    c->scratch = scratch.data;
    const qn_code rc = few ? by_product(x, c, err) : qn_exec_parts(x, n_tasks, n_work, conv_tile, c, err);
    qn_array_release(&scratch);
    return rc;
}

qn_code qn_onnx_conv(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    conv c = {0};
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_f32(&in[1], "the weight", err));
    QN_TRY(read_conv(&c, n, in[0].dims, in[0].rank, in[1].dims, in[1].rank, err));
    int64_t dims[5] = {in[0].dims[0], in[1].dims[0]};
    for (unsigned i = 0; i < c.win.n_axes; i++)
        dims[2 + i] = c.win.out[3 - c.win.n_axes + i];
    if (qn_onnx_has(n, in, 2)) {
        QN_TRY(qn_onnx_need_vector(&in[2], "the bias", (uint64_t)dims[1], err));
        c.b = in[2].data;
    }
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, dims, in[0].rank, err));
    c.n = (uint64_t)dims[0];
    c.c = (uint64_t)in[0].dims[1];
    c.m = (uint64_t)dims[1];
    c.cg = c.c / c.groups;
    c.mg = c.m / c.groups;
    c.n_in = qn_window_in(&c.win);
    c.n_out = qn_window_out(&c.win);
    c.taps = qn_window_taps(&c.win);
    c.k = c.cg * c.taps;
    c.x = in[0].data;
    c.w = in[1].data;
    c.y = out[0].data;
    if (!out[0].n)
        return QN_OK;
    if (!c.k || !c.n_in) {
        /* no channels or nothing to see: the bias alone */
        for (uint64_t i = 0; i < c.n * c.groups; i++)
            begin_rows(&c, i % c.groups * c.mg, c.y + i * c.mg * c.n_out, c.n_out, c.n_out);
        return QN_OK;
    }
    return run(x, n, &c, err);
}
