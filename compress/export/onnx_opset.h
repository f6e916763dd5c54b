/* onnx_opset.h: may a model say that its operators are of a later version of ONNX? */
#ifndef QN_COMPRESS_EXPORT_ONNX_OPSET_H
#define QN_COMPRESS_EXPORT_ONNX_OPSET_H

#include "analysis/graph/graph.h"
#include "formats/onnx/model.h"

#define QN_ONNX_OPSET_LEAST 7  /* of what the table is about: versions from here */
#define QN_ONNX_OPSET_MOST  21 /* to here                                        */

/* Would every node mean the same as of version `to` as it does as of `from`? False also when that is not known: operators and versions that are not
 * in the table, functions. */
bool qn_onnx_opset_is_safe(const qn_onnx_model *m, const qn_graph *g, int64_t from, int64_t to);

/* An operator whose nodes must not be taken from before a version to it or past it. Several rows of one name: several such versions. */
typedef struct qn_onnx_change {
    const char *op;
    uint8_t version;  /* 0: later versions only add to it          */
    const char *attr; /* only nodes with this attribute; NULL: all */
} qn_onnx_change;
extern const qn_onnx_change qn_onnx_changes[]; /* ended by a name of NULL */

#endif
