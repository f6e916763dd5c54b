/* lm_rope.c: rotary positions (Su et al. 2021): pair k of a head's first `rotary` channels is turned by the angle position · freq[k].
 * Angles are f64: at position 100000 an f32 product would be off by 0.004. */
#include "analysis/exec/lm_parts.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { PAIRS_MAX = 512 };

struct rope {
    const float *x;
    float *y;
    const qn_array *starts;
    const double *freq, *long_freq;
    uint64_t cols, head_dim, pairs, original;
    double scale, dynamic, base;
    bool interleaved, back; /* back: by the opposite angle */
};

/* Frequencies of a sequence of n tokens → freq. Dynamic (NTK by length; the `dynamic` of transformers): the base is multiplied by
 * (factor · n / original − (factor − 1))^(d / (d − 2)) for n past original. */
static const double *frequencies(const struct rope *r, uint64_t n, double *own)
{
    if (r->long_freq && n > r->original)
        return r->long_freq;
    if (r->dynamic == 0 || n <= r->original)
        return r->freq;
    const double d = 2.0 * (double)r->pairs, grown = r->dynamic * (double)n / (double)r->original - (r->dynamic - 1.0);
    const double base = r->base * pow(grown, d > 2 ? d / (d - 2) : 1);
    for (uint64_t k = 0; k < r->pairs; k++)
        own[k] = pow(base, -2.0 * (double)k / d);
    return own;
}

static void turn(const struct rope *r, uint64_t row, const float *c, const float *s)
{
    const float *x = r->x + row * r->cols;
    float *y = r->y + row * r->cols;
    const uint64_t h = r->head_dim, p = r->pairs;
    memcpy(y, x, r->cols * sizeof *y);
    for (uint64_t at = 0; at < r->cols; at += h) {
        if (r->interleaved)
            for (uint64_t k = 0; k < p; k++) {
                y[at + 2 * k] = x[at + 2 * k] * c[k] - x[at + 2 * k + 1] * s[k];
                y[at + 2 * k + 1] = x[at + 2 * k + 1] * c[k] + x[at + 2 * k] * s[k];
            }
        else
            for (uint64_t k = 0; k < p; k++) {
                y[at + k] = x[at + k] * c[k] - x[at + p + k] * s[k];
                y[at + p + k] = x[at + p + k] * c[k] + x[at + k] * s[k];
            }
    }
}

static void rows_rope(const void *ctx, uint64_t first, uint64_t n)
{
    const struct rope *r = ctx;
    const int64_t *starts = r->starts->data;
    float c[PAIRS_MAX], s[PAIRS_MAX];
    double own[PAIRS_MAX];
    uint64_t in = UINT64_MAX;
    const double *freq = NULL;
    for (uint64_t i = first; i < first + n; i++) {
        const uint64_t seq = qn_lm_sequence(r->starts, i);
        if (seq != in)
            freq = frequencies(r, (uint64_t)(starts[seq + 1] - starts[seq]), own);
        in = seq;
        const double position = (double)(i - (uint64_t)starts[seq]);
        for (uint64_t k = 0; k < r->pairs; k++) {
            c[k] = (float)(cos(position * freq[k]) * r->scale);
            s[k] = (float)(sin(r->back ? -position * freq[k] : position * freq[k]) * r->scale);
        }
        turn(r, i, c, s);
    }
}

qn_code qn_rope_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    uint64_t head_dim;
    qn_lm_like(in, out);
    QN_TRY(qn_lm_size(n, "head_dim", 0, &head_dim, err));
    const int64_t cols = in[0].rank == 2 ? in[0].dims[1] : QN_DIM_UNKNOWN;
    if (cols != QN_DIM_UNKNOWN && cols % (int64_t)head_dim)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rows of %" PRId64 " values are no heads of %" PRIu64, cols, head_dim);
    const char *style = qn_node_string(n, "style", "half");
    if (strcmp(style, "half") && strcmp(style, "interleaved"))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "style \"%s\" is not known", style);
    return QN_OK;
}

qn_code qn_lm_rope_turn(qn_exec *x, const qn_node *n, const qn_array *in, bool back, qn_array *out, qn_err *err)
{
    struct rope r = {.starts = &in[1], .freq = in[2].data, .pairs = in[2].n, .scale = qn_node_float(n, "scale", 1),
                     .dynamic = qn_node_float(n, "dynamic", 0), .base = qn_node_float(n, "base", 1e4),
                     .interleaved = !strcmp(qn_node_string(n, "style", "half"), "interleaved"), .back = back};
    QN_TRY(qn_lm_size(n, "head_dim", 0, &r.head_dim, err));
    QN_TRY(qn_lm_size(n, "original", 1, &r.original, err));
    QN_TRY(qn_lm_floats(&in[0], "x", err));
    r.cols = in[0].rank == 2 ? (uint64_t)in[0].dims[1] : 0;
    if (in[0].rank != 2 || r.cols % r.head_dim || 2 * r.pairs > r.head_dim || in[2].dtype != QN_F64)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rows of %" PRIu64 " values, heads of %" PRIu64 ", %" PRIu64 " frequencies do not fit together",
                       r.cols, r.head_dim, r.pairs);
    if (r.pairs > PAIRS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%" PRIu64 " frequencies: at most %d are supported", r.pairs, (int)PAIRS_MAX);
    if (n->n_in > 3 && in[3].dtype != QN_BYTES) {
        if (in[3].dtype != QN_F64 || in[3].n != r.pairs)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "long_freq has %" PRIu64 " values, freq %" PRIu64, in[3].n, r.pairs);
        r.long_freq = in[3].data;
    }
    const uint64_t rows = (uint64_t)in[0].dims[0];
    QN_TRY(qn_lm_starts(&in[1], rows, err));
    QN_TRY(qn_exec_new(x, out, QN_F32, in[0].dims, 2, err));
    r.x = in[0].data;
    r.y = out->data;
    /* sin and cos cost about 100 operations a pair */
    const qn_code rc = qn_lm_each_row(x, rows, 100 * r.pairs + 4 * r.cols, rows_rope, &r, err);
    if (rc != QN_OK)
        qn_array_release(out);
    return rc;
}

qn_code qn_rope_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return qn_lm_rope_turn(x, n, in, false, out, err);
}
