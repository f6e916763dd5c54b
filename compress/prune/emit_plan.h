/* emit_plan.h: a cut of a language model in the words of its configuration: how wide each layer's parts will be, which layers and experts stay, what
 * every tensor is called and holds then. What folders (emit_hf.c) and GGUF files (emit_gguf.c) have in common.
 *
 * Widths are read off the weights that sum over them: the product behind an attention (its heads), the one behind an activation (the feed-forward
 * width). So fused and separate projections, (out, in) and (in, out) are one case. */
#ifndef QN_COMPRESS_PRUNE_EMIT_PLAN_H
#define QN_COMPRESS_PRUNE_EMIT_PLAN_H

#include "compress/prune/emit.h"
#include "formats/safetensors/write.h"

/* Keys that say a width: of config.json (alternatives: "n_inner|intermediate_size"), or of GGUF metadata without the architecture in front.
 * NULL: there is none, so the width is what others make it and cannot change. */
typedef struct qn_emit_arch {
    const char *family; /* of the graph */
    const char *layers, *hidden, *ffn, *heads, *kv_heads, *head_dim, *eps; /* eps: of all RMS norms */
    const char *experts, *expert_ffn, *shared_ffn;
    bool gguf;
    bool divides; /* a loader of these wants hidden to be a multiple of heads */
} qn_emit_arch;
extern const qn_emit_arch qn_emit_archs[]; /* emit_arch_tab.c; ended by a row without a family */

typedef enum qn_emit_width {
    QN_EMIT_OTHER, /* no key says it                              */
    QN_EMIT_FFN, QN_EMIT_HEADS, QN_EMIT_HIDDEN, QN_EMIT_EXPERT_FFN, QN_EMIT_SHARED_FFN, QN_EMIT_EXPERTS
} qn_emit_width;
enum { QN_EMIT_WIDTHS = QN_EMIT_EXPERTS + 1 };

#define QN_EMIT_GONE UINT32_MAX

typedef struct qn_emit_layer {
    uint32_t to;                 /* its number then, or QN_EMIT_GONE                       */
    uint32_t attention, experts; /* nodes, or QN_NO_NODE                                   */
    uint64_t heads, kv_heads, head_dim, window;
    uint64_t old[QN_EMIT_WIDTHS], now[QN_EMIT_WIDTHS]; /* HEADS: query heads; 0: the layer has none of it */
    uint64_t kv_now;
    uint32_t *expert_to;         /* old[EXPERTS] of them: number then, or QN_EMIT_GONE; NULL: no experts */
} qn_emit_layer;

/* What happens to a weight beside the cut. */
typedef struct qn_emit_weight {
    uint8_t anchor, anchor_axis; /* qn_emit_width that is read off this axis, or QN_EMIT_OTHER       */
    bool by_expert;              /* axis 0 is one row per expert of `layer`                           */
    uint32_t layer, expert;      /* expert: that it belongs to (one tensor per expert), or QN_EMIT_GONE */
    double scale, offset;        /* w becomes (offset + w) · scale − offset                            */
} qn_emit_weight;

typedef struct qn_emit_plan {
    qn_arena arena;
    const qn_env *env;
    const qn_graph *g;
    const qn_cut *c;             /* NULL: nothing is cut but depth */
    const qn_emit_arch *arch;    /* NULL: not known                */
    const char *prefix;          /* of tensors of layers: "model.layers." */
    qn_emit_layer *layers;
    uint32_t n_layers, n_kept;
    qn_emit_weight *weights;     /* per value                       */
    uint32_t *value_of;          /* per tensor of the source: value, or QN_NO_VALUE; a copy of tied weights: theirs */
    uint8_t *width_of;           /* per family: qn_emit_width        */
    uint64_t old[QN_EMIT_WIDTHS], now[QN_EMIT_WIDTHS]; /* of all layers that stay: the same; 0: none has it. HIDDEN: the model's */
    uint64_t kv_old, kv_now, head_dim, top_k;
    double eps;                  /* of the RMS norms, as it must be then; < 0: as it is */
    bool layers_differ;          /* now[] holds those of the first layer only             */
} qn_emit_plan;

/* Reads the cut; QN_E_UNSUPPORTED says what cannot be written, and who could not load it. gguf: the source is one. */
qn_code qn_emit_plan_make(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_emit_options *o, bool gguf,
                          qn_emit_plan *p, qn_err *err) QN_MUST_CHECK;
/* Layers, anchors and the widths of families alone, without a cut: for constraints. */
qn_code qn_emit_plan_look(const qn_env *env, const qn_graph *g, const qn_groups *s, bool gguf, qn_emit_plan *p, qn_err *err) QN_MUST_CHECK;
/* The layer that a block of a graph is ("layers.N"), or -1. */
int64_t qn_emit_layer_of(const qn_graph *g, uint32_t block);
void qn_emit_plan_release(qn_emit_plan *p); /* a zeroed one is fine */

/* Name of a tensor of the source then, into buf; *gone: it is not written. */
qn_code qn_emit_name(const qn_emit_plan *p, uint64_t tensor, char *buf, size_t cap, bool *gone, qn_err *err) QN_MUST_CHECK;
/* Its shape then. */
qn_code qn_emit_dims(const qn_emit_plan *p, uint64_t tensor, uint64_t dims[QN_RANK_MAX], uint64_t *n_bytes, qn_err *err) QN_MUST_CHECK;

/* Contents, tensor by tensor: one at a time is in memory. */
typedef struct qn_emit_content {
    const qn_emit_plan *plan;
    const qn_overlay *overlay; /* or NULL */
    uint64_t tensor;           /* whose content is in buf; UINT64_MAX: none */
    uint8_t *buf;
} qn_emit_content;
/* qn_out_read_fn with a qn_emit_content; id: tensor of the source. */
qn_code qn_emit_read(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;
void qn_emit_content_release(qn_emit_content *x);

/* What was written, opened again, against the plan: heads, windows, scales and experts of every layer that stayed. QN_E_VERIFY. */
qn_code qn_emit_verify(const qn_emit_plan *p, const char *path, qn_err *err) QN_MUST_CHECK;

#endif
