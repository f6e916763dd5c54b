/* onnx_roi.c: MaxUnpool, MaxRoiPool, RoiAlign: pooling undone, and pooling of regions. */
#include "analysis/exec/onnx_window.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* --- MaxUnpool: values go back to where MaxPool found them -------------------------------------------------------------- */

qn_code qn_onnx_max_unpool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_rank(&in[0], "the input", 3, 5, err));
    const unsigned rank = in[0].rank, n_axes = rank - 2;
    if (in[1].dtype != QN_I64 || in[1].n != in[0].n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " values, and indices for %" PRIu64, in[0].n, in[1].n);
    const int64_t unknown[3] = {QN_DIM_UNKNOWN, QN_DIM_UNKNOWN, QN_DIM_UNKNOWN};
    qn_window w;
    QN_TRY(qn_window_init(&w, n, n_axes, unknown, NULL, true, err));
    /* Indices count places of the tensor that was pooled; a larger output_shape has the same planes in a larger frame. */
    int64_t from[QN_ARRAY_RANK_MAX], dims[QN_ARRAY_RANK_MAX];
    memcpy(from, in[0].dims, sizeof from);
    for (unsigned i = 0; i < n_axes; i++) {
        const unsigned a = 3 - n_axes + i;
        from[2 + i] = (in[0].dims[2 + i] - 1) * w.stride[a] - w.pad[a] - w.pad_end[a] + w.kernel[a];
    }
    memcpy(dims, from, sizeof dims);
    if (qn_onnx_has(n, in, 2)) {
        unsigned count;
        QN_TRY(qn_onnx_int_list(&in[2], "output_shape", dims, QN_ARRAY_RANK_MAX, &count, err));
        if (count != rank || dims[0] != in[0].dims[0] || dims[1] != in[0].dims[1])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "output_shape has another rank or other channels than the input");
    }
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, dims, rank, err));
    memset(out[0].data, 0, qn_array_bytes(&out[0]));
    uint64_t all = 1;
    for (unsigned i = 0; i < rank; i++)
        if (from[i] < 0 || __builtin_mul_overflow(all, (uint64_t)from[i], &all))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pads that leave nothing of the output");
    for (uint64_t i = 0; i < in[0].n; i++) {
        const int64_t at = ((const int64_t *)in[1].data)[i];
        if (at < 0 || (uint64_t)at >= all)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "index %" PRId64 "; the output has %" PRIu64 " places", at, all);
        uint64_t rest = (uint64_t)at, to = 0, step = 1;
        bool fits = true;
        for (unsigned k = rank; k-- > 0;) {
            const uint64_t c = rest % (uint64_t)from[k];
            rest /= (uint64_t)from[k];
            fits = fits && c < (uint64_t)dims[k];
            to += c * step;
            step *= (uint64_t)dims[k];
        }
        if (!fits)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "index %" PRId64 " lies outside output_shape", at);
        ((float *)out[0].data)[to] = ((const float *)in[0].data)[i];
    }
    return QN_OK;
}

/* --- regions ------------------------------------------------------------------------------------------------------------ */

typedef struct roi {
    int64_t c, h, w, oh, ow, samples;
    double scale, shift;
    bool max;
    const qn_array *batch; /* RoiAlign: the image of each region */
    const float *x, *rois;
    float *y;
    int64_t n;
} roi;

static qn_code image_of(const roi *r, int64_t i, int64_t *image, qn_err *err)
{
    /* MaxRoiPool: (image, x1, y1, x2, y2) */
    const double f = r->batch ? 0 : (double)r->rois[i * 5];
    *image = r->batch ? qn_elem_int(r->batch, (uint64_t)i) : f >= 0 && f < (double)r->n ? (int64_t)f : -1;
    if (*image < 0 || *image >= r->n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "region %" PRId64 " is of image %" PRId64 " of %" PRId64, i, *image, r->n);
    return QN_OK;
}

/* Bilinear, of a point at most one place outside; 0 further out (the definition that Mask R-CNN's authors gave). */
static void corners(const roi *r, double y, double x, int64_t at[4], double weight[4])
{
    memset(at, 0, 4 * sizeof *at);
    memset(weight, 0, 4 * sizeof *weight);
    if (!(y >= -1 && y <= (double)r->h && x >= -1 && x <= (double)r->w))
        return;
    y = y < 0 ? 0 : y;
    x = x < 0 ? 0 : x;
    int64_t y0 = (int64_t)y, x0 = (int64_t)x, y1 = y0 + 1, x1 = x0 + 1;
    if (y0 >= r->h - 1) {
        y0 = y1 = r->h - 1;
        y = (double)y0;
    }
    if (x0 >= r->w - 1) {
        x0 = x1 = r->w - 1;
        x = (double)x0;
    }
    const double ly = y - (double)y0, lx = x - (double)x0;
    at[0] = y0 * r->w + x0;
    at[1] = y0 * r->w + x1;
    at[2] = y1 * r->w + x0;
    at[3] = y1 * r->w + x1;
    weight[0] = (1 - ly) * (1 - lx);
    weight[1] = (1 - ly) * lx;
    weight[2] = ly * (1 - lx);
    weight[3] = ly * lx;
}

static double bin_value(const roi *r, const float *plane, double y0, double x0, double bin_h, double bin_w, int64_t ny, int64_t nx)
{
    double sum = 0, most = 0;
    bool any = false;
    for (int64_t iy = 0; iy < ny; iy++)
        for (int64_t ix = 0; ix < nx; ix++) {
            int64_t at[4];
            double wt[4];
            corners(r, y0 + ((double)iy + 0.5) * bin_h / (double)ny, x0 + ((double)ix + 0.5) * bin_w / (double)nx, at, wt);
            for (unsigned k = 0; k < 4; k++) {
                const double v = wt[k] * (double)plane[at[k]];
                sum += v;
                most = any && most > v ? most : v;
                any = true;
            }
        }
    return r->max ? most : sum / (double)(ny * nx > 0 ? ny * nx : 1);
}

/* Task: one region. */
static qn_code align_region(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    (void)slot;
    const roi *r = ctx;
    const int64_t i = (int64_t)task;
    int64_t image;
    QN_TRY(image_of(r, i, &image, err));
    const float *q = r->rois + i * 4;
    const double x1 = (double)q[0] * r->scale - r->shift, y1 = (double)q[1] * r->scale - r->shift;
    double w = (double)q[2] * r->scale - r->shift - x1, h = (double)q[3] * r->scale - r->shift - y1;
    if (r->shift == 0) { /* not half_pixel: at least one place */
        w = w > 1 ? w : 1;
        h = h > 1 ? h : 1;
    }
    const double bin_h = h / (double)r->oh, bin_w = w / (double)r->ow;
    if (!(fabs(bin_h) < 1e6 && fabs(bin_w) < 1e6))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "region %" PRId64 " is of %g × %g", i, h, w);
    const int64_t ny = r->samples > 0 ? r->samples : (int64_t)ceil(bin_h), nx = r->samples > 0 ? r->samples : (int64_t)ceil(bin_w);
    for (int64_t c = 0; c < r->c; c++)
        for (int64_t oy = 0; oy < r->oh; oy++)
            for (int64_t ox = 0; ox < r->ow; ox++)
                r->y[((i * r->c + c) * r->oh + oy) * r->ow + ox] =
                    (float)bin_value(r, r->x + (image * r->c + c) * r->h * r->w, y1 + (double)oy * bin_h, x1 + (double)ox * bin_w,
                                     bin_h, bin_w, ny, nx);
    return QN_OK;
}

qn_code qn_onnx_roi_align(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_rank(&in[0], "the input", 4, 4, err));
    QN_TRY(qn_onnx_need_f32(&in[1], "rois", err));
    const char *mode = qn_node_string(n, "mode", "avg");
    const char *coords = qn_node_string(n, "coordinate_transformation_mode", n->version >= 16 ? "half_pixel" : "output_half_pixel");
    roi r = {.c = in[0].dims[1], .h = in[0].dims[2], .w = in[0].dims[3], .n = in[0].dims[0], .x = in[0].data, .rois = in[1].data};
    r.oh = qn_node_int(n, "output_height", 1);
    r.ow = qn_node_int(n, "output_width", 1);
    r.samples = qn_node_int(n, "sampling_ratio", 0);
    r.scale = qn_node_float(n, "spatial_scale", 1);
    r.shift = strcmp(coords, "half_pixel") ? 0 : 0.5;
    r.max = !strcmp(mode, "max");
    r.batch = &in[2];
    if ((strcmp(mode, "avg") && !r.max) || (strcmp(coords, "half_pixel") && strcmp(coords, "output_half_pixel")))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "mode '%s', coordinate_transformation_mode '%s'", mode, coords);
    if (r.oh < 1 || r.ow < 1 || r.samples < 0 || r.samples > 1024 || in[1].rank != 2 || in[1].dims[1] != 4 ||
        in[2].n != (uint64_t)in[1].dims[0] || (in[2].dtype != QN_I64 && in[2].dtype != QN_I32))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                       "RoiAlign needs rois (n, 4), n batch_indices, an output of at least 1 × 1, and sampling_ratio 0 to 1024");
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, (const int64_t[]){in[1].dims[0], r.c, r.oh, r.ow}, 4, err));
    r.y = out[0].data;
    if (!out[0].n)
        return QN_OK;
    if (!in[0].n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "regions of an empty input");
    return qn_exec_parts(x, (uint64_t)in[1].dims[0], out[0].n * 16, align_region, &r, err);
}

/* Bin o of `bins` over [start, start + size): its first and last + 1 place inside [0, n). */
static void bin_range(int64_t o, int64_t bins, int64_t start, int64_t size, int64_t n, int64_t *lo, int64_t *hi)
{
    const double bin = (double)size / (double)bins;
    *lo = (int64_t)floor((double)o * bin) + start;
    *hi = (int64_t)ceil((double)(o + 1) * bin) + start;
    *lo = *lo < 0 ? 0 : *lo > n ? n : *lo;
    *hi = *hi < 0 ? 0 : *hi > n ? n : *hi;
}

static qn_code max_region(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    (void)slot;
    const roi *r = ctx;
    const int64_t i = (int64_t)task;
    const float *q = r->rois + i * 5;
    int64_t image, v[4];
    QN_TRY(image_of(r, i, &image, err));
    for (unsigned k = 0; k < 4; k++) {
        const double at = round((double)q[1 + k] * r->scale);
        if (!(fabs(at) < 1e9))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "region %" PRId64 " reaches to %g", i, at);
        v[k] = (int64_t)at;
    }
    const int64_t w = v[2] - v[0] + 1 > 1 ? v[2] - v[0] + 1 : 1, h = v[3] - v[1] + 1 > 1 ? v[3] - v[1] + 1 : 1;
    for (int64_t c = 0; c < r->c; c++)
        for (int64_t oy = 0; oy < r->oh; oy++)
            for (int64_t ox = 0; ox < r->ow; ox++) {
                int64_t y0, y1, x0, x1;
                bin_range(oy, r->oh, v[1], h, r->h, &y0, &y1);
                bin_range(ox, r->ow, v[0], w, r->w, &x0, &x1);
                const float *plane = r->x + (image * r->c + c) * r->h * r->w;
                float most = y1 > y0 && x1 > x0 ? -INFINITY : 0.0f;
                for (int64_t y = y0; y < y1; y++)
                    for (int64_t k = x0; k < x1; k++)
                        most = plane[y * r->w + k] > most ? plane[y * r->w + k] : most;
                r->y[((i * r->c + c) * r->oh + oy) * r->ow + ox] = most;
            }
    return QN_OK;
}

qn_code qn_onnx_max_roi_pool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_rank(&in[0], "the input", 4, 4, err));
    QN_TRY(qn_onnx_need_f32(&in[1], "rois", err));
    int64_t pooled[2];
    bool given;
    QN_TRY(qn_onnx_attr_ints(n, "pooled_shape", 2, pooled, &given, err));
    if (!given || pooled[0] < 1 || pooled[1] < 1 || in[1].rank != 2 || in[1].dims[1] != 5)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "MaxRoiPool needs rois (n, 5) and pooled_shape of at least 1 × 1");
    roi r = {.c = in[0].dims[1], .h = in[0].dims[2], .w = in[0].dims[3], .n = in[0].dims[0], .x = in[0].data, .rois = in[1].data,
             .oh = pooled[0], .ow = pooled[1], .scale = qn_node_float(n, "spatial_scale", 1)};
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, (const int64_t[]){in[1].dims[0], r.c, r.oh, r.ow}, 4, err));
    r.y = out[0].data;
    if (!out[0].n)
        return QN_OK;
    return qn_exec_parts(x, (uint64_t)in[1].dims[0], out[0].n * 16, max_region, &r, err);
}
