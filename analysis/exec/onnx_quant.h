/* onnx_quant.h: what operators on quantized integers share. */
#ifndef QN_ANALYSIS_EXEC_ONNX_QUANT_H
#define QN_ANALYSIS_EXEC_ONNX_QUANT_H

#include "analysis/exec/onnx_help.h"

/* t[i] = `scaled` rounded (halves to even) + zero, held in the range of t's dtype (8- and 16-bit integers). */
void qn_onnx_put_quantized(const qn_array *t, uint64_t i, double scaled, double zero);

#endif
