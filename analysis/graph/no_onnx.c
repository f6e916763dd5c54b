/* no_onnx.c: in place of the builder for ONNX until it is here. */
#include "analysis/graph/build.h"
#include "base/err.h"

qn_code qn_graph_of_onnx(const qn_env *env, qn_source *s, qn_graph **out, qn_err *err)
{
    (void)env;
    *out = NULL;
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s: graphs of ONNX files are not built yet", s->ops->format);
}
