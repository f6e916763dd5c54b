/* grad_onnx_binary.c: operators of two operands with broadcasting. */
#include "analysis/grad/backs.h"

qn_code qn_back_add(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                    qn_array *d_in, qn_err *err)
{
    (void)n;
    (void)out;
    for (unsigned i = 0; i < 2; i++)
        if (want[i])
            QN_TRY(qn_grad_reduce(x, &d_out[0], NULL, &in[i], &d_in[i], err));
    return QN_OK;
}
