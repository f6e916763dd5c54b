/* grad_help.h: what derivatives of operators share: loops in parallel, products with either side transposed, sums over what was broadcast.
 * Every sum has one order, given by shapes alone. */
#ifndef QN_ANALYSIS_GRAD_GRAD_HELP_H
#define QN_ANALYSIS_GRAD_GRAD_HELP_H

#include "analysis/exec/onnx_kit.h"
#include "analysis/grad/grad.h"
#include "base/err.h"

#define QN_BACKWARD(name)                                                                                                                \
    qn_code qn_back_##name(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, \
                           qn_array *d_in, qn_err *err) QN_MUST_CHECK;

/* out[i] = a[i] + b[i]; out may be one of them. */
qn_code qn_grad_add(qn_exec *x, const float *a, const float *b, float *out, uint64_t n, qn_err *err) QN_MUST_CHECK;

/* Calls fn for pieces [from, to) of [0, n), in parallel; `work`: elementary operations of an element. Pieces are the same for every thread
 * count. */
typedef void (*qn_each_fn)(void *ctx, uint64_t from, uint64_t to);
qn_code qn_grad_each(qn_exec *x, uint64_t n, uint64_t work, qn_each_fn fn, void *ctx, qn_err *err) QN_MUST_CHECK;

/* Room of t's shape, f32; zeros when `zero`. */
qn_code qn_grad_like(qn_exec *x, const qn_array *t, bool zero, qn_array *out, qn_err *err) QN_MUST_CHECK;

/* C (m, n) = alpha · A′ · B′ + beta · C, f32, row-major: A is (k, m) when a_t, else (m, k); B is (n, k) when b_t, else (k, n). In tiles whose sizes
 * follow from the shape. */
qn_code qn_grad_gemm(qn_exec *x, bool a_t, bool b_t, uint64_t m, uint64_t n, uint64_t k, float alpha, const float *a, uint64_t lda, const float *b,
                     uint64_t ldb, float beta, float *c, uint64_t ldc, qn_err *err) QN_MUST_CHECK;

/* *out has the shape of `like`, which broadcasts to d's: the sum of d over the axes along which `like` was repeated. `by`: NULL, or as
 * many numbers as d: the sum of d · by. Sums are f64. Without anything to sum or to multiply *out shares d. */
qn_code qn_grad_reduce(qn_exec *x, const qn_array *d, const float *by, const qn_array *like, qn_array *out, qn_err *err) QN_MUST_CHECK;

/* Σ a, Σ a · b over n numbers, f64, eight interleaved sums: in one order. */
double qn_grad_sum(const float *a, uint64_t n);
double qn_grad_dot(const float *a, const float *b, uint64_t n);

#endif
