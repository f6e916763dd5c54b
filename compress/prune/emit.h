/* emit.h: a cut model as a checkpoint of the kind it came from, physically smaller, that stock runtimes load. */
#ifndef QN_COMPRESS_PRUNE_EMIT_H
#define QN_COMPRESS_PRUNE_EMIT_H

#include "analysis/exec/overlay.h"
#include "analysis/groups/cut.h"

/* What is taken out beside groups. */
typedef struct qn_depth {
    const uint8_t *layers;    /* per layer of a language model, 1: goes as a whole; NULL: none  */
    uint32_t n_layers;
    const uint8_t *const *experts; /* per layer: flags of its experts, NULL: none of this layer; NULL: none at all */
    uint32_t n_experts;
} qn_depth;

typedef struct qn_emit_options {
    bool overwrite;
    bool per_layer;           /* --layout per-layer: widths may differ between layers, where a configuration can say so; else they must be
                                 equal, and QN_E_UNSUPPORTED names the first that is not and the runtimes that would refuse it */
    bool any_loader;          /* also what only some stock runtimes load: a llama folder whose hidden size is no multiple of its heads, which transformers'
                                 newest LlamaConfig refuses and others take */
    const char *record;       /* text of pruning.json (what was cut, for audits), or NULL */
} qn_emit_options;

/* Can this cut be written at all? QN_E_UNSUPPORTED says why not. */
qn_code qn_emit_check(const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_emit_options *o, qn_err *err) QN_MUST_CHECK;
/* Writes to path: a file for ONNX and GGUF, a folder for a folder. Weights from the overlay (full shapes, already rounded), else from the source; atomically. */
qn_code qn_emit(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_overlay *w, const char *path,
                const qn_emit_options *o, qn_err *err) QN_MUST_CHECK;
/* A multiple that the number of kept groups of each family must keep to, and whether two families must keep the same number (uniform layers):
 * class_of[f] equal and not UINT32_MAX: the same number. For allocation. Arrays of n_families. */
qn_code qn_emit_constraints(const qn_graph *g, const qn_groups *s, const qn_emit_options *o, uint32_t *class_of, uint8_t *allowed,
                            qn_err *err) QN_MUST_CHECK; /* allowed[f] 0: no runtime could load a cut of this family */
/* Raises *keep, groups of a family that are to stay, to the next number that every loader of the kind takes (any_loader: to none). */
qn_code qn_emit_keep(const qn_graph *g, const qn_groups *s, const qn_emit_options *o, uint32_t family, uint32_t *keep, qn_err *err) QN_MUST_CHECK;

/* The kinds; each in a file of its own. */
qn_code qn_emit_onnx(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_overlay *w, const char *path, const qn_emit_options *o,
                     qn_err *err) QN_MUST_CHECK;
qn_code qn_emit_hf(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_overlay *w, const char *path,
                   const qn_emit_options *o, qn_err *err) QN_MUST_CHECK;
qn_code qn_emit_gguf(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_overlay *w, const char *path,
                     const qn_emit_options *o, qn_err *err) QN_MUST_CHECK;

/* An ONNX model made ready for pruning, as a file at path: constant parts are computed (weights behind Transpose, Reshape, Identity become weights),
 * batch norms are folded into the convolution or product in front of them, Dropout and Identity go. *changed false: nothing was to be done
 * and nothing is written. prepare.c */
qn_code qn_prepare_onnx(const qn_env *env, const qn_graph *g, const char *path, bool *changed, uint32_t *n_folded_norms, qn_err *err) QN_MUST_CHECK;

#endif
