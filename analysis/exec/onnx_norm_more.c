/* onnx_norm_more.c: LpNormalization, MeanVarianceNormalization, LRN: normalizations without parameters. */
#include "analysis/exec/onnx_help.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* x / ‖x‖p along one axis (p 1 or 2); a zero vector stays zero. */
qn_code qn_onnx_lp_norm(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned axis;
    const int64_t p = qn_node_int(n, "p", 2);
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", -1), in[0].rank, &axis, err));
    if (p != 1 && p != 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attribute 'p' is %" PRId64 "; allowed are 1 and 2", p);
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, in[0].dims, in[0].rank, err));
    const uint64_t outer = qn_span(in[0].dims, 0, axis), len = (uint64_t)in[0].dims[axis],
                   inner = qn_span(in[0].dims, axis + 1, in[0].rank);
    for (uint64_t o = 0; in[0].n && o < outer; o++)
        for (uint64_t i = 0; i < inner; i++) {
            const float *src = (const float *)in[0].data + o * len * inner + i;
            float *dst = (float *)out[0].data + o * len * inner + i;
            double sum = 0;
            for (uint64_t k = 0; k < len; k++)
                sum += p == 1 ? fabs((double)src[k * inner]) : (double)src[k * inner] * (double)src[k * inner];
            const double norm = p == 1 ? sum : sqrt(sum);
            for (uint64_t k = 0; k < len; k++)
                dst[k * inner] = norm != 0 ? (float)((double)src[k * inner] / norm) : 0.0f;
        }
    return QN_OK;
}

/* (x − E x) / sqrt(E (x − E x)²) over `axes`, by default 0, 2, 3; 1e-9 is added to the deviation, as the specification's function has
 * it. */
qn_code qn_onnx_mvn(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    static const int64_t usual[] = {0, 2, 3};
    unsigned count, axis;
    const int64_t *axes = qn_node_ints(n, "axes", &count);
    bool over[QN_ARRAY_RANK_MAX] = {false};
    if (!axes) {
        axes = usual;
        count = 3;
    }
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    for (unsigned i = 0; i < count; i++) {
        QN_TRY(qn_axis_of(axes[i], in[0].rank, &axis, err));
        over[axis] = true;
    }
    /* strides into the table of statistics: 0 along the axes that are summed over */
    int64_t kept[QN_ARRAY_RANK_MAX + 1] = {3};
    uint64_t n_kept = 1, step[QN_ARRAY_RANK_MAX];
    for (unsigned i = in[0].rank; i-- > 0;) {
        step[i] = over[i] ? 0 : n_kept;
        n_kept *= over[i] ? 1 : (uint64_t)in[0].dims[i];
    }
    kept[1] = (int64_t)n_kept;
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, in[0].dims, in[0].rank, err));
    if (!in[0].n)
        return QN_OK;
    qn_array sums;
    QN_TRY(qn_exec_new(x, &sums, QN_F64, kept, 2, err));
    memset(sums.data, 0, qn_array_bytes(&sums));
    double *mean = sums.data, *var = mean + n_kept;
    const double each = (double)(in[0].n / n_kept);
    const float *src = in[0].data;
    for (unsigned round = 0; round < 3; round++) {
        int64_t at[QN_ARRAY_RANK_MAX] = {0};
        uint64_t s = 0;
        for (uint64_t i = 0; i < in[0].n; i++) {
            const double v = (double)src[i];
            if (round == 0)
                mean[s] += v / each;
            else if (round == 1)
                var[s] += (v - mean[s]) * (v - mean[s]) / each;
            else
                ((float *)out[0].data)[i] = (float)((v - mean[s]) / (sqrt(var[s]) + 1e-9));
            for (unsigned k = in[0].rank; k-- > 0;) {
                s += step[k];
                if (++at[k] < in[0].dims[k])
                    break;
                s -= step[k] * (uint64_t)in[0].dims[k];
                at[k] = 0;
            }
        }
    }
    qn_array_release(&sums);
    return QN_OK;
}

typedef struct lrn {
    int64_t channels, before, after;
    uint64_t inner;
    double alpha, beta, bias;
    const float *x;
    float *y;
} lrn;

static qn_code lrn_channel(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const lrn *l = ctx;
    const int64_t c = (int64_t)(i % (uint64_t)l->channels);
    const int64_t first = c - l->before > 0 ? c - l->before : 0;
    const int64_t last = l->after < l->channels - 1 - c ? c + l->after : l->channels - 1;
    const float *image = l->x + (i - (uint64_t)c) * l->inner;
    for (uint64_t p = 0; p < l->inner; p++) {
        double sum = 0;
        for (int64_t k = first; k <= last; k++) {
            const double v = (double)image[(uint64_t)k * l->inner + p];
            sum += v * v;
        }
        const double v = (double)image[(uint64_t)c * l->inner + p];
        l->y[i * l->inner + p] = (float)(v / pow(l->bias + l->alpha * sum, l->beta));
    }
    return QN_OK;
}

/* Over channels (AlexNet, 3.3): x / (bias + α / size · Σ x²)^β, the sum over `size` channels around. */
qn_code qn_onnx_lrn(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const int64_t size = qn_node_int(n, "size", 0);
    QN_TRY(qn_onnx_need_f32(&in[0], "the input", err));
    QN_TRY(qn_onnx_need_rank(&in[0], "the input", 2, QN_ARRAY_RANK_MAX, err));
    if (size < 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attribute 'size' is %" PRId64 "; at least 1 is needed", size);
    QN_TRY(qn_exec_new(x, &out[0], QN_F32, in[0].dims, in[0].rank, err));
    lrn l = {.channels = in[0].dims[1], .before = (size - 1) / 2, .after = size / 2, .inner = qn_span(in[0].dims, 2, in[0].rank),
             .alpha = qn_node_float(n, "alpha", 1e-4) / (double)size, .beta = qn_node_float(n, "beta", 0.75),
             .bias = qn_node_float(n, "bias", 1), .x = in[0].data, .y = out[0].data};
    if (!in[0].n)
        return QN_OK;
    return qn_exec_parts(x, (uint64_t)(in[0].dims[0] * in[0].dims[1]), in[0].n * (uint64_t)(l.before + l.after < 64 ? 20 + l.before + l.after : 64),
                         lrn_channel, &l, err);
}
