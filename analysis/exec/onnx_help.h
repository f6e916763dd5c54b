/* onnx_help.h: small checks and readings that shape rules and forward passes of ONNX operators share. */
#ifndef QN_ANALYSIS_EXEC_ONNX_HELP_H
#define QN_ANALYSIS_EXEC_ONNX_HELP_H

#include "analysis/exec/ops_onnx.h"
#include "base/err.h"

/* Is input or output i given? */
static inline bool qn_onnx_has(const qn_node *n, const qn_array *in, unsigned i)
{
    return i < n->n_in && in[i].dtype != QN_BYTES;
}

static inline bool qn_onnx_wants(const qn_node *n, unsigned i)
{
    return i < n->n_out && n->out[i] != QN_NO_VALUE;
}

static inline bool qn_onnx_info_has(const qn_node *n, const qn_info *in, unsigned i)
{
    return i < n->n_in && n->in[i] != QN_NO_VALUE && in[i].rank != QN_RANK_UNKNOWN;
}

/* An axis counted from either end → from the front. QN_E_INPUT when it lies outside. */
qn_code qn_onnx_axis(int64_t axis, unsigned rank, unsigned *out, qn_err *err) QN_MUST_CHECK;
/* t holds f32 (`what` names it in the message); of rank least … most. */
qn_code qn_onnx_need_f32(const qn_array *t, const char *what, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_need_rank(const qn_array *t, const char *what, unsigned least, unsigned most, qn_err *err) QN_MUST_CHECK;
/* t has n elements and is f32: a vector of parameters. */
qn_code qn_onnx_need_vector(const qn_array *t, const char *what, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* Element i of a numeric array. Of integers, values past 2^53 are rounded by the first. */
double qn_onnx_f64_at(const qn_array *t, uint64_t i);
int64_t qn_onnx_i64_at(const qn_array *t, uint64_t i);
/* A short list of integers, at most `most`. */
qn_code qn_onnx_int_list(const qn_array *t, const char *what, int64_t *out, unsigned most, unsigned *n, qn_err *err) QN_MUST_CHECK;
/* An attribute of exactly n integers, or *given = false. */
qn_code qn_onnx_attr_ints(const qn_node *n, const char *name, unsigned count, int64_t *out, bool *given, qn_err *err) QN_MUST_CHECK;
/* The product of dims [from, to). */
uint64_t qn_onnx_product(const int64_t *dims, unsigned from, unsigned to);

/* For shape rules. */
void qn_info_set(qn_info *o, unsigned dtype, const int64_t *dims, unsigned rank);
static inline void qn_info_like(qn_info *o, const qn_info *i)
{
    qn_info_set(o, i->dtype, i->dims, i->rank);
}

#endif
