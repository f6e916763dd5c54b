/* ops_onnx.h: shape rules and forward passes that op_onnx_tab.c puts together; signatures: qn_op in analysis/graph/op.h. */
#ifndef QN_ANALYSIS_EXEC_OPS_ONNX_H
#define QN_ANALYSIS_EXEC_OPS_ONNX_H

#include "analysis/exec/exec.h"

#endif
