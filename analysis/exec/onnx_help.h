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

/* t holds f32 (`what` names it in the message); of rank least … most. */
qn_code qn_onnx_need_f32(const qn_array *t, const char *what, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_need_rank(const qn_array *t, const char *what, unsigned least, unsigned most, qn_err *err) QN_MUST_CHECK;
/* t has n elements and is f32: a vector of parameters. */
qn_code qn_onnx_need_vector(const qn_array *t, const char *what, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* A short list of integers, at most `most`. */
qn_code qn_onnx_int_list(const qn_array *t, const char *what, int64_t *out, unsigned most, unsigned *n, qn_err *err) QN_MUST_CHECK;
/* An attribute of exactly n integers, or *given = false. */
qn_code qn_onnx_attr_ints(const qn_node *n, const char *name, unsigned count, int64_t *out, bool *given, qn_err *err) QN_MUST_CHECK;
/* Axes that a Reduce… takes away: attribute up to version 12 (ReduceSum) or 17 (the others), then an input. in[0]: rank; in[1]: content. */
qn_code qn_onnx_reduce_axes(const qn_node *n, const qn_info *in, uint32_t *mask, bool *known, qn_err *err) QN_MUST_CHECK;
/* For shape rules. */
void qn_info_set(qn_info *o, unsigned dtype, const int64_t *dims, unsigned rank);
#endif
