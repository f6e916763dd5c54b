/* build.h: builders of graphs, one for each origin. */
#ifndef QN_ANALYSIS_GRAPH_BUILD_H
#define QN_ANALYSIS_GRAPH_BUILD_H

#include "analysis/graph/graph.h"

/* The graph of an ONNX model: of an opened .onnx file, or of a .quern file that holds one. Sealed.
 *
 * Initializers and the values of Constant nodes are weights, by the names under which the source lists them; what is small is
 * also known to shape inference. The bodies of If, Loop and Scan are graphs in attributes; functions of the model are put in
 * place of their calls (names: call/inner), unless the operator is known here. An operator that is not known, and one with an
 * attribute that this graph has no type for, is opaque. Elements below a byte pass a node Unpack (quern).
 * QN_E_INPUT names the node or value: a cycle, an input that nothing gives, one name twice, an attribute of a wrong type. */
qn_code qn_graph_of_onnx(const qn_env *env, qn_source *s, qn_graph **out, qn_err *err) QN_MUST_CHECK;

#endif
