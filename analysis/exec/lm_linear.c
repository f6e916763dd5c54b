/* lm_linear.c: a product with a weight, and rows of an embedding: the two operators whose weight may be too large to be
 * held. Then it is read in tiles of rows, each used for all of x and forgotten. */
#include "analysis/exec/ops_lm.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

enum { TILE_BYTES = 16 << 20 };

/* "out_in": W (out, in) as torch's Linear has it; "in_out": W (in, out), GPT-2's Conv1D. */
static bool is_in_out(const qn_node *n)
{
    return !strcmp(qn_node_string(n, "layout", "out_in"), "in_out");
}

qn_code qn_linear_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const bool t = is_in_out(n);
    out->dtype = QN_F32;
    if (in[1].rank != QN_RANK_UNKNOWN && in[1].rank != 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the weight has rank %u, not 2", in[1].rank);
    if (in[0].rank == QN_RANK_UNKNOWN || in[0].rank == 0 || in[1].rank == QN_RANK_UNKNOWN)
        return QN_OK;
    const int64_t x_in = in[0].dims[in[0].rank - 1], w_in = in[1].dims[t ? 0 : 1], w_out = in[1].dims[t ? 1 : 0];
    if (x_in != QN_DIM_UNKNOWN && w_in != QN_DIM_UNKNOWN && x_in != w_in)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "x has %" PRId64 " values a row, the weight takes %" PRId64, x_in, w_in);
    if (n->n_in > 2 && n->in[2] != QN_NO_VALUE && in[2].rank != QN_RANK_UNKNOWN &&
        (in[2].rank != 1 || (in[2].dims[0] != QN_DIM_UNKNOWN && w_out != QN_DIM_UNKNOWN && in[2].dims[0] != w_out)))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the bias does not have the %" PRId64 " values of an output row", w_out);
    out->rank = in[0].rank;
    memcpy(out->dims, in[0].dims, sizeof out->dims);
    out->dims[out->rank - 1] = w_out;
    return QN_OK;
}

/* The same by tiles of the weight's rows. */
static qn_code by_rows(qn_exec *x, const qn_node *n, const qn_array *in, uint64_t rows, float *y, qn_err *err)
{
    const bool t = is_in_out(n);
    const uint64_t n_w = (uint64_t)in[1].dims[0], len = (uint64_t)in[1].dims[1];
    const uint64_t n_in = t ? n_w : len, n_out = t ? len : n_w;
    const uint64_t per = qn_max_u64(1, qn_min_u64(n_w, TILE_BYTES / (len * 4)));
    qn_array tile;
    const int64_t dims[2] = {(int64_t)per, (int64_t)len};
    QN_TRY(qn_exec_new(x, &tile, QN_F32, dims, 2, err));
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < n_w && rc == QN_OK; i += per) {
        const uint64_t m = qn_min_u64(per, n_w - i);
        rc = qn_exec_weight_rows(x, n->in[1], i, m, tile.data, err);
        if (rc != QN_OK)
            break;
        if (t)
            rc = qn_gemm(x, false, rows, n_out, m, (const float *)in[0].data + i, n_in, tile.data, len, i ? 1 : 0, y, n_out, err);
        else
            rc = qn_gemm(x, true, rows, m, n_in, in[0].data, n_in, tile.data, len, 0, y + i, n_out, err);
    }
    qn_array_release(&tile);
    return rc;
}

qn_code qn_linear_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const bool t = is_in_out(n);
    char text[2][128];
    const qn_array *bias = n->n_in > 2 && in[2].dtype != QN_BYTES ? &in[2] : NULL;
    if (in[0].dtype != QN_F32 || in[1].dtype != QN_F32 || in[0].rank < 1 || in[1].rank != 2 ||
        in[0].dims[in[0].rank - 1] != in[1].dims[t ? 0 : 1] || (bias && (bias->dtype != QN_F32 || (int64_t)bias->n != in[1].dims[t ? 1 : 0])))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s does not fit the weight %s", qn_array_text(&in[0], text[0]), qn_array_text(&in[1], text[1]));
    const uint64_t n_in = (uint64_t)in[1].dims[t ? 0 : 1], n_out = (uint64_t)in[1].dims[t ? 1 : 0];
    const uint64_t rows = n_in ? in[0].n / n_in : 0;
    int64_t dims[QN_ARRAY_RANK_MAX];
    memcpy(dims, in[0].dims, sizeof dims);
    dims[in[0].rank - 1] = (int64_t)n_out;
    QN_TRY(qn_exec_input(x, n->in[1], 0, in[0].data, rows, n_in, n_in, err));
    QN_TRY(qn_exec_new(x, out, QN_F32, dims, in[0].rank, err));
    qn_code rc;
    if (!in[1].data)
        rc = by_rows(x, n, in, rows, out->data, err);
    else
        rc = qn_gemm(x, !t, rows, n_out, n_in, in[0].data, n_in, in[1].data, (uint64_t)in[1].dims[1], 0, out->data, n_out, err);
    if (rc == QN_OK && bias) {
        float *y = out->data;
        const float *b = bias->data;
        for (uint64_t i = 0; i < rows; i++)
            for (uint64_t k = 0; k < n_out; k++)
                y[i * n_out + k] += b[k];
    }
    if (rc != QN_OK)
        qn_array_release(out);
    return rc;
}

qn_code qn_embed_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    out->dtype = QN_F32;
    if (in[1].rank != QN_RANK_UNKNOWN && in[1].rank != 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the embedding has rank %u, not 2", in[1].rank);
    if (in[0].rank == QN_RANK_UNKNOWN || in[0].rank >= QN_ARRAY_RANK_MAX || in[1].rank == QN_RANK_UNKNOWN)
        return QN_OK;
    out->rank = (uint8_t)(in[0].rank + 1);
    memcpy(out->dims, in[0].dims, sizeof out->dims);
    out->dims[in[0].rank] = in[1].dims[1];
    return QN_OK;
}

qn_code qn_embed_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    if (in[0].dtype != QN_I64 || in[1].dtype != QN_F32 || in[1].rank != 2 || in[0].rank >= QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "ids must be i64, the embedding f32 of rank 2");
    const int64_t *ids = in[0].data, n_vocab = in[1].dims[0];
    const uint64_t width = (uint64_t)in[1].dims[1];
    for (uint64_t i = 0; i < in[0].n; i++)
        if (ids[i] < 0 || ids[i] >= n_vocab)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "token %" PRId64 " at place %" PRIu64 "; the model's vocabulary has %" PRId64,
                           ids[i], i, n_vocab);
    int64_t dims[QN_ARRAY_RANK_MAX];
    memcpy(dims, in[0].dims, sizeof dims);
    dims[in[0].rank] = (int64_t)width;
    QN_TRY(qn_exec_new(x, out, QN_F32, dims, in[0].rank + 1u, err));
    const float scale = (float)qn_node_float(n, "scale", 1);
    float *y = out->data;
    for (uint64_t i = 0; i < in[0].n; i++, y += width) {
        if (in[1].data) {
            memcpy(y, (const float *)in[1].data + (uint64_t)ids[i] * width, width * sizeof *y);
        } else {
            const qn_code rc = qn_exec_weight_rows(x, n->in[1], (uint64_t)ids[i], 1, y, err);
            if (rc != QN_OK) {
                qn_array_release(out);
                return rc;
            }
        }
        if (scale != 1)
            for (uint64_t k = 0; k < width; k++)
                y[k] *= scale;
    }
    return QN_OK;
}
