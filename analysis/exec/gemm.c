/* gemm.c: products by OpenBLAS, cut into tiles.
 *
 * A tile is one call on one thread. Its size depends on the shape only: OpenBLAS sums in another order at the edges of a
 * call, so tiles that moved with the number of threads would change the last bits. */
#include "analysis/exec/exec.h"
#include "base/num.h"
#include <cblas.h>

enum {
    TILE_ROWS = 256, TILE_COLS = 512, /* large enough that packing its operands costs a few percent */
    FEW_ROWS = 32                     /* fewer rows than this: the weight is what is streamed, so only columns are cut */
};

struct gemm {
    bool b_t;
    uint64_t m, n, k, lda, ldb, ldc, tile_m, tile_n, across;
    const float *a, *b;
    float *c, beta;
};

static qn_code tile(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct gemm *g = ctx;
    const uint64_t m0 = i / g->across * g->tile_m, n0 = i % g->across * g->tile_n;
    const uint64_t m = qn_min_u64(g->tile_m, g->m - m0), n = qn_min_u64(g->tile_n, g->n - n0);
    const float *b = g->b + (g->b_t ? n0 * g->ldb : n0);
    float *c = g->c + m0 * g->ldc + n0;
    if (m == 1 && g->b_t) /* a row: OpenBLAS's sgemm would pack the whole weight for it */
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (blasint)n, (blasint)g->k, 1, b, (blasint)g->ldb, g->a + m0 * g->lda, 1, g->beta, c, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, g->b_t ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)g->k, 1,
                    g->a + m0 * g->lda, (blasint)g->lda, b, (blasint)g->ldb, g->beta, c, (blasint)g->ldc);
    return QN_OK;
}

qn_code qn_gemm(qn_exec *x, bool b_t, uint64_t m, uint64_t n, uint64_t k, const float *a, uint64_t lda, const float *b,
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
    struct gemm g = {.b_t = b_t, .m = m, .n = n, .k = k, .lda = lda, .ldb = ldb, .ldc = ldc, .a = a, .b = b, .c = c, .beta = beta};
    g.tile_m = TILE_ROWS;
    g.tile_n = m < FEW_ROWS ? 128 : TILE_COLS;
    g.across = qn_ceil_div(n, g.tile_n);
    bool over = false;
    const uint64_t work = qn_mul(qn_mul(m, n, &over), k, &over);
    return qn_exec_parts(x, qn_ceil_div(m, g.tile_m) * g.across, over ? UINT64_MAX : work, tile, &g, err);
}
