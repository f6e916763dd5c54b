/* onnx.h: an ONNX model as a source: one file, or the model and the data files that it names. */
#ifndef QN_FORMATS_ONNX_ONNX_H
#define QN_FORMATS_ONNX_ONNX_H

#include "formats/onnx/model.h"
#include "formats/registry.h"

extern const qn_format qn_format_onnx;

/* The structure behind a source, which owns it; NULL when it is of another format. */
const qn_onnx_model *qn_onnx_source_model(const qn_source *s);
/* Which of the source's files is the model: the others hold data. Of an ONNX source only. */
uint32_t qn_onnx_source_file(const qn_source *s);
/* The same of any source that holds such files (a .quern): the source's own structure, or read into the arena. QN_E_INPUT when no file of it
 * is named .onnx. */
qn_code qn_onnx_model_of(qn_source *s, qn_arena *arena, const qn_onnx_model **model, uint32_t *file, qn_err *err) QN_MUST_CHECK;

#endif
