/* onnx_random.c: operators that draw random numbers: refused, since nothing could be compared with what they give. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"

qn_code qn_onnx_random(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)x;
    (void)in;
    (void)out;
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s draws random numbers: its output is no function of the model's input", n->type);
}
