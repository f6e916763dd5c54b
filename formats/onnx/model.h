/* model.h: an ONNX file as a structure: what later becomes the graph, and where the weights lie.
 *
 * Everything is in one arena; strings are interned (equal strings have equal pointers); payloads of tensors stay in the file
 * and are kept as positions. Lists are arrays in the order of the file. Nodes of every operator are kept, known or not, with
 * all attributes; graphs in attributes are kept as graphs.
 *
 * Stricter than protobuf, which would merge: a submessage that may stand once must not stand twice. A scalar or a string
 * that stands twice has its last value, as everywhere. docs/onnx.md says what is read and what is refused. */
#ifndef QN_FORMATS_ONNX_MODEL_H
#define QN_FORMATS_ONNX_MODEL_H

#include "base/alloc.h"
#include "base/names.h"
#include "base/shape.h"
#include "formats/wire/wire.h"

enum {
    QN_ONNX_NAME_BYTES_MAX = 4096, /* of every name, key, operator, domain: UTF-8 without NUL           */
    QN_ONNX_TEXT_BYTES_MAX = 4096, /* strings in attributes: longer ones are kept as a position only     */
    QN_ONNX_MEMORY_FACTOR = 32,    /* the structure takes at most this × file size + QN_ONNX_MEMORY_BASE */
    QN_ONNX_MEMORY_BASE = 1 << 20,
    QN_ONNX_MARK_ELEMS = 1 << 16   /* every so many elements of a coded run have a known place           */
};

typedef struct qn_onnx_span {
    uint64_t off, n_bytes;
} qn_onnx_span;

/* TensorProto.data_type */
typedef enum qn_onnx_dtype {
    QN_ONNX_UNDEFINED, QN_ONNX_FLOAT, QN_ONNX_UINT8, QN_ONNX_INT8, QN_ONNX_UINT16, QN_ONNX_INT16, QN_ONNX_INT32, QN_ONNX_INT64,
    QN_ONNX_STRING, QN_ONNX_BOOL, QN_ONNX_FLOAT16, QN_ONNX_DOUBLE, QN_ONNX_UINT32, QN_ONNX_UINT64, QN_ONNX_COMPLEX64,
    QN_ONNX_COMPLEX128, QN_ONNX_BFLOAT16, QN_ONNX_FLOAT8E4M3FN, QN_ONNX_FLOAT8E4M3FNUZ, QN_ONNX_FLOAT8E5M2,
    QN_ONNX_FLOAT8E5M2FNUZ, QN_ONNX_UINT4, QN_ONNX_INT4, QN_ONNX_FLOAT4E2M1, QN_ONNX_FLOAT8E8M0, QN_ONNX_UINT2, QN_ONNX_INT2,
    QN_ONNX_DTYPE_COUNT
} qn_onnx_dtype;

typedef struct qn_onnx_dtype_info {
    const char *name;
    qn_dtype dtype;      /* ours; U8 for what we only have as the bytes that hold it; BYTES: opaque       */
    uint8_t bits;        /* of an element; 0 for strings                                                  */
    uint8_t field;       /* of TensorProto: where elements stand when they are not raw_data               */
    bool packed;         /* several elements in a byte that our dtype does not have: listed as U8 (bytes) */
    int64_t least, most; /* of a value in that field                                                      */
} qn_onnx_dtype_info;
/* NULL for a number that is no data_type (0 is none). */
const qn_onnx_dtype_info *qn_onnx_dtype_get(uint64_t data_type);

/* A stretch of one tensor's repeated field: a packed run, or single values one behind the other with a tag each. */
typedef struct qn_onnx_run {
    qn_onnx_span span;
    uint64_t first, n;     /* elements of the field before it; in it                                  */
    const uint64_t *marks; /* places of its elements MARK_ELEMS, 2 × MARK_ELEMS, … (tags when unpacked) */
    bool packed;
} qn_onnx_run;

typedef enum qn_onnx_data {
    QN_ONNX_DATA_NONE,    /* no element, and none is needed              */
    QN_ONNX_DATA_PLAIN,   /* the bytes of the tensor lie in `span`       */
    QN_ONNX_DATA_CODED,   /* they are made from the values in `runs`     */
    QN_ONNX_DATA_EXTERNAL,
    QN_ONNX_DATA_STRINGS  /* of dtype STRING: left alone                 */
} qn_onnx_data;

typedef struct qn_onnx_tensor {
    const char *name;  /* "" when it has none */
    const uint64_t *dims;
    uint64_t n_elems, n_bytes; /* checked: what dims and data_type need is what the data have */
    uint64_t off;      /* of the message      */
    qn_onnx_span span; /* PLAIN: in this file; EXTERNAL: in the file `location`, n_bytes UINT64_MAX when it is not given */
    const qn_onnx_run *runs;
    const char *location;
    uint32_t n_runs;
    uint8_t rank, data_type, data;
} qn_onnx_tensor;

typedef struct qn_onnx_dim {
    const char *param; /* a symbol's name, or NULL           */
    int64_t value;     /* −1 when unknown or symbolic        */
} qn_onnx_dim;

typedef enum qn_onnx_kind {
    QN_ONNX_KIND_NONE, QN_ONNX_KIND_TENSOR, QN_ONNX_KIND_SEQUENCE, QN_ONNX_KIND_MAP, QN_ONNX_KIND_SPARSE,
    QN_ONNX_KIND_OPTIONAL, QN_ONNX_KIND_OPAQUE
} qn_onnx_kind;

typedef struct qn_onnx_type {
    const struct qn_onnx_type *inner; /* element of a sequence or an optional, value of a map */
    const qn_onnx_dim *dims;
    uint32_t elem_type;               /* of a tensor; key of a map; may be no data_type we know */
    uint8_t kind, rank;
    bool has_shape;                   /* false: even the rank is unknown */
} qn_onnx_type;

typedef struct qn_onnx_value {
    const char *name;
    qn_onnx_type type;
} qn_onnx_value;

/* AttributeProto.type; the last four are kept as positions. */
typedef enum qn_onnx_attr_type {
    QN_ONNX_ATTR_NONE, QN_ONNX_ATTR_FLOAT, QN_ONNX_ATTR_INT, QN_ONNX_ATTR_STRING, QN_ONNX_ATTR_TENSOR, QN_ONNX_ATTR_GRAPH,
    QN_ONNX_ATTR_FLOATS, QN_ONNX_ATTR_INTS, QN_ONNX_ATTR_STRINGS, QN_ONNX_ATTR_TENSORS, QN_ONNX_ATTR_GRAPHS,
    QN_ONNX_ATTR_SPARSE_TENSOR, QN_ONNX_ATTR_SPARSE_TENSORS, QN_ONNX_ATTR_TYPE_PROTO, QN_ONNX_ATTR_TYPE_PROTOS,
    QN_ONNX_ATTR_COUNT
} qn_onnx_attr_type;

typedef struct qn_onnx_text {
    const char *p;     /* with a NUL behind it, and perhaps inside; NULL when longer than QN_ONNX_TEXT_BYTES_MAX */
    qn_onnx_span span;
} qn_onnx_text;

struct qn_onnx_graph;

typedef struct qn_onnx_attr {
    const char *name;
    const char *ref; /* attribute of the function that gives the value, or NULL */
    union {
        float f;
        int64_t i;
        const float *floats;
        const int64_t *ints;
        const qn_onnx_text *strings;         /* one for STRING */
        const qn_onnx_tensor *tensors;       /* one for TENSOR */
        const struct qn_onnx_graph *graphs;  /* one for GRAPH  */
        qn_onnx_span span;                   /* the whole attribute, for the last four types */
    } v;
    uint64_t n;   /* of the list; 1 for what is no list, 0 when the value is not there */
    uint8_t type; /* qn_onnx_attr_type */
} qn_onnx_attr;

typedef struct qn_onnx_node {
    const char *name, *op_type, *domain, *overload; /* "" when not given; domain "" is ai.onnx */
    const char *const *inputs, *const *outputs;     /* "" for an optional one that is left out */
    const qn_onnx_attr *attrs;
    uint64_t off;
    uint32_t n_inputs, n_outputs, n_attrs;
} qn_onnx_node;

typedef struct qn_onnx_graph {
    const char *name;
    const qn_onnx_node *nodes;
    const qn_onnx_tensor *initializers;
    const qn_onnx_value *inputs, *outputs, *values; /* values: value_info */
    uint64_t off;
    uint32_t n_nodes, n_initializers, n_inputs, n_outputs, n_values;
} qn_onnx_graph;

typedef struct qn_onnx_pair {
    const char *key, *value; /* an opset: domain, and the version in `version` */
    int64_t version;
} qn_onnx_pair;

typedef struct qn_onnx_function {
    const char *name, *domain, *overload;
    const char *const *inputs, *const *outputs, *const *attrs; /* attrs: names of those without a default */
    const qn_onnx_attr *defaults;
    const qn_onnx_pair *opsets;
    const qn_onnx_node *nodes;
    uint32_t n_inputs, n_outputs, n_attrs, n_defaults, n_opsets, n_nodes;
} qn_onnx_function;

/* A tensor that is a weight: an initializer, or the value of a Constant. */
typedef struct qn_onnx_weight {
    const char *name;             /* unique in the model: see docs/onnx.md */
    const qn_onnx_tensor *tensor;
    uint64_t scope;               /* which graph or function holds it      */
} qn_onnx_weight;

typedef struct qn_onnx_model {
    int64_t ir_version, model_version;
    const char *producer_name, *producer_version, *domain;
    const qn_onnx_pair *opsets, *props; /* props: metadata_props */
    const qn_onnx_function *functions;
    const qn_onnx_graph *graph;
    const qn_onnx_weight *weights; /* in the order of a walk: a graph's initializers, then its nodes and what is in them */
    uint64_t n_weights;
    uint32_t n_opsets, n_props, n_functions;
    bool has_training;             /* training_info is there: skipped */
} qn_onnx_model;

/* Reads a model of n_bytes into the arena; `alloc` is for what is freed before it returns. Errors have offset and, where one is
 * meant, the tensor or the node in place of it. */
qn_code qn_onnx_read(qn_onnx_model *m, qn_arena *arena, const qn_alloc *alloc, qn_wire_read_fn read, void *ctx,
                     uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;

/* n bytes of a CODED tensor from byte off, made from its values; read and ctx as for qn_onnx_read. Thread-safe. */
qn_code qn_onnx_decode(const qn_onnx_tensor *t, qn_wire_read_fn read, void *ctx, uint64_t n_file_bytes, uint64_t off,
                       uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;

/* Opset version that a domain is imported with ("" and "ai.onnx" are one), 0 when it is not. */
int64_t qn_onnx_opset(const qn_onnx_model *m, const char *domain);

#endif
