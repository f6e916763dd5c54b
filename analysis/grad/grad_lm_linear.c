/* grad_lm_linear.c: derivatives of Linear (y = x Wᵀ + b: dx = dy W, dW = dyᵀ x, db = Σ dy) and Embed (rows of dy added to the rows that were picked,
 * in the order of the tokens). A weight that is too large to be held is read in tiles of rows, as the forward pass does. */
#include "analysis/grad/grad_lm.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

enum { TILE_BYTES = 16 << 20, COLUMNS = 64 };

/* dx (rows, n_in) from dy (rows, n_out) and rows [first, first + m) of the weight. */
static qn_code back_x(qn_exec *x, bool in_out, uint64_t rows, uint64_t n_in, uint64_t n_out, const float *w, uint64_t first, uint64_t m,
                      const float *dy, float *dx, qn_err *err)
{
    if (in_out) /* W (in, out): these columns of dx */
        return qn_gemm(x, true, rows, m, n_out, dy, n_out, w, n_out, 0, dx + first, n_in, err);
    return qn_gemm(x, false, rows, n_in, m, dy + first, n_out, w, n_in, first ? 1 : 0, dx, n_in, err);
}

static qn_code by_rows(qn_exec *x, const qn_node *n, const qn_array *w, bool in_out, uint64_t rows, const float *dy, float *dx, qn_err *err)
{
    const uint64_t n_w = (uint64_t)w->dims[0], len = (uint64_t)w->dims[1];
    const uint64_t per = qn_max_u64(1, qn_min_u64(n_w, TILE_BYTES / (len * 4)));
    const int64_t dims[2] = {(int64_t)per, (int64_t)len};
    qn_array tile;
    QN_TRY(qn_exec_new(x, &tile, QN_F32, dims, 2, err));
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < n_w && rc == QN_OK; i += per) {
        const uint64_t m = qn_min_u64(per, n_w - i);
        rc = qn_exec_weight_rows(x, n->in[1], i, m, tile.data, err);
        if (rc == QN_OK)
            rc = back_x(x, in_out, rows, in_out ? n_w : len, in_out ? len : n_w, tile.data, i, m, dy, dx, err);
    }
    qn_array_release(&tile);
    return rc;
}

qn_code qn_linear_back(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                       qn_err *err)
{
    (void)out;
    const bool in_out = !strcmp(qn_node_string(n, "layout", "out_in"), "in_out");
    const uint64_t n_in = (uint64_t)in[1].dims[in_out ? 0 : 1], n_out = (uint64_t)in[1].dims[in_out ? 1 : 0];
    const uint64_t rows = n_in ? in[0].n / n_in : 0;
    const float *dy = d_out[0].data, *xs = in[0].data;
    if (want[0]) {
        QN_TRY(qn_lm_back_new(x, &in[0], &d_in[0], err));
        if (in[1].data)
            QN_TRY(back_x(x, in_out, rows, n_in, n_out, in[1].data, 0, (uint64_t)in[1].dims[0], dy, d_in[0].data, err));
        else
            QN_TRY(by_rows(x, n, &in[1], in_out, rows, dy, d_in[0].data, err));
    }
    if (want[1]) {
        QN_TRY(qn_lm_back_new(x, &in[1], &d_in[1], err));
        if (in_out)
            QN_TRY(qn_gemm_at(x, n_in, n_out, rows, xs, n_in, dy, n_out, 0, d_in[1].data, n_out, err));
        else
            QN_TRY(qn_gemm_at(x, n_out, n_in, rows, dy, n_out, xs, n_in, 0, d_in[1].data, n_in, err));
    }
    if (n->n_in > 2 && want[2]) {
        QN_TRY(qn_lm_back_new(x, &in[2], &d_in[2], err));
        QN_TRY(qn_lm_column_sums(x, dy, NULL, rows, n_out, d_in[2].data, err));
    }
    return QN_OK;
}

struct embed {
    const int64_t *ids;
    const float *dy;
    float *dw, scale;
    uint64_t n, width;
};

/* A range of columns of all rows: each sum has the order of the tokens. */
static qn_code scatter(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct embed *e = ctx;
    const uint64_t c0 = i * COLUMNS, c1 = qn_min_u64(e->width, c0 + COLUMNS);
    for (uint64_t t = 0; t < e->n; t++) {
        const float *dy = e->dy + t * e->width;
        float *to = e->dw + (uint64_t)e->ids[t] * e->width;
        for (uint64_t c = c0; c < c1; c++)
            to[c] += e->scale * dy[c];
    }
    return QN_OK;
}

qn_code qn_embed_back(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                      qn_err *err)
{
    (void)out;
    if (!want[1])
        return QN_OK;
    QN_TRY(qn_lm_back_new(x, &in[1], &d_in[1], err));
    memset(d_in[1].data, 0, qn_array_bytes(&d_in[1]));
    struct embed e = {.ids = in[0].data, .dy = d_out[0].data, .dw = d_in[1].data, .scale = (float)qn_node_float(n, "scale", 1), .n = in[0].n,
                      .width = (uint64_t)in[1].dims[1]};
    return qn_exec_parts(x, qn_ceil_div(e.width, COLUMNS), e.n * e.width, scatter, &e, err);
}
