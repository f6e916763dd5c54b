/* build_decoder.h: decoders of the llama family: what they have in common, as numbers and names. A reader (build_llama.c, build_gemma.c,
 * build_gguf.c …) fills a qn_decoder; build_decoder.c makes the graph. */
#ifndef QN_ANALYSIS_GRAPH_BUILD_DECODER_H
#define QN_ANALYSIS_GRAPH_BUILD_DECODER_H

#include "analysis/graph/build.h"

/* Tensors' prefixes (without ".weight"); those of a layer come after "<layers>.N.". NULL: the model has none. */
typedef struct qn_decoder_names {
    const char *embed, *layers, *norm;
    const char *attn_norm, *q, *k, *v, *o, *q_norm, *k_norm;
    const char *qkv;                    /* in place of q, k, v: rows of q, k, v in this order        */
    const char *attn_post;              /* norm after attention, before the residual sum             */
    const char *ffn_norm, *gate, *up, *down;
    const char *gate_up;                /* in place of gate and up: rows of gate, then up            */
    const char *ffn_post;               /* norm after the ffn, before the residual sum               */
    const char *router, *expert;        /* "mlp.experts": then ".N.", and one of expert_parts        */
    const char *expert_parts[3];        /* gate, up, down                                            */
    const char *stacked[3];             /* 3-D tensors (E, out, in) of gate, up, down                */
    const char *fused[2];               /* 3-D tensors of gate and up (E, 2 · ffn, in), and down     */
    const char *shared[3], *shared_gate; /* an expert that all tokens go to, and its gate (1, hidden) */
} qn_decoder_names;

/* Widths of one layer, where layers differ. */
typedef struct qn_decoder_layer {
    uint64_t ffn, heads, kv_heads;
} qn_decoder_layer;

typedef struct qn_decoder {
    qn_decoder_names names;
    char prefix[64], head[64]; /* "model." in front of embed, layers, norm; "lm_head" */
    qn_dim hidden, ffn, vocab, q, kv, head_dim; /* q = heads · head_dim, kv = kv_heads · head_dim */
    uint64_t n_layers, heads, kv_heads, window, max_positions;
    double eps, embed_scale, attn_scale, attn_softcap, final_softcap; /* 0: none (embed_scale 1) */
    unsigned norm_offset;
    const char *act;
    bool qkv_bias, o_bias, mlp_bias, qk_norm, tied;
    qn_rope rope[2];           /* of layers that see all, and of sliding ones */
    uint8_t *sliding, *sparse; /* per layer; arena of the graph */
    const qn_decoder_layer *each; /* per layer, in place of ffn, heads, kv_heads, q, kv; NULL: all are alike */
    /* experts */
    qn_dim n_experts, expert_ffn, shared_ffn; /* n_experts.n 0: none */
    uint64_t top_k;
    bool norm_topk;
    const char *const *ignore; /* for qn_build_end */
} qn_decoder;

/* Reads what all config.jsons of the family share; d->names must be set and d zero else. Fields with a class default: */
typedef struct qn_decoder_defaults {
    double eps, theta, partial;
    uint64_t head_dim; /* 0: hidden / heads */
    const char *act_keys, *act;
    bool tied;
} qn_decoder_defaults;
qn_code qn_decoder_read(qn_build *b, const qn_decoder_defaults *def, qn_decoder *d, qn_err *err) QN_MUST_CHECK;
/* Fills d->sliding: layer_types when it is there, else every layer i with sliding(i): 0 none, 1 all, p > 1: all but each pth
 * (i + 1 a multiple of p), from layer `first` on. */
qn_code qn_decoder_layers(qn_build *b, qn_decoder *d, uint64_t pattern, uint64_t first, qn_err *err) QN_MUST_CHECK;
/* Room for the per-layer marks, all 0. */
qn_code qn_decoder_marks(qn_build *b, qn_decoder *d, qn_err *err) QN_MUST_CHECK;
/* The graph of what was read, sealed. */
qn_code qn_decoder_build(qn_build *b, const qn_decoder *d, qn_err *err) QN_MUST_CHECK;
/* build_experts.c: the ffn of a sparse layer. `layer`: prefix of its tensors, x: its normed input. */
qn_code qn_decoder_experts(qn_build *b, const qn_decoder *d, const char *layer, uint32_t x, uint32_t *y, qn_err *err) QN_MUST_CHECK;
/* down(act(gate x) · up x) with tensors <layer>.<name>. */
qn_code qn_decoder_ffn(qn_build *b, const qn_decoder *d, const char *layer, const char *const names[3], uint32_t x, qn_dim ffn, uint32_t *y,
                       qn_err *err) QN_MUST_CHECK;

extern const qn_decoder_names qn_decoder_names_llama; /* build_llama.c */

#endif
