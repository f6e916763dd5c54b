/* emit_onnx.c: a cut ONNX model. */
#include "base/err.h"
#include "compress/prune/emit.h"

qn_code qn_emit_onnx(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_overlay *w, const char *path, const qn_emit_options *o,
                     qn_err *err)
{
    (void)env, (void)g, (void)c, (void)w, (void)path, (void)o;
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "ONNX models are not written yet");
}
