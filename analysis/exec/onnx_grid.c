/* onnx_grid.c: GridSample of images (N, C, H, W) at points of a grid (N, h, w, 2), x before y, −1 … 1 across the image. */
#include "analysis/exec/onnx_help.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct grid {
    enum { GRID_NEAREST, GRID_LINEAR, GRID_CUBIC } mode;
    enum { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION } pad;
    bool corners;
    int64_t c, h, w, oh, ow;
    const float *x, *points;
    float *y;
} grid;

/* Reflected between the outermost places (corners) or the outermost edges until it lies inside. */
static float reflect(float v, float lo, float hi)
{
    const float range = hi - lo;
    if (range <= 0)
        return lo;
    if (v < lo) {
        const float d = lo - v, times = floorf(d / range), rest = d - times * range;
        return fmodf(times, 2) == 0 ? lo + rest : hi - rest;
    }
    if (v > hi) {
        const float d = v - hi, times = floorf(d / range), rest = d - times * range;
        return fmodf(times, 2) == 0 ? hi - rest : lo + rest;
    }
    return v;
}

static float clamp(float v, float lo, float hi)
{
    return v > lo ? (v < hi ? v : hi) : lo; /* a NaN becomes lo */
}

static float value_at(const grid *g, const float *plane, float y, float x)
{
    if (g->pad == PAD_BORDER) {
        y = clamp(y, 0, (float)(g->h - 1));
        x = clamp(x, 0, (float)(g->w - 1));
    } else if (g->pad == PAD_REFLECTION) {
        const float e = g->corners ? 0 : 0.5f;
        y = clamp(roundf(reflect(y, -e, (float)(g->h - 1) + e)), 0, (float)(g->h - 1));
        x = clamp(roundf(reflect(x, -e, (float)(g->w - 1) + e)), 0, (float)(g->w - 1));
    } else if (!(y >= 0 && y <= (float)(g->h - 1) && x >= 0 && x <= (float)(g->w - 1))) {
        return 0;
    }
    return plane[(int64_t)y * g->w + (int64_t)x];
}

static float unscale(const grid *g, float v, int64_t size)
{
    v = g->corners ? (v + 1) / 2 * (float)(size - 1) : ((v + 1) * (float)size - 1) / 2;
    if (g->pad == PAD_ZEROS)
        return isfinite(v) ? v : -1e9f;
    if (!isfinite(v))
        return 0;
    if (g->pad == PAD_BORDER && g->mode != GRID_CUBIC)
        return clamp(v, 0, (float)(size - 1));
    const float e = g->corners ? 0 : 0.5f;
    return g->pad == PAD_REFLECTION && g->mode != GRID_CUBIC ? reflect(v, -e, (float)(size - 1) + e) : v;
}

static void cubic(float t, float w[4])
{
    const float a = -0.75f, u = 1 + t, v = 1 - t, z = 2 - t;
    w[0] = ((a * u - 5 * a) * u + 8 * a) * u - 4 * a;
    w[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    w[2] = ((a + 2) * v - (a + 3)) * v * v + 1;
    w[3] = ((a * z - 5 * a) * z + 8 * a) * z - 4 * a;
}

static float sample(const grid *g, const float *plane, float y, float x)
{
    if (g->mode == GRID_NEAREST)
        return value_at(g, plane, rintf(y), rintf(x));
    const float y0 = floorf(y), x0 = floorf(x), ty = y - y0, tx = x - x0;
    float sum = 0;
    if (g->mode == GRID_LINEAR) {
        for (unsigned k = 0; k < 4; k++) {
            const float wy = k & 2 ? ty : 1 - ty, wx = k & 1 ? tx : 1 - tx;
            sum += wy * wx * value_at(g, plane, y0 + (float)(k >> 1), x0 + (float)(k & 1));
        }
        return sum;
    }
    float wy[4], wx[4];
    cubic(ty, wy);
    cubic(tx, wx);
    for (unsigned i = 0; i < 4; i++) {
        float row = 0;
        for (unsigned k = 0; k < 4; k++)
            row += wx[k] * value_at(g, plane, y0 - 1 + (float)i, x0 - 1 + (float)k);
        sum += wy[i] * row;
    }
    return sum;
}

/* Task: one channel of one image. */
static qn_code sample_plane(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const grid *g = ctx;
    const int64_t n = (int64_t)task / g->c, places = g->oh * g->ow;
    const float *plane = g->x + (int64_t)task * g->h * g->w, *at = g->points + n * places * 2;
    float *y = g->y + (int64_t)task * places;
    for (int64_t i = 0; i < places; i++)
        y[i] = sample(g, plane, unscale(g, at[2 * i + 1], g->h), unscale(g, at[2 * i], g->w));
    return QN_OK;
}

qn_code qn_onnx_grid_sample_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)err;
    if (in[0].rank != 4 || !qn_onnx_info_has(n, in, 1) || in[1].rank != 4)
        return QN_OK;
    qn_info_set(out, in[0].dtype, (const int64_t[]){in[0].dims[0], in[0].dims[1], in[1].dims[1], in[1].dims[2]}, 4);
    return QN_OK;
}

qn_code qn_onnx_grid_sample(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_f32(&in[1], "the grid", err));
    if (in[0].rank != 4)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "GridSample of a tensor of rank %u; 4 is supported", in[0].rank);
    if (in[1].rank != 4 || in[1].dims[3] != 2 || in[1].dims[0] != in[0].dims[0])
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the grid of GridSample must be (%" PRId64 ", h, w, 2)", in[0].dims[0]);
    const char *mode = qn_node_string(n, "mode", "bilinear"), *pad = qn_node_string(n, "padding_mode", "zeros");
    grid g = {.corners = qn_node_int(n, "align_corners", 0) != 0, .c = in[0].dims[1], .h = in[0].dims[2], .w = in[0].dims[3],
              .oh = in[1].dims[1], .ow = in[1].dims[2], .x = in[0].data, .points = in[1].data};
    g.mode = !strcmp(mode, "nearest") ? GRID_NEAREST : !strcmp(mode, "bicubic") || !strcmp(mode, "cubic") ? GRID_CUBIC : GRID_LINEAR;
    g.pad = !strcmp(pad, "border") ? PAD_BORDER : !strcmp(pad, "reflection") ? PAD_REFLECTION : PAD_ZEROS;
    if ((g.mode == GRID_LINEAR && strcmp(mode, "bilinear") && strcmp(mode, "linear")) || (g.pad == PAD_ZEROS && strcmp(pad, "zeros")))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "mode '%s', padding_mode '%s': not known", mode, pad);
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, (const int64_t[]){in[0].dims[0], g.c, g.oh, g.ow}, 4, err));
    g.y = out[0].data;
    if (!out[0].n)
        return QN_OK;
    if (!in[0].n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "GridSample of an empty image");
    return qn_exec_parts(x, (uint64_t)(in[0].dims[0] * g.c), out[0].n * (g.mode == GRID_CUBIC ? 64 : 16), sample_plane, &g, err);
}
