/* onnx_norm.c: BatchNormalization, InstanceNormalization, GroupNormalization, LayerNormalization, RMSNormalization. Means and variances
 * are summed in f64, in order. */
#include "analysis/exec/onnx_help.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* --- BatchNormalization: (x − mean) / sqrt(var + ε) · scale + bias, parameters along axis 1 ------------------------------ */

typedef struct by_channel {
    uint64_t channels, inner;
    const float *x, *scale, *shift;
    float *y;
} by_channel;

static qn_code scale_plane(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const by_channel *b = ctx;
    const float s = b->scale[i % b->channels], t = b->shift[i % b->channels];
    const float *x = b->x + i * b->inner;
    float *y = b->y + i * b->inner;
    for (uint64_t k = 0; k < b->inner; k++)
        y[k] = x[k] * s + t;
    return QN_OK;
}

qn_code qn_onnx_batch_norm(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    static const char *const names[] = {"the input", "scale", "bias", "mean", "variance"};
    QN_TRY(qn_onnx_need_f32(&in[0], names[0], err));
    QN_TRY(qn_onnx_need_rank(&in[0], names[0], 1, QN_ARRAY_RANK_MAX, err));
    if (qn_node_int(n, "training_mode", 0) || (n->version && n->version < 7 && !qn_node_int(n, "is_test", 0)))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "BatchNormalization in training mode; only inference is supported");
    for (unsigned o = 1; o < n->n_out; o++)
        if (qn_onnx_wants(n, o))
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "BatchNormalization with running statistics as outputs");
    if (!qn_node_int(n, "spatial", 1))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "BatchNormalization with spatial = 0");
    const uint64_t channels = in[0].rank > 1 ? (uint64_t)in[0].dims[1] : 1;
    for (unsigned i = 1; i < 5; i++)
        QN_TRY(qn_onnx_need_vector(&in[i], names[i], channels, err));
    const double eps = qn_node_float(n, "epsilon", 1e-5);
    qn_array factors;
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, in[0].dims, in[0].rank, err));
    QN_TRY(qn_exec_new(x, &factors, QN_F32, (const int64_t[]){2, (int64_t)channels}, 2, err));
    float *scale = factors.data, *shift = scale + channels;
    for (uint64_t c = 0; c < channels; c++) {
        const double s = (double)((const float *)in[1].data)[c] / sqrt((double)((const float *)in[4].data)[c] + eps);
        scale[c] = (float)s;
        shift[c] = (float)((double)((const float *)in[2].data)[c] - (double)((const float *)in[3].data)[c] * s);
    }
    by_channel b = {.channels = channels, .inner = in[0].rank > 2 ? qn_span(in[0].dims, 2, in[0].rank) : 1, .x = in[0].data,
                    .scale = scale, .shift = shift, .y = out[0].data};
    if (in[0].rank == 1) /* (N): one channel */
        b.inner = in[0].n;
    const qn_code rc = in[0].n ? qn_exec_parts(x, in[0].n / b.inner, in[0].n, scale_plane, &b, err) : QN_OK;
    qn_array_release(&factors);
    return rc;
}

/* --- rows: statistics over n values that lie together --------------------------------------------------------------------- */

typedef struct by_row {
    uint64_t n;              /* of a row                                                     */
    uint64_t channels, inner; /* channels > 0: parameter of element i of row r is that of channel (r · n + i) / inner % channels */
    uint64_t n_groups;        /* > 0: parameters by group, r % n_groups                       */
    uint64_t n_scale, n_bias; /* else: parameters of element i: scale[i % n_scale]            */
    double eps;
    bool rms;
    const float *x, *scale, *bias; /* bias may be NULL */
    float *y, *mean, *inv;         /* mean, inv: a value for each row, or NULL */
} by_row;

static qn_code norm_row(void *ctx, uint64_t r, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const by_row *b = ctx;
    const float *x = b->x + r * b->n;
    float *y = b->y + r * b->n;
    double mean = 0, var = 0;
    if (!b->rms) {
        for (uint64_t i = 0; i < b->n; i++)
            mean += (double)x[i];
        mean /= (double)b->n;
    }
    for (uint64_t i = 0; i < b->n; i++)
        var += ((double)x[i] - mean) * ((double)x[i] - mean);
    const double inv = 1 / sqrt(var / (double)b->n + b->eps);
    if (b->mean)
        b->mean[r] = (float)mean;
    if (b->inv)
        b->inv[r] = (float)inv;
    if (b->channels || b->n_groups) {
        for (uint64_t i = 0; i < b->n; i++) {
            const uint64_t c = b->n_groups ? r % b->n_groups : (r * b->n + i) / b->inner % b->channels;
            y[i] = (float)(((double)x[i] - mean) * inv * (double)b->scale[c] + (double)b->bias[c]);
        }
        return QN_OK;
    }
    for (uint64_t i = 0; i < b->n; i++) {
        const double v = ((double)x[i] - mean) * inv * (double)b->scale[b->n_scale == b->n ? i : i % b->n_scale];
        y[i] = (float)(b->bias ? v + (double)b->bias[b->n_bias == b->n ? i : i % b->n_bias] : v);
    }
    return QN_OK;
}

static qn_code run_rows(qn_exec *x, by_row *b, const qn_array *in, uint64_t n_rows, qn_array *out, qn_err *err)
{
    QN_TRY(qn_exec_new(x, out, QN_F32, in->dims, in->rank, err));
    b->x = in->data;
    b->y = out->data;
    return in->n ? qn_exec_parts(x, n_rows, in->n * 4, norm_row, b, err) : QN_OK;
}

qn_code qn_onnx_instance_norm(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_rank(&in[0], "the input", 3, QN_ARRAY_RANK_MAX, err));
    const uint64_t channels = (uint64_t)in[0].dims[1];
    QN_TRY(qn_onnx_need_vector(&in[1], "scale", channels, err));
    QN_TRY(qn_onnx_need_vector(&in[2], "bias", channels, err));
    const uint64_t inner = qn_span(in[0].dims, 2, in[0].rank);
    by_row b = {.n = inner, .channels = channels, .inner = inner, .eps = qn_node_float(n, "epsilon", 1e-5), .scale = in[1].data,
                .bias = in[2].data};
    return run_rows(x, &b, &in[0], (uint64_t)in[0].dims[0] * channels, &out[0], err);
}

qn_code qn_onnx_group_norm(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_rank(&in[0], "the input", 3, QN_ARRAY_RANK_MAX, err));
    const int64_t channels = in[0].dims[1], groups = qn_node_int(n, "num_groups", 0);
    if (groups < 1 || channels % groups)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " channels in %" PRId64 " groups", channels, groups);
    /* version 18 has a scale for each group, version 21 for each channel */
    const bool by_group = n->version < 21 && in[1].n == (uint64_t)groups;
    QN_TRY(qn_onnx_need_vector(&in[1], "scale", (uint64_t)(by_group ? groups : channels), err));
    QN_TRY(qn_onnx_need_vector(&in[2], "bias", (uint64_t)(by_group ? groups : channels), err));
    const uint64_t inner = qn_span(in[0].dims, 2, in[0].rank);
    by_row b = {.n = (uint64_t)(channels / groups) * inner, .channels = (uint64_t)channels, .inner = inner,
                .n_groups = by_group ? (uint64_t)groups : 0, .eps = qn_node_float(n, "epsilon", 1e-5), .scale = in[1].data,
                .bias = in[2].data};
    return run_rows(x, &b, &in[0], (uint64_t)in[0].dims[0] * (uint64_t)groups, &out[0], err);
}

/* Parameters of LayerNormalization broadcast to the normalized axes from the right: a suffix of them, ones in front. */
static qn_code suffix(const qn_array *t, const char *what, const qn_array *in, unsigned axis, qn_err *err)
{
    char a[128], b[128];
    QN_TRY(qn_onnx_need_f32(t, what, err));
    const uint64_t all = qn_span(in->dims, axis, in->rank);
    bool fits = t->n && all % t->n == 0;
    unsigned first = 0;
    while (first < t->rank && t->dims[first] == 1)
        first++;
    for (unsigned i = first; i < t->rank; i++)
        fits = fits && t->rank - i <= in->rank - axis && t->dims[i] == in->dims[in->rank - (t->rank - i)];
    if (fits || !in->n)
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s; it does not fit the last axes (from %u) of %s", what, qn_array_text(t, a), axis,
                   qn_array_text(in, b));
}

static qn_code layer_norm(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, bool rms, qn_err *err)
{
    unsigned axis;
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", -1), in[0].rank, &axis, err));
    QN_TRY(suffix(&in[1], "scale", &in[0], axis, err));
    by_row b = {.n = qn_span(in[0].dims, axis, in[0].rank), .eps = qn_node_float(n, "epsilon", 1e-5), .rms = rms,
                .scale = in[1].data, .n_scale = in[1].n};
    if (!rms && qn_onnx_has(n, in, 2)) {
        QN_TRY(suffix(&in[2], "bias", &in[0], axis, err));
        b.bias = in[2].data;
        b.n_bias = in[2].n;
    }
    const uint64_t n_rows = qn_span(in[0].dims, 0, axis);
    for (unsigned o = 1; o < 3 && !rms; o++)
        if (qn_onnx_wants(n, o)) {
            int64_t dims[QN_ARRAY_RANK_MAX];
            for (unsigned i = 0; i < in[0].rank; i++)
                dims[i] = i < axis ? in[0].dims[i] : 1;
            QN_TRY(qn_exec_new(x, &out[o], QN_F32, dims, in[0].rank, err));
            *(o == 1 ? &b.mean : &b.inv) = out[o].data;
        }
    return run_rows(x, &b, &in[0], n_rows, &out[0], err);
}

qn_code qn_onnx_layer_norm_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_info_like(&out[0], &in[0]);
    for (unsigned o = 1; o < n->n_out && o < 3 && in[0].rank != QN_RANK_UNKNOWN; o++) {
        unsigned axis;
        QN_TRY(qn_axis_of(qn_node_int(n, "axis", -1), in[0].rank, &axis, err));
        qn_info_set(&out[o], QN_F32, in[0].dims, in[0].rank);
        for (unsigned i = axis; i < in[0].rank; i++)
            out[o].dims[i] = 1;
    }
    return QN_OK;
}

qn_code qn_onnx_layer_norm(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return layer_norm(x, n, in, out, false, err);
}

qn_code qn_onnx_rms_norm(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return layer_norm(x, n, in, out, true, err);
}
