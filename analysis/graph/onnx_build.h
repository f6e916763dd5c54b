/* onnx_build.h: what the parts of the ONNX builder share (build_onnx.c, build_onnx_value.c, build_onnx_attr.c,
 * build_onnx_order.c, build_onnx_blocks.c). */
#ifndef QN_ANALYSIS_GRAPH_ONNX_BUILD_H
#define QN_ANALYSIS_GRAPH_ONNX_BUILD_H

#include "analysis/graph/op.h"
#include "formats/onnx/onnx.h"

enum {
    QN_ONNX_INLINED_MAX = 1 << 17,  /* nodes of functions in place of their calls                      */
    QN_ONNX_PREFIX_BYTES = 256,     /* of names of calls before the names of what is in them           */
    QN_ONNX_CALLS_MAX = 32,         /* functions within functions                                      */
    QN_ONNX_KNOWN_ELEMS = 1024,     /* integers that shape inference gets to see; floats: 16           */
    QN_ONNX_ATTR_BYTES = 16 << 20   /* of a tensor in an attribute                                     */
};

typedef struct qn_onnx_build {
    const qn_env *env;
    qn_source *source;
    const qn_onnx_model *model;
    uint32_t file;                      /* of the model in the source    */
    const qn_onnx_weight **weights;     /* sorted by the tensor's address */
    uint64_t n_inlined, n_calls;
} qn_onnx_build;

/* A function whose body stands in place of a call. */
typedef struct qn_onnx_call {
    const struct qn_onnx_call *up;
    const qn_onnx_function *fn;
    const qn_onnx_node *node;
} qn_onnx_call;

/* One name of a scope. */
typedef struct qn_onnx_entry {
    const char *name;   /* interned */
    uint32_t value;     /* QN_NO_VALUE until it is there; of an optional input that is left out: for ever */
    uint32_t producer;  /* node of the file's list, or QN_NO_NODE */
} qn_onnx_entry;

/* Names as the file has them, of one graph or one function's body, and the graph that its nodes go to. */
typedef struct qn_onnx_scope {
    struct qn_onnx_scope *up;  /* of a subgraph: where names come from that are not its own; NULL: none */
    qn_graph *graph;
    const char *prefix;        /* "" or "call/" */
    const qn_onnx_call *call;  /* whose attributes `ref` means, or NULL */
    qn_onnx_entry *entries;
    uint32_t n_entries, cap_entries;
    qn_names names;
    unsigned depth;
} qn_onnx_scope;

/* build_onnx_value.c */
/* An initializer or the value of a Constant; `name` when the source does not list it. */
qn_code qn_onnx_build_tensor(qn_onnx_build *b, qn_graph *g, const qn_onnx_tensor *t, const char *name, uint32_t *value,
                             qn_err *err) QN_MUST_CHECK;
/* The content of a tensor that is small: into the graph's arena. *there = false for strings and complex numbers. */
qn_code qn_onnx_build_content(qn_onnx_build *b, qn_graph *g, const qn_onnx_tensor *t, qn_array *a, bool *there,
                              qn_err *err) QN_MUST_CHECK;
/* Name that no value of the graph has: this one, or with a number behind it. In the graph's arena. */
qn_code qn_onnx_build_name(qn_graph *g, const char *prefix, const char *name, const char **out, qn_err *err) QN_MUST_CHECK;
/* dtype and dims of a tensor type; dims in the arena, NULL when the rank is unknown. False: no type that runs. */
bool qn_onnx_build_type(qn_graph *g, const qn_onnx_type *t, uint8_t *dtype, const int64_t **dims, unsigned *rank,
                        const char *const **symbols);

/* build_onnx_order.c */
qn_code qn_onnx_scope_init(qn_onnx_build *b, qn_onnx_scope *s, uint64_t n_names, qn_err *err) QN_MUST_CHECK;
void qn_onnx_scope_release(qn_onnx_build *b, qn_onnx_scope *s);
/* QN_E_INPUT when the scope has it already. */
qn_code qn_onnx_scope_add(qn_onnx_scope *s, const char *name, uint32_t value, uint32_t producer, qn_err *err) QN_MUST_CHECK;
qn_onnx_entry *qn_onnx_scope_find(const qn_onnx_scope *s, const char *name);
/* An order in which the nodes can run: their own when it is one. QN_E_INPUT names a node on a cycle. */
qn_code qn_onnx_order(qn_onnx_build *b, const qn_onnx_scope *s, const qn_onnx_node *nodes, uint32_t n, uint32_t *order,
                      qn_err *err) QN_MUST_CHECK;

/* build_onnx_blocks.c: cuts the graph, whose nodes are all there, into blocks. */
qn_code qn_onnx_cut_blocks(qn_onnx_build *b, qn_graph *g, qn_err *err) QN_MUST_CHECK;

/* build_onnx_attr.c: attributes in the graph's arena, but for graphs, which build_onnx.c makes. */
/* The attribute itself, or what `ref` means inside a function; NULL: not given. */
const qn_onnx_attr *qn_onnx_attr_resolve(const qn_onnx_attr *a, const qn_onnx_call *call);
qn_code qn_onnx_build_attr(qn_onnx_build *b, qn_graph *g, const qn_onnx_node *d, const char *name, const qn_onnx_attr *a, qn_attr *out,
                           bool *there, qn_err *err) QN_MUST_CHECK;
/* Type that ONNX gives an attribute of that name, of operators that are known here; −1: none that we know of. */
int qn_onnx_attr_type_of(const char *op_type, const char *attr);

#endif
