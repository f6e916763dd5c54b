/* lm_shift.c: operators that look at the tokens just before: places in a sequence, RWKV's token shift, a causal convolution. */
#include "analysis/exec/lm_scan.h"
#include "analysis/exec/ops_scan.h"
#include "base/err.h"
#include <inttypes.h>
#include <string.h>

qn_code qn_positions_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    *out = in[0];
    out->value = NULL;
    out->dtype = QN_I64;
    return QN_OK;
}

qn_code qn_positions_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const int64_t offset = qn_node_int(n, "offset", 0), limit = qn_node_int(n, "limit", 0);
    uint64_t n_seqs;
    QN_TRY(qn_scan_starts(&in[1], in[0].n, &n_seqs, err));
    const int64_t *starts = in[1].data, dims[1] = {(int64_t)in[0].n};
    for (uint64_t i = 0; i < n_seqs; i++)
        if (limit && starts[i + 1] - starts[i] > limit)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "sequence %" PRIu64 " has %" PRId64 " tokens; the model has positions for %" PRId64,
                           i, starts[i + 1] - starts[i], limit);
    QN_TRY(qn_exec_new(x, out, QN_I64, dims, 1, err));
    int64_t *y = out->data;
    for (uint64_t i = 0; i < n_seqs; i++)
        for (int64_t t = starts[i]; t < starts[i + 1]; t++)
            y[t] = t - starts[i] + offset;
    return QN_OK;
}

qn_code qn_token_shift_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    qn_lm_like(&in[0], out);
    return qn_scan_info(&in[2], "mix", qn_scan_last(&in[0]), err);
}

struct shift {
    const float *x, *w, *b; /* w: mix (n), or taps (n, k) */
    const int64_t *starts;
    float *y;
    uint64_t n, k;
};

static qn_code shift_part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct shift *c = ctx;
    for (uint64_t t = (uint64_t)c->starts[i]; t < (uint64_t)c->starts[i + 1]; t++) {
        const float *now = c->x + t * c->n, *before = now - c->n;
        float *y = c->y + t * c->n;
        if (t == (uint64_t)c->starts[i])
            for (uint64_t j = 0; j < c->n; j++)
                y[j] = c->w[j] * now[j];
        else
            for (uint64_t j = 0; j < c->n; j++)
                y[j] = c->w[j] * now[j] + (1 - c->w[j]) * before[j];
    }
    return QN_OK;
}

qn_code qn_token_shift_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)n;
    uint64_t n_tokens, n_seqs;
    struct shift c = {.x = in[0].data, .w = in[2].data, .starts = in[1].data};
    QN_TRY(qn_scan_rows(&in[0], "x", &n_tokens, &c.n, err));
    QN_TRY(qn_scan_starts(&in[1], n_tokens, &n_seqs, err));
    QN_TRY(qn_scan_fits(&in[2], "mix", c.n, err));
    QN_TRY(qn_exec_new(x, out, QN_F32, in[0].dims, 2, err));
    c.y = out->data;
    const qn_code rc = qn_exec_parts(x, n_seqs, in[0].n, shift_part, &c, err);
    if (rc != QN_OK)
        qn_array_release(out);
    return rc;
}

qn_code qn_causal_conv_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_lm_like(&in[0], out);
    const int64_t width = qn_scan_last(&in[0]);
    if (in[2].rank != QN_RANK_UNKNOWN && in[2].rank != 3)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the weight has rank %u, not 3", in[2].rank);
    if (in[2].rank == 3 && ((in[2].dims[1] != QN_DIM_UNKNOWN && in[2].dims[1] != 1) ||
                            (width != QN_DIM_UNKNOWN && in[2].dims[0] != QN_DIM_UNKNOWN && in[2].dims[0] != width)))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the weight is (%" PRId64 ", %" PRId64 ", taps), (%" PRId64 ", 1, taps) is expected",
                       in[2].dims[0], in[2].dims[1], width);
    return n->n_in > 3 && n->in[3] != QN_NO_VALUE ? qn_scan_info(&in[3], "bias", width, err) : QN_OK;
}

/* Taps are transposed to (k, n) so that the channels of one token are worked on side by side. */
static qn_code conv_part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct shift *c = ctx;
    const uint64_t first = (uint64_t)c->starts[i], end = (uint64_t)c->starts[i + 1], n = c->n;
    for (uint64_t t = first; t < end; t++) {
        float *y = c->y + t * n;
        if (c->b)
            memcpy(y, c->b, n * sizeof *y);
        else
            memset(y, 0, n * sizeof *y);
        for (uint64_t j = 0; j < c->k && j <= t - first; j++) {
            const float *x = c->x + (t - j) * n, *w = c->w + (c->k - 1 - j) * n;
            for (uint64_t q = 0; q < n; q++)
                y[q] += w[q] * x[q];
        }
    }
    return QN_OK;
}

qn_code qn_causal_conv_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    uint64_t n_tokens, n_seqs;
    struct shift c = {.x = in[0].data, .starts = in[1].data};
    QN_TRY(qn_scan_rows(&in[0], "x", &n_tokens, &c.n, err));
    QN_TRY(qn_scan_starts(&in[1], n_tokens, &n_seqs, err));
    if (in[2].dtype != QN_F32 || in[2].rank != 3 || (uint64_t)in[2].dims[0] != c.n || in[2].dims[1] != 1) {
        char text[2][128];
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the weight %s does not fit x %s", qn_array_text(&in[2], text[0]),
                       qn_array_text(&in[0], text[1]));
    }
    c.k = (uint64_t)in[2].dims[2];
    if (n->n_in > 3 && in[3].dtype != QN_BYTES) {
        QN_TRY(qn_scan_fits(&in[3], "bias", c.n, err));
        c.b = in[3].data;
    }
    qn_array taps;
    const int64_t dims[2] = {(int64_t)c.k, (int64_t)c.n};
    QN_TRY(qn_exec_new(x, &taps, QN_F32, dims, 2, err));
    float *w = taps.data;
    const float *from = in[2].data;
    for (uint64_t j = 0; j < c.n; j++)
        for (uint64_t k = 0; k < c.k; k++)
            w[k * c.n + j] = from[j * c.k + k];
    c.w = w;
    qn_code rc = qn_exec_new(x, out, QN_F32, in[0].dims, 2, err);
    if (rc == QN_OK) {
        c.y = out->data;
        rc = qn_exec_parts(x, n_seqs, in[0].n * (c.k + 1), conv_part, &c, err);
        if (rc != QN_OK)
            qn_array_release(out);
    }
    qn_array_release(&taps);
    return rc;
}
