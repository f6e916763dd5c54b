/* rewrite.h: an ONNX file again with some tensors, nodes and shapes changed, some of them new. Everything else is carried over byte for byte, also
 * fields that we do not know; value_info is left out when asked (its shapes would be stale). */
#ifndef QN_FORMATS_ONNX_REWRITE_H
#define QN_FORMATS_ONNX_REWRITE_H

#include "formats/onnx/onnx.h"
#include "formats/safetensors/write.h" /* qn_out_read_fn */

/* A tensor of the model with other shape or content; its data_type stays. */
typedef struct qn_onnx_new_tensor {
    const qn_onnx_tensor *tensor;
    const uint64_t *dims;
    uint64_t id;             /* content: read(ctx, id, off, n, dst), in the data_type's own bytes */
    uint8_t rank;
} qn_onnx_new_tensor;

/* A tensor that is added to the main graph's initializers. */
typedef struct qn_onnx_add_tensor {
    const char *name;
    const uint64_t *dims;
    uint64_t id;
    uint8_t rank, data_type; /* qn_onnx_dtype */
} qn_onnx_add_tensor;

typedef struct qn_onnx_new_attr {
    const char *name;
    const int64_t *ints;     /* INTS; or INT when n is QN_ONNX_ONE_INT: ints[0] */
    float f;                 /* FLOAT, when n is QN_ONNX_ONE_FLOAT              */
    uint32_t n;
} qn_onnx_new_attr;
#define QN_ONNX_ONE_INT UINT32_MAX
#define QN_ONNX_ONE_FLOAT (UINT32_MAX - 1)

/* A node of the model (of the main graph) as it shall be. */
typedef struct qn_onnx_new_node {
    const qn_onnx_node *node;
    bool remove;
    const char *const *inputs, *const *outputs; /* NULL: as they are */
    uint32_t n_inputs, n_outputs;
    const char *op_type, *domain;               /* NULL: as they are */
    const qn_onnx_new_attr *attrs;              /* set or replaced   */
    uint32_t n_attrs;
    const char *const *drop_attrs;              /* names             */
    uint32_t n_drop_attrs;
} qn_onnx_new_node;

/* A node that is added to the main graph. */
typedef struct qn_onnx_add_node {
    const qn_onnx_node *behind;                 /* it stands directly behind this one of the main graph, also when that goes; several do in
                                                 * their order. NULL: in front of all nodes */
    const char *name, *op_type, *domain;        /* "": none          */
    const char *const *inputs, *const *outputs;
    const qn_onnx_new_attr *attrs;
    uint32_t n_inputs, n_outputs, n_attrs;
} qn_onnx_add_node;

typedef struct qn_onnx_edits {
    const qn_onnx_model *model;                 /* that the pointers below lead into; NULL: the source's own     */
    uint32_t file;                              /* with a model: which of the source's files it was read from    */
    const qn_onnx_new_tensor *tensors;
    const qn_onnx_add_tensor *added;
    const qn_onnx_new_node *nodes;
    const qn_onnx_add_node *added_nodes;
    const char *const *drop_initializers;       /* names, of the main graph */
    const qn_onnx_pair *props;                  /* set or replaced in metadata_props; values may be long */
    const qn_onnx_pair *opsets;                 /* the same in opset_import: domain and version          */
    uint32_t n_tensors, n_added, n_nodes, n_added_nodes, n_drop_initializers, n_props, n_opsets;
    int64_t ir_version;                         /* 0: as it is              */
    bool drop_value_info;
    qn_out_read_fn read;
    void *read_ctx;
} qn_onnx_edits;

typedef struct qn_onnx_rewrite_options {
    uint64_t external_bytes; /* tensors go to PATH.data when the model would be larger than this; 0: 1 GB */
    bool overwrite;
} qn_onnx_rewrite_options;

/* Writes s (an ONNX source, or with e->model one that holds such files: a .quern) to path: under temporary names, read back, and read by our own
 * reader before it has its name; PATH.data first, when there is one. Data that s has in other files stand in the new model, or in PATH.data.
 * Graph inputs that stand for changed initializers get their new shapes; where each initializer must have one (IR version below 4) added
 * ones get inputs of their own. value_info of what removed nodes give is left out always.
 * QN_E_BUG: an edit of what is not in the model. QN_E_UNSUPPORTED: more than protobuf's 2 GiB; strings with new content. */
qn_code qn_onnx_rewrite(const qn_env *env, qn_source *s, const qn_onnx_edits *e, const char *path, const qn_onnx_rewrite_options *o,
                        qn_err *err) QN_MUST_CHECK;

#endif
