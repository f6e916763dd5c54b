/* grad_help.c: loops and products that derivatives share. */
#include "analysis/grad/grad_help.h"
#include "base/num.h"
#include <cblas.h>
#include <string.h>

/* --- elementwise ----------------------------------------------------------------------------------------------------------- */

enum { PIECE = 1 << 14 };

struct each {
    qn_each_fn fn;
    void *ctx;
    uint64_t n;
};

static qn_code each_piece(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct each *e = ctx;
    e->fn(e->ctx, i * PIECE, qn_min_u64((i + 1) * PIECE, e->n));
    return QN_OK;
}

qn_code qn_grad_each(qn_exec *x, uint64_t n, uint64_t work, qn_each_fn fn, void *ctx, qn_err *err)
{
    struct each e = {.fn = fn, .ctx = ctx, .n = n};
    return qn_exec_parts(x, qn_ceil_div(n, PIECE), n * work, each_piece, &e, err);
}

struct add {
    const float *a, *b;
    float *out;
};

static void add_piece(void *ctx, uint64_t from, uint64_t to)
{
    const struct add *s = ctx;
    const float *a = s->a, *b = s->b;
    float *out = s->out;
    for (uint64_t i = from; i < to; i++)
        out[i] = a[i] + b[i];
}

qn_code qn_grad_add(qn_exec *x, const float *a, const float *b, float *out, uint64_t n, qn_err *err)
{
    struct add s = {.a = a, .b = b, .out = out};
    return qn_grad_each(x, n, 1, add_piece, &s, err);
}

qn_code qn_grad_like(qn_exec *x, const qn_array *t, bool zero, qn_array *out, qn_err *err)
{
    QN_TRY(qn_exec_new(x, out, QN_F32, t->dims, t->rank, err));
    if (zero && out->n)
        memset(out->data, 0, qn_array_bytes(out));
    return QN_OK;
}

/* --- products ---------------------------------------------------------------------------------------------------------------- */

/* A tile is one call on one thread. Derivatives of weights are often small and their sums long: tiles are halved until there are a few. */
enum { TILE_M = 256, TILE_N = 512, LEAST_TILE = 64, ENOUGH_TILES = 4 };

struct gemm {
    bool a_t, b_t;
    uint64_t m, n, k, lda, ldb, ldc, tile_m, tile_n, across;
    const float *a, *b;
    float *c, alpha, beta;
};

static qn_code tile(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct gemm *g = ctx;
    const uint64_t m0 = i / g->across * g->tile_m, n0 = i % g->across * g->tile_n;
    const uint64_t m = qn_min_u64(g->tile_m, g->m - m0), n = qn_min_u64(g->tile_n, g->n - n0);
    cblas_sgemm(CblasRowMajor, g->a_t ? CblasTrans : CblasNoTrans, g->b_t ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)g->k,
                g->alpha, g->a + (g->a_t ? m0 : m0 * g->lda), (blasint)g->lda, g->b + (g->b_t ? n0 * g->ldb : n0), (blasint)g->ldb, g->beta,
                g->c + m0 * g->ldc + n0, (blasint)g->ldc);
    return QN_OK;
}

qn_code qn_grad_gemm(qn_exec *x, bool a_t, bool b_t, uint64_t m, uint64_t n, uint64_t k, float alpha, const float *a, uint64_t lda, const float *b,
                     uint64_t ldb, float beta, float *c, uint64_t ldc, qn_err *err)
{
    if (!m || !n)
        return QN_OK;
    if (!k) {
        for (uint64_t i = 0; i < m; i++)
            for (uint64_t j = 0; j < n; j++)
                c[i * ldc + j] = beta == 0 ? 0 : c[i * ldc + j] * beta;
        return QN_OK;
    }
    struct gemm g = {.a_t = a_t, .b_t = b_t, .m = m, .n = n, .k = k, .lda = lda, .ldb = ldb, .ldc = ldc, .tile_m = TILE_M, .tile_n = TILE_N,
                     .a = a, .b = b, .c = c, .alpha = alpha, .beta = beta};
    while (qn_ceil_div(m, g.tile_m) * qn_ceil_div(n, g.tile_n) < ENOUGH_TILES && (g.tile_m > LEAST_TILE || g.tile_n > LEAST_TILE)) {
        uint64_t *larger = g.tile_n > LEAST_TILE && (g.tile_n > g.tile_m || g.tile_m == LEAST_TILE) ? &g.tile_n : &g.tile_m;
        *larger /= 2;
    }
    g.across = qn_ceil_div(n, g.tile_n);
    bool over = false;
    const uint64_t work = qn_mul(qn_mul(m, n, &over), k, &over);
    return qn_exec_parts(x, qn_ceil_div(m, g.tile_m) * g.across, over ? UINT64_MAX : work, tile, &g, err);
}
