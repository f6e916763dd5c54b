/* graph.h: a model as operators on named values.
 *
 * One form for every origin: an ONNX file, a config.json with its tensors, the metadata of a GGUF file. Nodes stand in an
 * order in which they can run. A node's operator is a row of one table (op.h); an operator that has no row is kept by name and
 * is *opaque*: the graph can be looked at, but not run through it.
 *
 * Language models are graphs over a *ragged batch*: the tokens of all sequences one behind the other, no padding.
 *     tokens : i64 (T)      ids
 *     starts : i64 (S + 1)  where each sequence begins in `tokens`; starts[0] = 0, starts[S] = T
 *     logits : f32 (T, vocabulary)
 * Operators that look along a sequence (attention, rope, scans, causal convolutions) take `starts` as an input.
 *
 * A graph is cut into *blocks* (embedding, each layer, head): runs of nodes that are worked on together, so that the weights
 * of one block are in memory at a time. Everything is owned by the graph's arena and read-only once sealed. */
#ifndef QN_ANALYSIS_GRAPH_GRAPH_H
#define QN_ANALYSIS_GRAPH_GRAPH_H

#include "base/names.h"
#include "analysis/exec/array.h"
#include "formats/source.h"

enum { QN_DIM_UNKNOWN = -1, QN_RANK_UNKNOWN = 255 };
#define QN_NO_VALUE UINT32_MAX
#define QN_NO_NODE  UINT32_MAX

struct qn_op;
struct qn_graph;

typedef enum qn_value_kind {
    QN_VALUE_INPUT,  /* fed by the caller                                    */
    QN_VALUE_WEIGHT, /* a tensor of the source                               */
    QN_VALUE_CONST,  /* held in the graph: small, made by a builder          */
    QN_VALUE_NODE,   /* output of a node                                     */
    QN_VALUE_OUTER   /* of a subgraph: a value of the graph around it        */
} qn_value_kind;

typedef struct qn_value {
    const char *name;    /* unique in its graph; a weight's is the tensor's name in the source */
    const int64_t *dims; /* as far as known; QN_DIM_UNKNOWN. NULL when the rank is unknown     */
    const char *const *symbols; /* names of unknown dimensions ("batch"), or NULL; entries may be NULL */
    qn_array data;      /* CONST; of others the content when it is small and known while the graph is built (data.data NULL: it
                         * is not), for shape inference: int64 elements of INT64_MIN are not known */
    uint64_t tensor;     /* WEIGHT: index in the source's tensors                              */
    uint32_t node;       /* NODE: producer, and which of its outputs                           */
    uint32_t outer;      /* OUTER: value of the graph around                                   */
    uint16_t output;
    uint8_t kind;        /* qn_value_kind                                                      */
    uint8_t dtype;       /* as the forward pass has it: F32 for every float weight; BYTES: unknown */
    uint8_t rank;        /* or QN_RANK_UNKNOWN                                                 */
} qn_value;

typedef enum qn_attr_type {
    QN_ATTR_INT, QN_ATTR_FLOAT, QN_ATTR_STRING, QN_ATTR_INTS, QN_ATTR_FLOATS, QN_ATTR_STRINGS, QN_ATTR_TENSOR, QN_ATTR_GRAPH
} qn_attr_type;

typedef struct qn_attr {
    const char *name;
    union {
        int64_t i;
        double f;
        const char *s;
        const int64_t *ints;
        const double *floats;
        const char *const *strings;
        const qn_array *tensor;
        const struct qn_graph *graph;
    } v;
    uint32_t n; /* of a list */
    uint8_t type;
} qn_attr;

typedef struct qn_node {
    const struct qn_op *op;   /* NULL: opaque                                            */
    const char *name;         /* unique enough to find it: "layers.3.self_attn.q_proj"   */
    const char *type, *domain; /* of the operator, also when it is opaque; domain "" is ai.onnx, "quern" our own */
    const uint32_t *in, *out; /* values; QN_NO_VALUE for an optional one that is left out */
    const qn_attr *attrs;
    uint16_t n_in, n_out, n_attrs;
    uint16_t version;         /* of the operator set; 0 for our own                      */
    uint32_t block;
    uint64_t origin;          /* ONNX: place of the node's message in the file, for what rewrites it; 0: not in the main graph of a file */
} qn_node;

typedef struct qn_graph_block {
    const char *name;         /* "embedding", "layers.0", …, "head" */
    uint32_t first_node, n_nodes;
} qn_graph_block;

typedef struct qn_graph {
    qn_arena arena;
    const qn_env *env;        /* borrowed */
    qn_source *source;        /* borrowed: the weights' */
    const char *family;       /* "llama", "onnx", … */
    qn_value *values;
    qn_node *nodes;
    qn_graph_block *blocks;
    uint32_t n_values, n_nodes, n_blocks;
    uint32_t *inputs, *outputs;
    uint32_t n_inputs, n_outputs;
    const struct qn_graph *outer; /* of a subgraph: the graph around */
    uint32_t n_vocab;         /* of a language model, else 0 */
    uint64_t context;         /* longest sequence that the model was made for, 0: unknown */
    uint32_t *last_use;       /* per value: the last node that reads it; QN_NO_NODE: none. Filled by qn_graph_seal */
    qn_names names;           /* values by name */
    uint64_t n_warnings;      /* first 8 kept: what a user should see */
    const char *warnings[8];
    /* growing, until sealed */
    uint64_t cap_values, cap_nodes, cap_blocks, cap_inputs, cap_outputs;
    bool sealed;
} qn_graph;

/* The graph of an opened checkpoint, by what it is: ONNX; a folder with config.json; GGUF; a .quern that holds one of them.
 * QN_E_UNSUPPORTED names the architecture that no builder knows. The source must outlive the graph.
 * Builders check that the tensors have the shapes that the configuration says, and name what is missing or extra. */
qn_code qn_graph_open(const qn_env *env, qn_source *s, qn_graph **out, qn_err *err) QN_MUST_CHECK;
void qn_graph_close(qn_graph *g); /* NULL is fine */

/* --- building (builders only) ------------------------------------------------------------------------------------- */

qn_code qn_graph_new(const qn_env *env, qn_source *s, const char *family, qn_graph **out, qn_err *err) QN_MUST_CHECK;
/* A value of that name must not exist yet. dims may be NULL (rank QN_RANK_UNKNOWN). */
qn_code qn_graph_input(qn_graph *g, const char *name, qn_dtype t, const int64_t *dims, unsigned rank, uint32_t *value,
                       qn_err *err) QN_MUST_CHECK;
/* The tensor of that name as a value (the same one when asked twice). QN_E_INPUT when the source has none. */
qn_code qn_graph_weight(qn_graph *g, const char *name, uint32_t *value, qn_err *err) QN_MUST_CHECK;
/* Copies the data into the arena; name NULL: one is made up. */
qn_code qn_graph_const(qn_graph *g, const char *name, qn_dtype t, const int64_t *dims, unsigned rank, const void *data,
                       uint32_t *value, qn_err *err) QN_MUST_CHECK;
qn_code qn_graph_output(qn_graph *g, uint32_t value, qn_err *err) QN_MUST_CHECK;
/* Of a subgraph, whose `outer` is set: a value of the graph around it. */
qn_code qn_graph_outer(qn_graph *g, const char *name, uint32_t outer, uint32_t *value, qn_err *err) QN_MUST_CHECK;
/* Notes what a value holds, and with it dtype and shape: the data are copied. */
qn_code qn_graph_know(qn_graph *g, uint32_t value, const qn_array *content, qn_err *err) QN_MUST_CHECK;
/* What a tensor of dtype t is while the model runs: F32 for every float but F64. BYTES for what cannot run (complex numbers). */
qn_dtype qn_running_dtype(qn_dtype t);
/* Nodes added from here on belong to a new block. */
qn_code qn_graph_begin_block(qn_graph *g, const char *name, qn_err *err) QN_MUST_CHECK;
/* Adds a node; `out[i]` become values named `name` (one output) or `name:i`, or out_names[i] when given ("" : left out).
 * Attributes are copied. */
qn_code qn_graph_node(qn_graph *g, const char *domain, const char *type, unsigned version, const char *name, const uint32_t *in,
                      unsigned n_in, const qn_attr *attrs, unsigned n_attrs, const char *const *out_names, uint32_t *out,
                      unsigned n_out, qn_err *err) QN_MUST_CHECK;
/* Checks inputs and attributes of every node against its operator, infers dtypes and shapes as far as they are known,
 * finds last uses. After it the graph is read-only. */
qn_code qn_graph_seal(qn_graph *g, qn_err *err) QN_MUST_CHECK;
void qn_graph_warn(qn_graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- reading ------------------------------------------------------------------------------------------------------- */

/* QN_NO_VALUE when there is none. */
uint32_t qn_graph_find(const qn_graph *g, const char *name);
/* NULL when the node has no such attribute. */
const qn_attr *qn_node_attr(const qn_node *n, const char *name);
/* With defaults; a wrong type is as if it were not there (qn_graph_seal has refused it). */
int64_t qn_node_int(const qn_node *n, const char *name, int64_t otherwise);
double qn_node_float(const qn_node *n, const char *name, double otherwise);
const char *qn_node_string(const qn_node *n, const char *name, const char *otherwise);
/* NULL and *count = 0 when it is not there. */
const int64_t *qn_node_ints(const qn_node *n, const char *name, unsigned *count);
/* Elements of a value whose dimensions are all known: of every weight. A scalar has one. */
uint64_t qn_value_elems(const qn_value *v);
/* QN_E_UNSUPPORTED naming the operator when the graph cannot be run. */
qn_code qn_graph_check_runs(const qn_graph *g, qn_err *err) QN_MUST_CHECK;
/* Puts the node in front of what *err says; returns rc. For errors of an operator, which does not know its name. */
qn_code qn_node_fail(const qn_node *n, qn_code rc, qn_err *err);
/* First opaque node, or QN_NO_NODE; subgraphs included (then the node that holds the subgraph). */
uint32_t qn_graph_first_opaque(const qn_graph *g);

#endif
