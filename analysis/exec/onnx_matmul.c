/* onnx_matmul.c: MatMul and Gemm. */
#include "analysis/exec/onnx_product.h"
#include <inttypes.h>
#include <string.h>

/* --- products of dtypes that have no library: one row at a time, k in order ------------------------------------------------ */

typedef struct plain {
    bool b_t;
    uint64_t n, k;
    const void *a, *b;
    void *c;
} plain;

#define ROW_OF(NAME, X)                                                                    \
    static qn_code NAME(void *ctx, uint64_t i, unsigned slot, qn_err *err)                 \
    {                                                                                      \
        (void)slot;                                                                        \
        (void)err;                                                                         \
        const plain *p = ctx;                                                              \
        const X *a = (const X *)p->a + i * p->k, *b = p->b;                                \
        X *c = (X *)p->c + i * p->n;                                                       \
        for (uint64_t j = 0; j < p->n; j++)                                                \
            c[j] = 0;                                                                      \
        if (p->b_t)                                                                        \
            for (uint64_t j = 0; j < p->n; j++)                                            \
                for (uint64_t l = 0; l < p->k; l++)                                        \
                    c[j] += a[l] * b[j * p->k + l];                                        \
        else                                                                               \
            for (uint64_t l = 0; l < p->k; l++)                                            \
                for (uint64_t j = 0; j < p->n; j++)                                        \
                    c[j] += a[l] * b[l * p->n + j];                                        \
        return QN_OK;                                                                      \
    }
ROW_OF(row_f64, double)
ROW_OF(row_u32, uint32_t)
ROW_OF(row_u64, uint64_t)

qn_code qn_onnx_product_of(qn_exec *x, qn_dtype t, bool b_t, uint64_t m, uint64_t n, uint64_t k, const void *a, const void *b, void *c,
                           qn_err *err)
{
    plain p = {.b_t = b_t, .n = n, .k = k, .a = a, .b = b, .c = c};
    const uint64_t n_work = m * n * (k ? k : 1);
    switch (t) {
    case QN_F32: return qn_gemm(x, b_t, m, n, k, a, k, b, b_t ? k : n, 0.0f, c, n, err);
    case QN_F64: return qn_exec_parts(x, m, n_work, row_f64, &p, err);
    case QN_I32:
    case QN_U32: return qn_exec_parts(x, m, n_work, row_u32, &p, err); /* modulo 2^32 both are the same bits */
    case QN_I64:
    case QN_U64: return qn_exec_parts(x, m, n_work, row_u64, &p, err);
    default: return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a product of dtype %s", qn_dtype_name(t));
    }
}

/* --- MatMul: numpy's rules ---------------------------------------------------------------------------------------------- */

typedef struct shapes {
    unsigned rank;                       /* of the output                             */
    int64_t dims[QN_ARRAY_RANK_MAX + 2]; /* of the output with both matrix axes       */
    int64_t m, k, n;
    unsigned n_batch;                    /* leading axes                              */
    int64_t step_a[QN_ARRAY_RANK_MAX], step_b[QN_ARRAY_RANK_MAX]; /* in matrices, 0 where repeated */
} shapes;

/* Unknown dimensions fit everything and give unknown ones. */
static qn_code fit(shapes *s, const int64_t *a, unsigned a_rank, const int64_t *b, unsigned b_rank, qn_err *err)
{
    int64_t pa[QN_ARRAY_RANK_MAX + 1], pb[QN_ARRAY_RANK_MAX + 1];
    if (!a_rank || !b_rank)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "MatMul of a scalar");
    const unsigned ra = a_rank == 1 ? 2 : a_rank, rb = b_rank == 1 ? 2 : b_rank;
    pa[0] = pb[1] = 1;
    memcpy(pa + (a_rank == 1), a, a_rank * sizeof *a);
    memcpy(pb, b, b_rank * sizeof *b);
    s->m = pa[ra - 2];
    s->k = pa[ra - 1];
    s->n = pb[rb - 1];
    if (s->k >= 0 && pb[rb - 2] >= 0 && s->k != pb[rb - 2])
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "MatMul of (…, %" PRId64 ", %" PRId64 ") with (…, %" PRId64 ", %" PRId64 ")", s->m,
                       s->k, pb[rb - 2], s->n);
    s->n_batch = (ra > rb ? ra : rb) - 2;
    int64_t na = 1, nb = 1;
    for (unsigned i = s->n_batch; i-- > 0;) {
        const unsigned back = s->n_batch - i + 2;
        const int64_t da = back <= ra ? pa[ra - back] : 1, db = back <= rb ? pb[rb - back] : 1;
        if (da != db && da > 1 && db > 1)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "MatMul of %" PRId64 " matrices with %" PRId64 " along one axis", da, db);
        s->dims[i] = da == 1 ? db : db == 1 ? da : da < 0 ? db : db < 0 ? da : da == 0 ? 0 : db;
        s->step_a[i] = da == 1 ? 0 : na;
        s->step_b[i] = db == 1 ? 0 : nb;
        na *= da < 0 ? 1 : da;
        nb *= db < 0 ? 1 : db;
    }
    s->rank = s->n_batch;
    if (a_rank > 1)
        s->dims[s->rank++] = s->m;
    if (b_rank > 1)
        s->dims[s->rank++] = s->n;
    return QN_OK;
}

qn_code qn_onnx_matmul_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    shapes s;
    out->dtype = in[0].dtype;
    if (!qn_onnx_info_has(n, in, 0) || !qn_onnx_info_has(n, in, 1))
        return QN_OK;
    QN_TRY(fit(&s, in[0].dims, in[0].rank, in[1].dims, in[1].rank, err));
    if (s.rank <= QN_ARRAY_RANK_MAX)
        qn_info_set(out, in[0].dtype, s.dims, s.rank);
    return QN_OK;
}

static const void *matrix(const qn_array *t, uint64_t i, uint64_t elems)
{
    return (const uint8_t *)t->data + i * elems * (qn_dtype_bits((qn_dtype)t->dtype) / 8);
}

qn_code qn_onnx_matmul(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    shapes s;
    char ta[128], tb[128];
    if (in[0].dtype != in[1].dtype)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "MatMul of %s with %s", qn_array_text(&in[0], ta), qn_array_text(&in[1], tb));
    QN_TRY(fit(&s, in[0].dims, in[0].rank, in[1].dims, in[1].rank, err));
    QN_TRY(qn_exec_new(x, &out[0], (qn_dtype)in[0].dtype, s.dims, s.rank, err));
    if (!out[0].n)
        return QN_OK;
    const uint64_t m = (uint64_t)s.m, k = (uint64_t)s.k, w = (uint64_t)s.n;
    const bool tell = qn_exec_listens(x) && in[0].dtype == QN_F32 && k;
    if (in[1].rank <= 2) { /* one right side for all rows */
        const uint64_t rows = out[0].n / w;
        if (tell)
            QN_TRY(qn_exec_input(x, n->in[1], 0, in[0].data, rows, k, k, err));
        return qn_onnx_product_of(x, (qn_dtype)in[0].dtype, false, rows, w, k, in[0].data, in[1].data, out[0].data, err);
    }
    const uint64_t n_batch = out[0].n / (m * w);
    int64_t at[QN_ARRAY_RANK_MAX] = {0};
    for (uint64_t i = 0; i < n_batch; i++) {
        int64_t ia = 0, ib = 0;
        for (unsigned a = 0; a < s.n_batch; a++) {
            ia += at[a] * s.step_a[a];
            ib += at[a] * s.step_b[a];
        }
        const void *pa = matrix(&in[0], (uint64_t)ia, m * k), *pb = matrix(&in[1], (uint64_t)ib, k * w);
        if (tell)
            QN_TRY(qn_exec_input(x, n->in[1], (uint32_t)ib, pa, m, k, k, err));
        QN_TRY(qn_onnx_product_of(x, (qn_dtype)in[0].dtype, false, m, w, k, pa, pb,
                                  (uint8_t *)out[0].data + i * m * w * (qn_dtype_bits((qn_dtype)in[0].dtype) / 8), err));
        for (unsigned a = s.n_batch; a-- > 0;) {
            if (++at[a] < s.dims[a])
                break;
            at[a] = 0;
        }
    }
    return QN_OK;
}

/* --- Gemm: α · A′ · B′ + β · C ------------------------------------------------------------------------------------------- */

static qn_code gemm_fit(const qn_node *n, const int64_t *a, unsigned a_rank, const int64_t *b, unsigned b_rank, int64_t mnk[3], qn_err *err)
{
    if (a_rank != 2 || b_rank != 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "Gemm of tensors of rank %u and %u; both must be matrices", a_rank, b_rank);
    const bool ta = qn_node_int(n, "transA", 0) != 0, tb = qn_node_int(n, "transB", 0) != 0;
    mnk[0] = a[ta];
    mnk[1] = b[!tb];
    mnk[2] = a[!ta];
    if (mnk[2] >= 0 && b[tb] >= 0 && mnk[2] != b[tb])
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "Gemm sums over %" PRId64 " of A and %" PRId64 " of B", mnk[2], b[tb]);
    return QN_OK;
}

qn_code qn_onnx_gemm_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    int64_t mnk[3];
    out->dtype = in[0].dtype;
    if (!qn_onnx_info_has(n, in, 0) || !qn_onnx_info_has(n, in, 1))
        return QN_OK;
    QN_TRY(gemm_fit(n, in[0].dims, in[0].rank, in[1].dims, in[1].rank, mnk, err));
    qn_info_set(out, in[0].dtype, mnk, 2);
    return QN_OK;
}

#define SCALE_OF(X, Y)                                                                     \
    for (uint64_t i = 0; i < m; i++)                                                       \
        for (uint64_t j = 0; j < w; j++) {                                                 \
            X *y = (X *)out[0].data + i * w + j;                                           \
            *y = (X)((Y)*y * (Y)alpha);                                                    \
            if (c)                                                                         \
                *y = (X)((Y)*y + (Y)beta * (Y)((const X *)c->data)[i * step_m + j * step_n]); \
        }

qn_code qn_onnx_gemm(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    int64_t mnk[3];
    char text[128];
    QN_TRY(gemm_fit(n, in[0].dims, in[0].rank, in[1].dims, in[1].rank, mnk, err));
    const qn_array *c = qn_onnx_has(n, in, 2) ? &in[2] : NULL;
    const qn_dtype t = (qn_dtype)in[0].dtype;
    if (in[1].dtype != t || (c && c->dtype != t) || (t != QN_F32 && t != QN_F64 && t != QN_I32 && t != QN_I64))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "Gemm's operands have dtypes that do not fit: the first is %s",
                       qn_array_text(&in[0], text));
    const uint64_t m = (uint64_t)mnk[0], w = (uint64_t)mnk[1], k = (uint64_t)mnk[2];
    uint64_t step_m = 0, step_n = 0;
    if (c) {
        const int64_t dm = c->rank == 2 ? c->dims[0] : 1, dn = c->rank ? c->dims[c->rank - 1] : 1;
        if (c->rank > 2 || (dm != 1 && dm != mnk[0]) || (dn != 1 && dn != mnk[1]))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "C is %s; it must broadcast to (%" PRId64 ", %" PRId64 ")", qn_array_text(c, text),
                           mnk[0], mnk[1]);
        step_n = dn > 1;
        step_m = dm > 1 ? (uint64_t)dn : 0;
    }
    QN_TRY(qn_exec_new(x, &out[0], t, mnk, 2, err));
    if (!out[0].n)
        return QN_OK;
    qn_array a;
    qn_array_share(&in[0], &a);
    if (qn_node_int(n, "transA", 0)) {
        const unsigned e = qn_dtype_bits(t) / 8;
        qn_array_release(&a);
        QN_TRY(qn_exec_new(x, &a, t, (const int64_t[]){mnk[0], mnk[2]}, 2, err));
        for (uint64_t i = 0; i < m; i++)
            for (uint64_t l = 0; l < k; l++)
                memcpy((uint8_t *)a.data + (i * k + l) * e, (const uint8_t *)in[0].data + (l * m + i) * e, e);
    }
    qn_code rc = QN_OK;
    if (qn_exec_listens(x) && t == QN_F32 && k)
        rc = qn_exec_input(x, n->in[1], 0, a.data, m, k, k, err);
    if (rc == QN_OK)
        rc = qn_onnx_product_of(x, t, qn_node_int(n, "transB", 0) != 0, m, w, k, a.data, in[1].data, out[0].data, err);
    qn_array_release(&a);
    QN_TRY(rc);
    const double alpha = qn_node_float(n, "alpha", 1), beta = qn_node_float(n, "beta", 1);
    if (alpha == 1 && !c)
        return QN_OK;
    switch (t) {
    case QN_F32: SCALE_OF(float, float) break;
    case QN_F64: SCALE_OF(double, double) break;
    case QN_I32: SCALE_OF(int32_t, double) break;
    default: SCALE_OF(int64_t, double) break;
    }
    return QN_OK;
}
