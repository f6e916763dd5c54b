/* grad_onnx_matmul.c: MatMul and Gemm. Y = A · B: dA = dY · Bᵀ, dB = Aᵀ · dY, summed over the axes along which an operand was repeated. */
#include "analysis/grad/backs.h"
#include <string.h>

/* Shapes with both matrix axes; vectors as a row on the left, a column on the right. */
typedef struct product {
    uint64_t m, n, k, n_batch;
    unsigned n_lead;
    int64_t lead[QN_ARRAY_RANK_MAX], step_a[QN_ARRAY_RANK_MAX], step_b[QN_ARRAY_RANK_MAX]; /* steps in matrices, 0 where repeated */
} product;

static void read_product(product *p, const qn_array *a, const qn_array *b)
{
    const unsigned ra = a->rank == 1 ? 2 : a->rank, rb = b->rank == 1 ? 2 : b->rank;
    *p = (product){.m = a->rank == 1 ? 1 : (uint64_t)a->dims[a->rank - 2], .n = b->rank == 1 ? 1 : (uint64_t)b->dims[b->rank - 1],
                   .k = (uint64_t)a->dims[a->rank - 1], .n_batch = 1, .n_lead = (ra > rb ? ra : rb) - 2};
    int64_t na = 1, nb = 1;
    for (unsigned i = p->n_lead; i-- > 0;) {
        const unsigned back = p->n_lead - i + 2;
        const int64_t da = back <= ra ? a->dims[ra - back] : 1, db = back <= rb ? b->dims[rb - back] : 1;
        p->lead[i] = da == 1 ? db : da;
        p->step_a[i] = da == 1 ? 0 : na;
        p->step_b[i] = db == 1 ? 0 : nb;
        na *= da;
        nb *= db;
        p->n_batch *= (uint64_t)p->lead[i];
    }
}

static bool next(const product *p, int64_t *at, uint64_t *ia, uint64_t *ib)
{
    for (unsigned i = p->n_lead; i-- > 0;) {
        *ia += (uint64_t)p->step_a[i];
        *ib += (uint64_t)p->step_b[i];
        if (++at[i] < p->lead[i])
            return true;
        *ia -= (uint64_t)(p->step_a[i] * p->lead[i]);
        *ib -= (uint64_t)(p->step_b[i] * p->lead[i]);
        at[i] = 0;
    }
    return false;
}

qn_code qn_back_matmul(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                       qn_array *d_in, qn_err *err)
{
    (void)n;
    (void)out;
    product p;
    read_product(&p, &in[0], &in[1]);
    for (unsigned i = 0; i < 2; i++)
        if (want[i])
            QN_TRY(qn_grad_like(x, &in[i], true, &d_in[i], err));
    if (!d_out[0].n)
        return QN_OK;
    const float *dy = d_out[0].data, *a = in[0].data, *b = in[1].data;
    const uint64_t m = p.m, w = p.n, k = p.k;
    if (in[1].rank <= 2) { /* one right side for all rows */
        const uint64_t rows = d_out[0].n / w;
        if (want[0])
            QN_TRY(qn_grad_gemm(x, false, true, rows, k, w, 1, dy, w, b, w, 0, d_in[0].data, k, err));
        if (want[1])
            QN_TRY(qn_grad_gemm(x, true, false, k, w, rows, 1, a, k, dy, w, 0, d_in[1].data, w, err));
        return QN_OK;
    }
    int64_t at[QN_ARRAY_RANK_MAX] = {0};
    uint64_t ia = 0, ib = 0;
    for (uint64_t i = 0; i < p.n_batch; i++) {
        if (want[0])
            QN_TRY(qn_grad_gemm(x, false, true, m, k, w, 1, dy + i * m * w, w, b + ib * k * w, w, 1, (float *)d_in[0].data + ia * m * k, k, err));
        if (want[1])
            QN_TRY(qn_grad_gemm(x, true, false, k, w, m, 1, a + ia * m * k, k, dy + i * m * w, w, 1, (float *)d_in[1].data + ib * k * w, w, err));
        if (!next(&p, at, &ia, &ib))
            break;
    }
    return QN_OK;
}

/* --- Gemm: Y = α · A′ · B′ + β · C ------------------------------------------------------------------------------------------ */

/* dA is dY · B′ᵀ, or, where A was transposed, its transpose B′ · dYᵀ; dB likewise. */
qn_code qn_back_gemm(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                     qn_array *d_in, qn_err *err)
{
    (void)out;
    const bool ta = qn_node_int(n, "transA", 0) != 0, tb = qn_node_int(n, "transB", 0) != 0;
    const float alpha = (float)qn_node_float(n, "alpha", 1), beta = (float)qn_node_float(n, "beta", 1);
    const uint64_t m = (uint64_t)in[0].dims[ta], k = (uint64_t)in[0].dims[!ta], w = (uint64_t)in[1].dims[!tb];
    const uint64_t lda = ta ? m : k, ldb = tb ? k : w;
    const float *dy = d_out[0].data, *a = in[0].data, *b = in[1].data;
    if (want[0]) {
        QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
        QN_TRY(ta ? qn_grad_gemm(x, tb, true, k, m, w, alpha, b, ldb, dy, w, 0, d_in[0].data, m, err)
                  : qn_grad_gemm(x, false, !tb, m, k, w, alpha, dy, w, b, ldb, 0, d_in[0].data, k, err));
    }
    if (want[1]) {
        QN_TRY(qn_grad_like(x, &in[1], false, &d_in[1], err));
        QN_TRY(tb ? qn_grad_gemm(x, true, ta, w, k, m, alpha, dy, w, a, lda, 0, d_in[1].data, k, err)
                  : qn_grad_gemm(x, !ta, false, k, w, m, alpha, a, lda, dy, w, 0, d_in[1].data, w, err));
    }
    if (n->n_in < 3 || !want[2])
        return QN_OK;
    QN_TRY(qn_grad_reduce(x, &d_out[0], NULL, &in[2], &d_in[2], err));
    if (beta == 1)
        return QN_OK;
    if (!qn_array_is_only(&d_in[2])) { /* C had the shape of Y: it shares dY */
        qn_array_release(&d_in[2]);
        QN_TRY(qn_grad_like(x, &in[2], false, &d_in[2], err));
        if (d_in[2].n)
            memcpy(d_in[2].data, dy, qn_array_bytes(&d_in[2]));
    }
    for (uint64_t i = 0; i < d_in[2].n; i++)
        ((float *)d_in[2].data)[i] *= beta;
    return QN_OK;
}
