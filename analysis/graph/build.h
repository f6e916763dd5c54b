/* build.h: what builders share: turning a configuration and the tensors of a source into a graph.
 *
 * A builder is a function in a file of its own (build_*.c) and a row in arch_tab.c. It reads the configuration, opens blocks
 * ("embedding", "layers.N", "head") and adds nodes named like the tensors' prefixes ("model.layers.3.self_attn.q_proj").
 * Each weight is fetched with the shape that the configuration says; what the source holds beyond that is reported at the end. */
#ifndef QN_ANALYSIS_GRAPH_BUILD_H
#define QN_ANALYSIS_GRAPH_BUILD_H

#include "analysis/graph/graph.h"
#include "formats/hf/config.h"

struct qn_gguf;

/* A size and where it comes from, for messages: {4096, "hidden_size"}. */
typedef struct qn_dim {
    uint64_t n;
    const char *from;
} qn_dim;

typedef struct qn_build {
    qn_graph *g;
    const qn_config *config;    /* NULL: a GGUF file            */
    const struct qn_gguf *gguf; /* NULL: a folder               */
    const char *type;           /* model_type of the row that was chosen in arch_tab.c */
    uint32_t tokens, starts;    /* the graph's inputs           */
    uint64_t copy;              /* a tensor that is a copy of another and so is not missed; UINT64_MAX: none */
} qn_build;

/* A name put together in place: qn_name("%s.layers.%u.", p, i).s */
typedef struct qn_name_text {
    char s[256];
} qn_name_text;
qn_name_text qn_name(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

typedef enum qn_bias { QN_BIAS_NONE, QN_BIAS_YES, QN_BIAS_IF_THERE } qn_bias;

/* Graph with inputs `tokens` and `starts`; block "embedding" is open. */
qn_code qn_build_begin(qn_build *b, const qn_env *env, qn_source *s, const char *family, qn_err *err) QN_MUST_CHECK;
bool qn_build_has(const qn_build *b, const char *tensor);
/* A weight whose shape must be dims. A rank-2 weight is (out, in). */
qn_code qn_build_weight(qn_build *b, const char *tensor, const qn_dim *dims, unsigned rank, uint32_t *v, qn_err *err) QN_MUST_CHECK;
/* Embed: rows of <prefix>.weight (rows, width) picked by ids. */
qn_code qn_build_embed(qn_build *b, const char *prefix, uint32_t ids, qn_dim rows, qn_dim width, uint32_t *y, qn_err *err) QN_MUST_CHECK;
/* Linear with <prefix>.weight (out, in) and maybe <prefix>.bias (out); the node's name is the prefix. */
qn_code qn_build_linear(qn_build *b, const char *prefix, uint32_t x, qn_dim in, qn_dim out, qn_bias bias, uint32_t *y,
                        qn_err *err) QN_MUST_CHECK;
/* RMSNorm with <prefix>.weight (n); LayerNorm with <prefix>.weight and .bias (n). */
qn_code qn_build_rms_norm(qn_build *b, const char *prefix, uint32_t x, qn_dim n, double eps, unsigned offset, uint32_t *y,
                          qn_err *err) QN_MUST_CHECK;
qn_code qn_build_layer_norm(qn_build *b, const char *prefix, uint32_t x, qn_dim n, double eps, qn_bias bias, uint32_t *y,
                            qn_err *err) QN_MUST_CHECK;
/* A node of domain "quern" with one output. */
qn_code qn_build_node(qn_build *b, const char *type, const char *name, const uint32_t *in, unsigned n_in, const qn_attr *attrs,
                      unsigned n_attrs, uint32_t *y, qn_err *err) QN_MUST_CHECK;
qn_code qn_build_add(qn_build *b, const char *name, uint32_t x, uint32_t y, uint32_t *z, qn_err *err) QN_MUST_CHECK;
/* Act; kind already checked by qn_build_act_kind. */
qn_code qn_build_act(qn_build *b, const char *name, const char *kind, uint32_t x, uint32_t *y, qn_err *err) QN_MUST_CHECK;
/* config.json's name of an activation ("gelu_new", "gelu_pytorch_tanh", "silu", …) → the operator's; QN_E_UNSUPPORTED names others. */
qn_code qn_build_act_kind(const qn_build *b, const char *key, const char *name, const char **kind, qn_err *err) QN_MUST_CHECK;
/* The output layer: <head>.weight (vocab, width) when it is there, else the rows of <embed>.weight. Warns where config.json's
 * tie_word_embeddings (tied: its default) says otherwise. */
qn_code qn_build_head(qn_build *b, const char *head, const char *embed, bool tied, uint32_t x, qn_dim vocab, qn_dim width,
                      qn_bias bias, uint32_t *logits, qn_err *err) QN_MUST_CHECK;
/* Refuses what no builder runs (quantization_config). Called by qn_graph_open for every folder. */
qn_code qn_build_check(const qn_build *b, qn_err *err) QN_MUST_CHECK;
/* Output, warning about tensors that nothing reads (but those whose name ends with one of `ignore`, NULL-ended, may be NULL), seal. */
qn_code qn_build_end(qn_build *b, uint32_t logits, const char *const *ignore, qn_err *err) QN_MUST_CHECK;

/* Attributes, in one line each. */
static inline qn_attr qn_attr_i(const char *name, int64_t v)
{
    return (qn_attr){.name = name, .type = QN_ATTR_INT, .v.i = v};
}

static inline qn_attr qn_attr_f(const char *name, double v)
{
    return (qn_attr){.name = name, .type = QN_ATTR_FLOAT, .v.f = v};
}

static inline qn_attr qn_attr_s(const char *name, const char *v)
{
    return (qn_attr){.name = name, .type = QN_ATTR_STRING, .v.s = v};
}

static inline qn_attr qn_attr_ints(const char *name, const int64_t *v, uint32_t n)
{
    return (qn_attr){.name = name, .type = QN_ATTR_INTS, .v.ints = v, .n = n};
}

/* --- rotary positions (build_rope.c) ------------------------------------------------------------------------------- */

/* What Rope needs; formulas: build_rope.c. */
typedef struct qn_rope {
    uint32_t freq, long_freq; /* constants; QN_NO_VALUE: none */
    uint64_t rotary;          /* channels that turn; 0: no rope at all */
    uint64_t original;
    double scale, dynamic, base;
    double mismatch; /* yarn: what the factor would be by the two context sizes; 0: as it is */
    bool interleaved;
} qn_rope;

/* From config.json: rope_parameters (of this layer type, when they are given by type; NULL: any) or rope_theta and rope_scaling.
 * theta: default base; theta_key: its top-level key; scaled false: rope_scaling does not count. partial: default of
 * partial_rotary_factor. `name` makes the constants' names unique. */
qn_code qn_build_rope_config(qn_build *b, const char *name, const char *layer_type, const char *theta_key, double theta,
                             double partial, bool scaled, uint64_t head_dim, uint64_t max_positions, qn_rope *r,
                             qn_err *err) QN_MUST_CHECK;
/* Plain frequencies base^(−2k / rotary), over divisors (rotary / 2) when not NULL. */
qn_code qn_build_rope_plain(qn_build *b, const char *name, double base, uint64_t rotary, const double *divisors, qn_rope *r,
                            qn_err *err) QN_MUST_CHECK;
/* Turns x (T, heads · head_dim). */
qn_code qn_build_rope(qn_build *b, const char *name, const qn_rope *r, uint32_t x, uint64_t head_dim, uint32_t *y,
                      qn_err *err) QN_MUST_CHECK;

/* --- dispatch ------------------------------------------------------------------------------------------------------ */

typedef qn_code (*qn_builder)(qn_build *b, const qn_env *env, qn_source *s, qn_err *err);

typedef struct qn_arch {
    const char *class_name; /* architectures[0]; NULL: none       */
    const char *model_type; /* or general.architecture of a GGUF  */
    qn_builder build;
} qn_arch;

/* A checkpoint without a configuration, known by names of tensors. */
typedef struct qn_arch_named {
    const char *const *tensors; /* all of them must be there; NULL-ended */
    qn_builder build;
} qn_arch_named;

extern const qn_arch_named qn_archs_named[]; /* ended by a row without a builder */
extern const qn_arch qn_archs_hf[], qn_archs_gguf[]; /* ended by a row without a builder */

/* The graph of an ONNX model (build_onnx.c): of an opened .onnx file, or of a .quern file that holds one. Sealed.
 *
 * Initializers and the values of Constant nodes are weights, by the names under which the source lists them; what is small is
 * also known to shape inference. The bodies of If, Loop and Scan are graphs in attributes; functions of the model are put in
 * place of their calls (names: call/inner), unless the operator is known here. An operator that is not known, and one with an
 * attribute that this graph has no type for, is opaque. Elements below a byte pass a node Unpack (quern).
 * QN_E_INPUT names the node or value: a cycle, an input that nothing gives, one name twice, an attribute of a wrong type. */
qn_code qn_graph_of_onnx(const qn_env *env, qn_source *s, qn_graph **out, qn_err *err) QN_MUST_CHECK;

#endif
