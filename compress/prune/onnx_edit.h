/* onnx_edit.h: changes to an ONNX model as they are found, one after another, and what qn_onnx_rewrite wants of them at the end. What prepare.c,
 * emit_onnx.c and the exports to ONNX share. Names and shapes are copied; contents are taken over, or made when they are written. */
#ifndef QN_COMPRESS_PRUNE_ONNX_EDIT_H
#define QN_COMPRESS_PRUNE_ONNX_EDIT_H

#include "analysis/graph/graph.h"
#include "formats/onnx/rewrite.h"

/* Makes the content of tensor `id`: n_bytes of memory from env's allocator, taken over. */
typedef qn_code (*qn_onnx_make_fn)(void *ctx, uint64_t id, void **data, uint64_t *n_bytes, qn_err *err);

/* A node of the main graph as it will be; in the arena. */
typedef struct qn_onnx_node_edit {
    const char **in, **out; /* NULL: as they are */
    const char *op_type;
    qn_onnx_new_attr *attrs;
    const char **drops;
    uint32_t n_in, n_out, n_attrs, n_drops;
    bool changed, removed;
} qn_onnx_node_edit;

typedef struct qn_onnx_edit_content {
    void *data; /* owned; NULL: made when it is written */
    uint64_t id;
} qn_onnx_edit_content;

typedef struct qn_onnx_edit {
    const qn_env *env;
    qn_source *source;
    const qn_onnx_model *model;
    uint32_t file;                    /* of the source: the model     */
    qn_arena arena;
    qn_onnx_node_edit *nodes;         /* per node of the main graph   */
    qn_onnx_new_tensor *tensors;
    qn_onnx_add_tensor *added;
    qn_onnx_add_node *added_nodes;
    qn_onnx_pair opsets[2];           /* versions that change         */
    int64_t ir_version;               /* 0: stays                     */
    uint64_t external_bytes;          /* of qn_onnx_rewrite_options   */
    const char **dropped;             /* initializers                 */
    qn_onnx_edit_content *contents;
    const char **seen, **pinned;      /* all names of the model; those that nobody may change. Sorted */
    uint64_t n_tensors, n_added, n_added_nodes, n_dropped, n_contents, n_seen, n_pinned;
    uint64_t cap_tensors, cap_added, cap_added_nodes, cap_dropped, cap_contents, cap_seen, cap_pinned;
    uint32_t n_opsets;
    qn_onnx_make_fn make;             /* the caller's, before writing */
    void *make_ctx;
    void *made;                       /* content that is being written */
    uint64_t made_content, made_bytes;
} qn_onnx_edit;

/* Of an ONNX file, or of a .quern that holds one; QN_E_UNSUPPORTED of others. Release in any case. */
qn_code qn_onnx_edit_init(qn_onnx_edit *e, const qn_env *env, qn_source *s, qn_err *err) QN_MUST_CHECK;
void qn_onnx_edit_release(qn_onnx_edit *e);

/* --- nodes: index in the main graph of the file --- */

/* The one that a graph's node was made of, by its origin; QN_NO_NODE: none. */
uint32_t qn_onnx_edit_find(const qn_onnx_edit *e, uint64_t origin);
qn_code qn_onnx_edit_remove(qn_onnx_edit *e, uint32_t node, qn_err *err) QN_MUST_CHECK;
/* Input k, also behind the last one (those between are left out). */
qn_code qn_onnx_edit_input(qn_onnx_edit *e, uint32_t node, uint32_t k, const char *name, qn_err *err) QN_MUST_CHECK;
/* Only the first n inputs stay. */
qn_code qn_onnx_edit_n_inputs(qn_onnx_edit *e, uint32_t node, uint32_t n, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_edit_output(qn_onnx_edit *e, uint32_t node, uint32_t k, const char *name, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_edit_type(qn_onnx_edit *e, uint32_t node, const char *op_type, qn_err *err) QN_MUST_CHECK;
/* n as in qn_onnx_new_attr: a list, or QN_ONNX_ONE_INT. */
qn_code qn_onnx_edit_attr(qn_onnx_edit *e, uint32_t node, const char *name, const int64_t *ints, uint32_t n, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_edit_attr_float(qn_onnx_edit *e, uint32_t node, const char *name, float f, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_edit_drop_attr(qn_onnx_edit *e, uint32_t node, const char *name, qn_err *err) QN_MUST_CHECK;
/* A node more, directly behind this one (QN_NO_NODE: in front of all). Strings and lists are copied. */
qn_code qn_onnx_edit_add_node(qn_onnx_edit *e, uint32_t behind, const qn_onnx_add_node *node, qn_err *err) QN_MUST_CHECK;
/* The version that the model imports a domain with. */
qn_code qn_onnx_edit_opset(qn_onnx_edit *e, const char *domain, int64_t version, qn_err *err) QN_MUST_CHECK;
/* As it will be. */
uint32_t qn_onnx_edit_count(const qn_onnx_edit *e, uint32_t node);
const char *qn_onnx_edit_name(const qn_onnx_edit *e, uint32_t node, uint32_t k);

/* --- tensors --- */

/* Of the main graph: an initializer, or the value of a Constant that gives this name. NULL: none. */
const qn_onnx_tensor *qn_onnx_edit_tensor_of(const qn_onnx_edit *e, const char *name);
/* data: taken over, of the data_type's bytes; NULL: made when it is written, by e->make with this id. */
qn_code qn_onnx_edit_tensor(qn_onnx_edit *e, const qn_onnx_tensor *t, const int64_t *dims, unsigned rank, void *data, uint64_t id,
                            qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_edit_add(qn_onnx_edit *e, const char *name, uint8_t data_type, const int64_t *dims, unsigned rank, void *data, uint64_t id,
                         qn_err *err) QN_MUST_CHECK;
/* An initializer goes, whoever reads it: something else gives its name then. */
qn_code qn_onnx_edit_drop(qn_onnx_edit *e, const char *initializer, qn_err *err) QN_MUST_CHECK;
/* A name that is nowhere in the model: `base`, or with a number. */
qn_code qn_onnx_edit_new_name(qn_onnx_edit *e, const char *base, const char **name, qn_err *err) QN_MUST_CHECK;
/* Is the name read in a graph in an attribute, by a call of a function, or an output of the model? Then it must go on meaning what it means. */
bool qn_onnx_edit_is_pinned(const qn_onnx_edit *e, const char *name);
/* Drops initializers and Constants that were read and are not any more. */
qn_code qn_onnx_edit_sweep(qn_onnx_edit *e, qn_err *err) QN_MUST_CHECK;
bool qn_onnx_edit_changes(const qn_onnx_edit *e);

qn_code qn_onnx_edit_write(qn_onnx_edit *e, const char *path, bool overwrite, bool drop_value_info, const qn_onnx_pair *props, uint32_t n_props,
                           qn_err *err) QN_MUST_CHECK;

#endif
