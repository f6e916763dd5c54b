/* ops_lm.h: shape rules and forward passes that op_lm_tab.c puts together; signatures: qn_op in analysis/graph/op.h. */
#ifndef QN_ANALYSIS_EXEC_OPS_LM_H
#define QN_ANALYSIS_EXEC_OPS_LM_H

#include "analysis/exec/exec.h"

#define QN_OP_SHAPE(name)   qn_code name(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err) QN_MUST_CHECK
#define QN_OP_FORWARD(name) qn_code name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err) QN_MUST_CHECK

QN_OP_SHAPE(qn_linear_shape);
QN_OP_FORWARD(qn_linear_forward);
QN_OP_SHAPE(qn_embed_shape);
QN_OP_FORWARD(qn_embed_forward);

#endif
