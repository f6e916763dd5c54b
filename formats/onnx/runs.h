/* runs.h: a tensor's values that stand one by one in a repeated field: in packed runs, singly, or both, as varints or as
 * fixed numbers. */
#ifndef QN_FORMATS_ONNX_RUNS_H
#define QN_FORMATS_ONNX_RUNS_H

#include "formats/onnx/parse.h"

/* Bytes of a value of this TensorProto field in the file: 4, 8, or 0 for varints. */
unsigned qn_onnx_field_width(unsigned field);
/* Finds the runs of field `number`, counts and checks their values against the dtype; *n_values: all of them. */
qn_code qn_onnx_read_runs(qn_onnx_parse *p, qn_wire_msg m, unsigned number, const qn_onnx_dtype_info *info,
                          qn_onnx_tensor *t, uint64_t *n_values, qn_err *err) QN_MUST_CHECK;

#endif
