/* ops_lm.h: shape rules and forward passes that op_lm_tab.c puts together; signatures: qn_op in analysis/graph/op.h. */
#ifndef QN_ANALYSIS_EXEC_OPS_LM_H
#define QN_ANALYSIS_EXEC_OPS_LM_H

#include "analysis/exec/exec.h"

#endif
