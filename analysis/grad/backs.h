/* backs.h: derivatives that backward_tab.c puts together; signature: qn_backward_fn in analysis/grad/grad.h. */
#ifndef QN_ANALYSIS_GRAD_BACKS_H
#define QN_ANALYSIS_GRAD_BACKS_H

#include "analysis/grad/grad_help.h"

/* grad_onnx_binary.c */
QN_BACKWARD(add)
/* grad_onnx_matmul.c */
QN_BACKWARD(matmul)
/* grad_onnx_unary.c */
QN_BACKWARD(relu)

#endif
