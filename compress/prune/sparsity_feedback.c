/* sparsity_feedback.c: zeros whose errors later columns make up for.
 *
 * With H = L Lᵀ, E = W − Ŵ and t_b = w_b + Σ_{a<b} e_a L̃_ab (by visit), tr(E H Eᵀ) = Σ_b L_bb² |t_b − ŵ_b|² (ldl.h). A column that stays takes its target, ŵ = t, and
 * costs nothing; a zero costs L_bb² t_b². So the weights with the smallest L_bb² t_b² go: by blocks of columns as they are reached, or in
 * every run of neighbours when its first column is (SparseGPT, Frantar and Alistarh 2023). */
#include "base/err.h"
#include "base/num.h"
#include "compress/ldl.h"
#include "compress/prune/sparsity_impl.h"
#include <cblas.h>
#include <string.h>

enum { BLOCK = 128 };

struct pass {
    const qn_alloc *alloc;
    qn_ldl ldl;
    const float *w0;        /* as it was                                 */
    float *t;               /* (rows, cols): targets, by column; Ŵ at the end */
    float *e;               /* (rows, block): errors of the block        */
    float *score;           /* cols, or (rows, block)                    */
    uint32_t block;         /* columns: no run of a pattern lies in two  */
    uint32_t *run;          /* columns of one                            */
    uint8_t *mask, *block_mask, *decided;
    uint32_t rows, cols;
    double ratio;
    const qn_nm *pattern;
};

/* The smallest of rows × the block's columns. */
static qn_code mark_block(struct pass *p, uint32_t first, uint32_t n, qn_err *err)
{
    const uint64_t all = (uint64_t)p->rows * n;
    for (uint64_t r = 0; r < p->rows; r++)
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t c = p->ldl.visit[first + i];
            const float t = p->t[r * p->cols + c];
            p->score[r * n + i] = t * t * (float)p->ldl.weight[c];
        }
    QN_TRY(qn_mark_smallest(p->alloc, p->score, all, (uint64_t)(p->ratio * (double)all + 0.5), p->block_mask, err));
    for (uint64_t r = 0; r < p->rows; r++)
        for (uint32_t i = 0; i < n; i++)
            p->mask[r * p->cols + p->ldl.visit[first + i]] = p->block_mask[r * n + i];
    return QN_OK;
}

static void mark_run(struct pass *p, uint32_t col)
{
    uint32_t *const cols = p->run;
    const uint32_t run = qn_nm_run_of(p->pattern, col);
    if (p->decided[run])
        return;
    p->decided[run] = 1;
    const uint32_t n = qn_nm_run(p->pattern, run, cols);
    for (uint64_t r = 0; r < p->rows; r++) {
        for (uint32_t i = 0; i < n; i++) {
            const float t = p->t[r * p->cols + cols[i]];
            p->score[cols[i]] = t * t * (float)p->ldl.weight[cols[i]];
        }
        qn_nm_mark(p->pattern, p->score, cols, n, p->mask + r * p->cols);
    }
}

/* Column of visit v takes its target or 0; its error moves the later targets of the block. */
static void visit(struct pass *p, uint32_t v, uint32_t first, uint32_t n)
{
    const uint32_t c = p->ldl.visit[v];
    const float *feed = p->ldl.feed + (uint64_t)v * p->cols;
    for (uint64_t r = 0; r < p->rows; r++) {
        float *t = p->t + r * p->cols;
        if (p->mask[r * p->cols + c])
            t[c] = 0;
        const float e = p->w0[r * p->cols + c] - t[c];
        p->e[r * p->block + (v - first)] = e;
        for (uint32_t k = v + 1; k < first + n && e != 0; k++)
            t[p->ldl.visit[k]] += e * feed[k];
    }
}

/* What the block's errors move behind it. */
static void feed_block(struct pass *p, uint32_t first, uint32_t n, float *sum)
{
    const uint32_t rest = p->cols - first - n;
    if (!rest)
        return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)p->rows, (blasint)rest, (blasint)n, 1, p->e, (blasint)p->block,
                p->ldl.feed + (uint64_t)first * p->cols + first + n, (blasint)p->cols, 0, sum, (blasint)rest);
    for (uint64_t r = 0; r < p->rows; r++)
        for (uint32_t k = 0; k < rest; k++)
            p->t[r * p->cols + p->ldl.visit[first + n + k]] += sum[r * rest + k];
}

static qn_code run(struct pass *p, float *sum, qn_err *err)
{
    for (uint32_t first = 0; first < p->cols; first += p->block) {
        const uint32_t n = p->cols - first < p->block ? p->cols - first : p->block;
        if (!p->pattern)
            QN_TRY(mark_block(p, first, n, err));
        for (uint32_t v = first; v < first + n; v++) {
            if (p->pattern)
                mark_run(p, p->ldl.visit[v]);
            visit(p, v, first, n);
        }
        feed_block(p, first, n, sum);
    }
    return QN_OK;
}

qn_code qn_sparse_feedback(const qn_alloc *alloc, float *w, uint32_t rows, uint32_t cols, double *h, double ratio, const qn_nm *pattern,
                           uint8_t *mask, bool *done, qn_err *err)
{
    struct pass p = {.alloc = alloc, .ldl = QN_LDL_EMPTY, .w0 = w, .mask = mask, .rows = rows, .cols = cols, .ratio = ratio, .pattern = pattern};
    const uint64_t all = (uint64_t)rows * cols;
    *done = false;
    QN_TRY(qn_ldl_take(&p.ldl, alloc, cols, h, NULL, 1, QN_ORDER_NATURAL, 0, err));
    if (p.ldl.kind != QN_LDL_FULL) {
        qn_ldl_release(&p.ldl);
        return QN_OK;
    }
    /* a run's columns lie within as many neighbours as it has, times the places of a channel */
    const uint32_t apart = pattern ? (uint32_t)qn_min_u64(cols, (uint64_t)pattern->of * pattern->per) : 1;
    p.block = BLOCK > apart ? BLOCK / apart * apart : apart;
    float *sum = NULL;
    p.t = qn_mem_get(alloc, all * sizeof *p.t, err);
    p.e = p.t ? qn_mem_get(alloc, (uint64_t)rows * p.block * sizeof *p.e, err) : NULL;
    p.score = p.e ? qn_mem_get(alloc, ((uint64_t)rows * p.block + cols) * sizeof *p.score, err) : NULL;
    p.block_mask = p.score ? qn_mem_get(alloc, (uint64_t)rows * p.block, err) : NULL;
    p.decided = p.block_mask ? qn_mem_zeros(alloc, cols + 1ull, 1, err) : NULL;
    p.run = p.decided ? qn_mem_get(alloc, (pattern ? pattern->of : 1) * sizeof *p.run, err) : NULL;
    sum = p.run ? qn_mem_get(alloc, all * sizeof *sum, err) : NULL;
    qn_code rc = sum ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK) {
        memcpy(p.t, w, all * sizeof *w);
        rc = run(&p, sum, err);
    }
    if (rc == QN_OK) {
        memcpy(w, p.t, all * sizeof *w);
        *done = true;
    }
    qn_mem_put(alloc, sum);
    qn_mem_put(alloc, p.run);
    qn_mem_put(alloc, p.decided);
    qn_mem_put(alloc, p.block_mask);
    qn_mem_put(alloc, p.score);
    qn_mem_put(alloc, p.e);
    qn_mem_put(alloc, p.t);
    qn_ldl_release(&p.ldl);
    return rc;
}
