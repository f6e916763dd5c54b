/* op_onnx_tab.c: operators of ONNX, by group, in the order of the alphabet. Numbers: inputs least and most, outputs least and most. */
#include "analysis/exec/ops_onnx.h"

const qn_op qn_ops_onnx[] = {
    {.name = NULL},
};
