/* grad_lm_help.c: see grad_lm.h. Sums over rows are cut by columns, so that every sum has one order whatever the number of threads. */
#include "analysis/grad/grad_lm.h"
#include "base/num.h"
#include <cblas.h>

enum { TILE_M = 256, TILE_N = 512, COLUMNS = 64 };

qn_code qn_lm_back_new(qn_exec *x, const qn_array *like, qn_array *d, qn_err *err)
{
    return qn_exec_new(x, d, QN_F32, like->dims, like->rank, err);
}

struct gemm_at {
    uint64_t m, n, k, lda, ldb, ldc, across;
    const float *a, *b;
    float *c, beta;
};

static qn_code tile(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct gemm_at *g = ctx;
    const uint64_t m0 = i / g->across * TILE_M, n0 = i % g->across * TILE_N;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)qn_min_u64(TILE_M, g->m - m0), (blasint)qn_min_u64(TILE_N, g->n - n0),
                (blasint)g->k, 1, g->a + m0, (blasint)g->lda, g->b + n0, (blasint)g->ldb, g->beta, g->c + m0 * g->ldc + n0, (blasint)g->ldc);
    return QN_OK;
}

qn_code qn_gemm_at(qn_exec *x, uint64_t m, uint64_t n, uint64_t k, const float *a, uint64_t lda, const float *b, uint64_t ldb, float beta, float *c,
                   uint64_t ldc, qn_err *err)
{
    if (!k && beta == 0)
        for (uint64_t i = 0; i < m; i++)
            for (uint64_t j = 0; j < n; j++)
                c[i * ldc + j] = 0;
    if (!m || !n || !k)
        return QN_OK;
    struct gemm_at g = {.m = m, .n = n, .k = k, .lda = lda, .ldb = ldb, .ldc = ldc, .a = a, .b = b, .c = c, .beta = beta};
    g.across = qn_ceil_div(n, TILE_N);
    bool over = false;
    const uint64_t work = qn_mul(qn_mul(m, n, &over), k, &over);
    return qn_exec_parts(x, qn_ceil_div(m, TILE_M) * g.across, over ? UINT64_MAX : work, tile, &g, err);
}

struct sums {
    const float *d, *u;
    uint64_t rows, cols;
    float *sum;
};

static qn_code columns(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct sums *s = ctx;
    const uint64_t c0 = i * COLUMNS, n = qn_min_u64(COLUMNS, s->cols - c0);
    double acc[COLUMNS] = {0};
    for (uint64_t r = 0; r < s->rows; r++) {
        const float *d = s->d + r * s->cols + c0, *u = s->u ? s->u + r * s->cols + c0 : NULL;
        if (u)
            for (uint64_t c = 0; c < n; c++)
                acc[c] += (double)d[c] * (double)u[c];
        else
            for (uint64_t c = 0; c < n; c++)
                acc[c] += (double)d[c];
    }
    for (uint64_t c = 0; c < n; c++)
        s->sum[c0 + c] = (float)acc[c];
    return QN_OK;
}

qn_code qn_lm_column_sums(qn_exec *x, const float *d, const float *u, uint64_t rows, uint64_t cols, float *sum, qn_err *err)
{
    struct sums s = {.d = d, .u = u, .rows = rows, .cols = cols, .sum = sum};
    return qn_exec_parts(x, qn_ceil_div(cols, COLUMNS), rows * cols, columns, &s, err);
}
