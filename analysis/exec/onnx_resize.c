/* onnx_resize.c: Resize and Upsample. Every axis that changes is worked on by itself: a table says which input places an output
 * place takes, and with what weights; the passes run from the first axis to the last. Coordinates are f32, as ONNX Runtime has
 * them: where a coordinate falls on the middle between two places, the last bit decides. */
#include "analysis/exec/onnx_resize.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool is_one_of(const char *s, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(s, *list))
            return true;
    return false;
}

static qn_code read_mode(qn_resize *r, const qn_node *n, qn_err *err)
{
    static const char *const all_coordinates[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
                                                   "tf_half_pixel_for_nn", "tf_crop_and_resize", NULL};
    static const char *const all_nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple", NULL};
    const bool old = !strcmp(n->type, "Upsample") || (n->version && n->version < 11);
    const char *mode = qn_node_string(n, "mode", "nearest");
    r->mode = !strcmp(mode, "nearest") ? QN_RESIZE_NEAREST : !strcmp(mode, "cubic") ? QN_RESIZE_CUBIC : QN_RESIZE_LINEAR;
    if (r->mode == QN_RESIZE_LINEAR && strcmp(mode, "linear") && strcmp(mode, "bilinear"))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "mode '%s'; allowed are nearest, linear, cubic", mode);
    r->coordinates = old ? "asymmetric" : qn_node_string(n, "coordinate_transformation_mode", "half_pixel");
    r->nearest = old ? "simple" : qn_node_string(n, "nearest_mode", "round_prefer_floor");
    if (!is_one_of(r->coordinates, all_coordinates) || !is_one_of(r->nearest, all_nearest))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "coordinate_transformation_mode '%s', nearest_mode '%s': not known", r->coordinates,
                       r->nearest);
    r->a = (float)qn_node_float(n, "cubic_coeff_a", -0.75);
    r->extrapolated = (float)qn_node_float(n, "extrapolation_value", 0);
    r->exclude_outside = qn_node_int(n, "exclude_outside", 0) != 0;
    r->antialias = qn_node_int(n, "antialias", 0) != 0;
    r->crop = !strcmp(r->coordinates, "tf_crop_and_resize");
    return QN_OK;
}

static bool given(const qn_array *t)
{
    return t && t->dtype != QN_BYTES && t->n > 0;
}

/* Which axes scales, sizes and roi speak of: all, or those of attribute 'axes'. */
static qn_code read_axes(const qn_node *n, unsigned rank, unsigned axes[QN_ARRAY_RANK_MAX], unsigned *n_axes, qn_err *err)
{
    unsigned count;
    const int64_t *v = qn_node_ints(n, "axes", &count);
    *n_axes = v ? count : rank;
    if (*n_axes > rank)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u axes for a tensor of rank %u", count, rank);
    for (unsigned i = 0; i < *n_axes; i++) {
        axes[i] = i;
        if (v)
            QN_TRY(qn_axis_of(v[i], rank, &axes[i], err));
    }
    return QN_OK;
}

static qn_code set_scale(qn_resize *r, unsigned axis, double scale, qn_err *err)
{
    if (!(scale > 0) || !isfinite(scale) || (double)r->in[axis] * scale > 0x1p48)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "scale %g along axis %u of %" PRId64, scale, axis, r->in[axis]);
    r->scale[axis] = (float)scale;
    r->out[axis] = (int64_t)floorf((float)r->in[axis] * (float)scale);
    return QN_OK;
}

static qn_code set_sizes(qn_resize *r, const qn_node *n, const unsigned *axes, unsigned n_axes, const int64_t *sizes, qn_err *err)
{
    const char *policy = qn_node_string(n, "keep_aspect_ratio_policy", "stretch");
    const bool larger = !strcmp(policy, "not_smaller"), keep = larger || !strcmp(policy, "not_larger");
    if (!keep && strcmp(policy, "stretch"))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "keep_aspect_ratio_policy '%s'; allowed are stretch, not_larger, not_smaller", policy);
    float common = 0;
    for (unsigned i = 0; i < n_axes; i++) {
        const unsigned a = axes[i];
        if (sizes[i] < 0 || sizes[i] > INT64_C(1) << 48 || (sizes[i] > 0 && r->in[a] == 0))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "size %" PRId64 " along axis %u of %" PRId64, sizes[i], a, r->in[a]);
        r->out[a] = sizes[i];
        r->scale[a] = r->in[a] ? (float)sizes[i] / (float)r->in[a] : 1.0f;
        if (!i || (larger ? r->scale[a] > common : r->scale[a] < common))
            common = r->scale[a];
    }
    for (unsigned i = 0; keep && i < n_axes; i++) {
        r->scale[axes[i]] = common;
        r->out[axes[i]] = (int64_t)floorf(common * (float)r->in[axes[i]] + 0.5f);
    }
    return QN_OK;
}

/* From attributes and the inputs that say how large; those of size 0 or NULL are not given. */
static qn_code read_sizes(qn_resize *r, const qn_node *n, const int64_t *dims, unsigned rank, const qn_array *roi, const qn_array *scales,
                          const qn_array *sizes, qn_err *err)
{
    unsigned axes[QN_ARRAY_RANK_MAX], n_axes, count;
    r->rank = rank;
    for (unsigned i = 0; i < rank; i++) {
        r->in[i] = r->out[i] = dims[i];
        r->scale[i] = 1;
        r->begin[i] = 0;
        r->end[i] = 1;
    }
    QN_TRY(read_axes(n, rank, axes, &n_axes, err));
    const qn_attr *old = qn_node_attr(n, "scales");
    if (given(sizes)) {
        int64_t v[QN_ARRAY_RANK_MAX];
        QN_TRY(qn_onnx_int_list(sizes, "sizes", v, QN_ARRAY_RANK_MAX, &count, err));
        if (count != n_axes)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u sizes for %u axes", count, n_axes);
        QN_TRY(set_sizes(r, n, axes, n_axes, v, err));
    } else if (given(scales)) {
        if (scales->n != n_axes || (scales->dtype != QN_F32 && scales->dtype != QN_F64))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " scales for %u axes", scales->n, n_axes);
        for (unsigned i = 0; i < n_axes; i++)
            QN_TRY(set_scale(r, axes[i], qn_elem_float(scales, i), err));
    } else if (old && old->type == QN_ATTR_FLOATS && old->n == rank) {
        for (unsigned i = 0; i < rank; i++)
            QN_TRY(set_scale(r, i, old->v.floats[i], err));
    } else {
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "neither scales nor sizes for a tensor of rank %u", rank);
    }
    if (r->crop) {
        if (!given(roi) || roi->n != 2 * (uint64_t)n_axes)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tf_crop_and_resize needs a roi of %u values", 2 * n_axes);
        for (unsigned i = 0; i < n_axes; i++) {
            r->begin[axes[i]] = (float)qn_elem_float(roi, i);
            r->end[axes[i]] = (float)qn_elem_float(roi, n_axes + i);
        }
    }
    return QN_OK;
}

/* Upsample: X, scales (or the attribute); Resize up to version 10: the same; then X, roi, scales, sizes. */
static void operands(const qn_node *n, unsigned *roi, unsigned *scales, unsigned *sizes)
{
    const bool old = !strcmp(n->type, "Upsample") || (n->version && n->version < 11);
    *roi = old ? 255 : 1;
    *scales = old ? 1 : 2;
    *sizes = old ? 255 : 3;
}

qn_code qn_onnx_resize_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_resize r;
    unsigned at[3];
    const qn_array *v[3] = {NULL, NULL, NULL};
    if (in[0].rank == QN_RANK_UNKNOWN)
        return QN_OK;
    out->dtype = in[0].dtype;
    out->rank = in[0].rank;
    for (unsigned i = 0; i < in[0].rank; i++)
        out->dims[i] = QN_DIM_UNKNOWN;
    operands(n, &at[0], &at[1], &at[2]);
    bool known = true;
    for (unsigned i = 0; i < in[0].rank; i++)
        known = known && in[0].dims[i] >= 0;
    for (unsigned i = 0; i < 3; i++)
        if (at[i] < n->n_in && n->in[at[i]] != QN_NO_VALUE) {
            v[i] = in[at[i]].value;
            known = known && v[i];
        }
    QN_TRY(read_mode(&r, n, err));
    if (!known)
        return QN_OK;
    QN_TRY(read_sizes(&r, n, in[0].dims, in[0].rank, v[0], v[1], v[2], err));
    qn_info_set(out, in[0].dtype, r.out, r.rank);
    return QN_OK;
}

static float coordinate(const qn_resize *r, unsigned axis, int64_t o)
{
    const float x = (float)o, s = r->scale[axis], n_in = (float)r->in[axis], n_out = (float)r->out[axis];
    const char *c = r->coordinates;
    if (!strcmp(c, "asymmetric"))
        return x / s;
    if (!strcmp(c, "align_corners"))
        return r->out[axis] == 1 ? 0 : x * (n_in - 1) / (n_out - 1);
    if (!strcmp(c, "tf_half_pixel_for_nn"))
        return (x + 0.5f) / s;
    if (!strcmp(c, "pytorch_half_pixel"))
        return r->out[axis] == 1 ? 0 : (x + 0.5f) / s - 0.5f;
    if (r->crop)
        return r->out[axis] == 1 ? 0.5f * (r->begin[axis] + r->end[axis]) * (n_in - 1)
                                 : r->begin[axis] * (n_in - 1) + x * (r->end[axis] - r->begin[axis]) * (n_in - 1) / (n_out - 1);
    float offset = 0;
    if (!strcmp(c, "half_pixel_symmetric")) /* the middle stays the middle when the size was rounded down */
        offset = n_in / 2 * (1 - n_out / (s * n_in));
    return offset + (x + 0.5f) / s - 0.5f;
}

static int64_t nearest_place(const qn_resize *r, unsigned axis, float x)
{
    const char *m = r->nearest;
    float v;
    if (!strcmp(m, "floor"))
        v = floorf(x);
    else if (!strcmp(m, "ceil"))
        v = ceilf(x);
    else if (!strcmp(m, "round_prefer_ceil"))
        v = floorf(x) + (x - floorf(x) >= 0.5f ? 1.0f : 0.0f);
    else if (!strcmp(m, "simple"))
        v = r->scale[axis] < 1 ? ceilf(x) : truncf(x);
    else
        v = floorf(x) + (x - floorf(x) > 0.5f ? 1.0f : 0.0f);
    return v > 0 ? (v < (float)r->in[axis] ? (int64_t)v : r->in[axis] - 1) : 0;
}

/* The kernel at distance t: a triangle; or Keys's cubic (Cubic convolution interpolation, 1981) with coefficient a. */
static float kernel_at(const qn_resize *r, float t)
{
    t = fabsf(t);
    if (r->mode == QN_RESIZE_LINEAR)
        return t < 1 ? 1 - t : 0;
    if (t <= 1)
        return ((r->a + 2) * t - (r->a + 3)) * t * t + 1;
    return t < 2 ? ((r->a * t - 5 * r->a) * t + 8 * r->a) * t - 4 * r->a : 0;
}

typedef struct pass {
    const qn_resize *r;
    uint64_t n_in, n_out, inner, n_taps, elem;
    const int64_t *place; /* (n_out, n_taps) */
    const float *weight;
    const void *src;
    void *dst;
} pass;

/* Task: one outer index. */
static qn_code mix(void *ctx, uint64_t outer, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const pass *p = ctx;
    if (p->r->mode == QN_RESIZE_NEAREST) {
        const uint64_t row = p->inner * p->elem;
        const uint8_t *src = (const uint8_t *)p->src + outer * p->n_in * row;
        uint8_t *dst = (uint8_t *)p->dst + outer * p->n_out * row;
        for (uint64_t o = 0; o < p->n_out; o++, dst += row)
            memcpy(dst, src + (uint64_t)p->place[o] * row, row);
        return QN_OK;
    }
    const float *src = (const float *)p->src + outer * p->n_in * p->inner;
    float *dst = (float *)p->dst + outer * p->n_out * p->inner;
    for (uint64_t o = 0; o < p->n_out; o++, dst += p->inner) {
        const int64_t *place = p->place + o * p->n_taps;
        const float *weight = p->weight + o * p->n_taps;
        if (p->inner == 1) {
            float sum = 0;
            for (uint64_t k = 0; k < p->n_taps; k++)
                sum += weight[k] * src[place[k]];
            *dst = sum;
            continue;
        }
        for (uint64_t k = 0; k < p->n_taps; k++) {
            const float *row = src + (uint64_t)place[k] * p->inner;
            for (uint64_t i = 0; i < p->inner; i++)
                dst[i] = k ? dst[i] + weight[k] * row[i] : weight[k] * row[i];
        }
    }
    return QN_OK;
}

static void fill_taps(const qn_resize *r, unsigned axis, uint64_t n_taps, int64_t *place, float *weight)
{
    const int64_t n_in = r->in[axis], reach = (int64_t)n_taps / 2 - 1;
    const float narrow = r->antialias && r->scale[axis] < 1 ? r->scale[axis] : 1.0f;
    for (int64_t o = 0; o < r->out[axis]; o++, place += n_taps, weight += n_taps) {
        const float x = coordinate(r, axis, o);
        if (r->mode == QN_RESIZE_NEAREST) {
            place[0] = nearest_place(r, axis, x);
            weight[0] = 1;
            continue;
        }
        const float base = floorf(x), held = base > -1e9f ? (base < (float)n_in + 1e9f ? base : 0) : 0;
        const int64_t first = (int64_t)held - reach;
        float sum = 0;
        for (uint64_t k = 0; k < n_taps; k++) {
            const int64_t i = first + (int64_t)k;
            const bool inside = i >= 0 && i < n_in;
            const float w = kernel_at(r, ((float)(i - (int64_t)held) - (x - base)) * narrow);
            place[k] = i < 0 ? 0 : i < n_in ? i : n_in - 1;
            weight[k] = r->exclude_outside && !inside ? 0 : w;
            sum += weight[k];
        }
        /* the plain kernels sum to 1 by themselves */
        if ((r->exclude_outside || narrow < 1) && sum != 0)
            for (uint64_t k = 0; k < n_taps; k++)
                weight[k] /= sum;
    }
}

void qn_resize_extrapolate(const qn_resize *r, float value, float *y)
{
    for (unsigned axis = 0; axis < r->rank; axis++) {
        const uint64_t inner = qn_span(r->out, axis + 1, r->rank), outer = qn_span(r->out, 0, axis);
        for (int64_t o = 0; o < r->out[axis]; o++) {
            const float x = coordinate(r, axis, o);
            if (x >= 0 && x <= (float)(r->in[axis] - 1))
                continue;
            for (uint64_t k = 0; k < outer; k++)
                for (uint64_t i = 0; i < inner; i++)
                    y[(k * (uint64_t)r->out[axis] + (uint64_t)o) * inner + i] = value;
        }
    }
}

qn_code qn_resize_taps(qn_exec *x, const qn_resize *r, unsigned axis, qn_array *place, qn_array *weight, qn_err *err)
{
    uint64_t n_taps = r->mode == QN_RESIZE_NEAREST ? 1 : r->mode == QN_RESIZE_LINEAR ? 2 : 4;
    if (r->antialias && r->scale[axis] < 1 && r->mode != QN_RESIZE_NEAREST) {
        const double reach = ceil((r->mode == QN_RESIZE_LINEAR ? 1.0 : 2.0) / (double)r->scale[axis]);
        if (!(reach < 0x1p31))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "scale %g along axis %u", (double)r->scale[axis], axis);
        n_taps = 2 * (uint64_t)reach + 2;
    }
    const int64_t table[] = {r->out[axis], (int64_t)n_taps};
    QN_TRY(qn_exec_new(x, place, QN_I64, table, 2, err));
    const qn_code rc = qn_exec_new(x, weight, QN_F32, table, 2, err);
    if (rc == QN_OK)
        fill_taps(r, axis, n_taps, place->data, weight->data);
    else
        qn_array_release(place);
    return rc;
}

static qn_code run_axis(qn_exec *x, const qn_resize *r, unsigned axis, const qn_array *src, qn_array *dst, qn_err *err)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    memcpy(dims, src->dims, sizeof dims);
    dims[axis] = r->out[axis];
    qn_array place, weight;
    QN_TRY(qn_resize_taps(x, r, axis, &place, &weight, err));
    qn_code rc = qn_exec_new(x, dst, (qn_dtype)src->dtype, dims, src->rank, err);
    if (rc == QN_OK) {
        pass p = {.r = r, .n_in = (uint64_t)src->dims[axis], .n_out = (uint64_t)r->out[axis],
                  .inner = qn_span(dims, axis + 1, src->rank), .n_taps = (uint64_t)place.dims[1], .elem = qn_dtype_bits((qn_dtype)src->dtype) / 8,
                  .place = place.data, .weight = weight.data, .src = src->data, .dst = dst->data};
        rc = qn_exec_parts(x, qn_span(dims, 0, axis), dst->n * p.n_taps, mix, &p, err);
    }
    qn_array_release(&place);
    qn_array_release(&weight);
    return rc;
}

qn_code qn_resize_read(qn_resize *r, const qn_node *n, const qn_array *in, qn_err *err)
{
    unsigned at[3];
    const qn_array *v[3];
    operands(n, &at[0], &at[1], &at[2]);
    for (unsigned i = 0; i < 3; i++)
        v[i] = qn_onnx_has(n, in, at[i]) ? &in[at[i]] : NULL;
    QN_TRY(read_mode(r, n, err));
    return read_sizes(r, n, in[0].dims, in[0].rank, v[0], v[1], v[2], err);
}

qn_code qn_onnx_resize(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    qn_resize r = {0};
    QN_TRY(qn_resize_read(&r, n, in, err));
    if (r.mode != QN_RESIZE_NEAREST || r.crop)
        QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    uint64_t n_out = 1;
    for (unsigned i = 0; i < r.rank; i++)
        n_out = r.out[i] ? n_out : 0;
    if (!n_out || !in[0].n)
        return qn_exec_new(x, &out[0], (qn_dtype)in[0].dtype, r.out, r.rank, err);
    qn_array now;
    qn_array_share(&in[0], &now);
    for (unsigned axis = 0; axis < r.rank; axis++) {
        if (!qn_resize_changes(&r, axis))
            continue;
        qn_array next = {0};
        const qn_code rc = run_axis(x, &r, axis, &now, &next, err);
        qn_array_release(&now);
        now = next;
        if (rc != QN_OK) {
            qn_array_release(&now);
            return rc;
        }
    }
    if (r.crop)
        qn_resize_extrapolate(&r, r.extrapolated, now.data); /* `now` is a pass's own output: with a region, every axis has one */
    out[0] = now;
    return QN_OK;
}
