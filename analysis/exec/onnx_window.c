/* onnx_window.c: attributes of a sliding window, checked, and the sizes that follow; the patches that it sees (im2col). */
#include "analysis/exec/onnx_window.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

/* Attributes stay below this, sizes below 2^48: nothing that follows can overflow. */
static const int64_t ATTR_MAX = INT64_C(1) << 31;

static qn_code ranged(const char *name, const int64_t *v, unsigned n, int64_t least, qn_err *err)
{
    for (unsigned i = 0; i < n; i++)
        if (v[i] < least || v[i] >= ATTR_MAX)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attribute '%s' holds %" PRId64 "; allowed is %" PRId64 " to 2^31 - 1", name,
                           v[i], least);
    return QN_OK;
}

/* One attribute with a value for each axis, all `otherwise` when it is not given. */
static qn_code per_axis(const qn_node *n, const char *name, unsigned n_axes, int64_t otherwise, int64_t least, int64_t dst[3], qn_err *err)
{
    bool given;
    for (unsigned i = 0; i < 3; i++)
        dst[i] = otherwise;
    QN_TRY(qn_onnx_attr_ints(n, name, n_axes, dst + 3 - n_axes, &given, err));
    return ranged(name, dst, 3, least, err);
}

qn_code qn_window_init(qn_window *w, const qn_node *n, unsigned n_axes, const int64_t *sizes, const int64_t *kernel, bool pool,
                       qn_err *err)
{
    memset(w, 0, sizeof *w);
    if (n_axes < 1 || n_axes > 3)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a window over %u axes; 1 to 3 are supported", n_axes);
    const unsigned a0 = 3 - n_axes;
    w->n_axes = n_axes;
    for (unsigned i = 0; i < 3; i++) {
        w->in[i] = i < a0 ? 1 : sizes[i - a0];
        w->kernel[i] = 1;
    }
    bool given;
    QN_TRY(qn_onnx_attr_ints(n, "kernel_shape", n_axes, w->kernel + a0, &given, err));
    if (kernel) {
        for (unsigned i = 0; i < n_axes; i++)
            if (given && w->kernel[a0 + i] != kernel[i])
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "kernel_shape says %" PRId64 " along axis %u, the weight %" PRId64,
                               w->kernel[a0 + i], i + 2, kernel[i]);
            else
                w->kernel[a0 + i] = kernel[i];
    } else if (!given) {
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attribute 'kernel_shape' is missing");
    }
    QN_TRY(ranged("kernel_shape", w->kernel, 3, 1, err));
    QN_TRY(per_axis(n, "strides", n_axes, 1, 1, w->stride, err));
    QN_TRY(per_axis(n, "dilations", n_axes, 1, 1, w->dilation, err));
    int64_t pads[6] = {0};
    QN_TRY(qn_onnx_attr_ints(n, "pads", 2 * n_axes, pads, &given, err));
    QN_TRY(ranged("pads", pads, 6, 0, err));
    const char *autopad = qn_node_string(n, "auto_pad", "NOTSET");
    const bool upper = !strcmp(autopad, "SAME_UPPER"), lower = !strcmp(autopad, "SAME_LOWER"), valid = !strcmp(autopad, "VALID");
    if (!upper && !lower && !valid && strcmp(autopad, "NOTSET") && *autopad)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                       "auto_pad is '%s'; allowed are NOTSET, SAME_UPPER, SAME_LOWER, VALID", autopad);
    const bool up = pool && qn_node_int(n, "ceil_mode", 0) != 0;
    for (unsigned i = 0; i < 3; i++) {
        const int64_t span = (w->kernel[i] - 1) * w->dilation[i] + 1; /* < 2^62 */
        const int64_t s = w->stride[i], size = w->in[i];
        if (i >= a0 && !upper && !lower && !valid) {
            w->pad[i] = pads[i - a0];
            w->pad_end[i] = pads[n_axes + i - a0];
        }
        if (size < 0) {
            w->out[i] = QN_DIM_UNKNOWN;
            continue;
        }
        if (upper || lower) {
            w->out[i] = size / s + (size % s != 0);
            const int64_t reach = size ? (w->out[i] - 1) * s + span : 0;
            const int64_t total = reach > size ? reach - size : 0;
            w->pad[i] = lower ? total - total / 2 : total / 2;
            w->pad_end[i] = total - w->pad[i];
        } else {
            const int64_t padded = size + w->pad[i] + w->pad_end[i];
            if (padded < span)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                               "a kernel that spans %" PRId64 " along axis %u, where the input with its pads has %" PRId64, span,
                               i - a0 + 2, padded);
            w->out[i] = (padded - span) / s + 1;
            /* A last window that begins behind the input and its front pad would see nothing: it is left out. */
            if (up && (padded - span) % s && w->out[i] * s < size + w->pad[i])
                w->out[i]++;
        }
        if (pool && (w->pad[i] >= span || (w->pad_end[i] >= span && !(upper || lower))))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pads of %" PRId64 " and %" PRId64 " around a window that spans %" PRId64,
                           w->pad[i], w->pad_end[i], span);
    }
    return QN_OK;
}

/* A run of places in one output row, as a tap sees it: output o of the run is the input row's place i + o · stride. */
typedef struct run {
    int64_t len, i;
    int64_t row; /* of the image, or −1: outside */
} run;

static inline run run_at(const qn_window *w, const int64_t tap[3], uint64_t p, uint64_t to)
{
    const int64_t row = (int64_t)p / w->out[2], o0 = (int64_t)p % w->out[2];
    const int64_t d = row / w->out[1] * w->stride[0] - w->pad[0] + tap[0] * w->dilation[0];
    const int64_t h = row % w->out[1] * w->stride[1] - w->pad[1] + tap[1] * w->dilation[1];
    return (run){.len = (int64_t)qn_min_u64((uint64_t)(w->out[2] - o0), to - p), .i = o0 * w->stride[2] - w->pad[2] + tap[2] * w->dilation[2],
                 .row = d < 0 || d >= w->in[0] || h < 0 || h >= w->in[1] ? -1 : d * w->in[1] + h};
}

/* Outputs [*first, *last) of a run lie inside of the row. */
static inline void inside(const qn_window *w, const run *r, int64_t *first, int64_t *last)
{
    const int64_t s = w->stride[2], n = w->in[2];
    const int64_t lo = r->i < 0 ? (s - 1 - r->i) / s : 0, hi = r->i >= n ? 0 : (n - r->i + s - 1) / s;
    *last = hi < r->len ? hi : r->len;
    *first = lo < *last ? lo : *last;
}

static bool next_tap(const qn_window *w, int64_t tap[3])
{
    for (unsigned k = 3; k-- > 0;) {
        if (++tap[k] < w->kernel[k])
            return true;
        tap[k] = 0;
    }
    return false;
}

void qn_window_unroll(const qn_window *w, uint64_t channels, const float *x, uint64_t from, uint64_t to, float *cols, uint64_t ld)
{
    const int64_t s = w->stride[2];
    for (uint64_t ch = 0; ch < channels; ch++, x += qn_window_in(w)) {
        int64_t tap[3] = {0};
        do {
            float *dst = cols;
            for (uint64_t p = from; p < to;) {
                const run r = run_at(w, tap, p, to);
                int64_t first = 0, last = 0;
                if (r.row >= 0)
                    inside(w, &r, &first, &last);
                const float *src = x + (r.row < 0 ? 0 : r.row) * w->in[2];
                for (int64_t o = 0; o < first; o++)
                    dst[o] = 0;
                if (s == 1 && last > first)
                    memcpy(dst + first, src + r.i + first, (size_t)(last - first) * sizeof *dst);
                else
                    for (int64_t o = first; o < last; o++)
                        dst[o] = src[r.i + o * s];
                for (int64_t o = last; o < r.len; o++)
                    dst[o] = 0;
                dst += r.len;
                p += (uint64_t)r.len;
            }
            cols += ld;
        } while (next_tap(w, tap));
    }
}

void qn_window_roll(const qn_window *w, uint64_t channels, const float *cols, uint64_t ld, uint64_t from, uint64_t to, float *x)
{
    const int64_t s = w->stride[2];
    for (uint64_t ch = 0; ch < channels; ch++, x += qn_window_in(w)) {
        int64_t tap[3] = {0};
        do {
            const float *src = cols;
            for (uint64_t p = from; p < to;) {
                const run r = run_at(w, tap, p, to);
                int64_t first = 0, last = 0;
                if (r.row >= 0)
                    inside(w, &r, &first, &last);
                float *dst = x + (r.row < 0 ? 0 : r.row) * w->in[2];
                if (s == 1)
                    for (int64_t o = first; o < last; o++)
                        dst[r.i + o] += src[o];
                else
                    for (int64_t o = first; o < last; o++)
                        dst[r.i + o * s] += src[o];
                src += r.len;
                p += (uint64_t)r.len;
            }
            cols += ld;
        } while (next_tap(w, tap));
    }
}
