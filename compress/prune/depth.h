/* depth.h: taking whole layers and whole experts out of a language model: what stands in for it while the model is measured, and the scores by which
 * they are chosen. What goes is then a qn_depth (emit.h) of the emission. */
#ifndef QN_COMPRESS_PRUNE_DEPTH_H
#define QN_COMPRESS_PRUNE_DEPTH_H

#include "compress/prune/emit.h"
#include "compress/prune/measure.h"

/* Layers of a language model (blocks "layers.N"), and the experts of those that have some (0: none). */
void qn_depth_size(const qn_graph *g, uint32_t *n_layers, uint32_t *n_experts);

/* --- layers ---------------------------------------------------------------------------------------------------------- */

/* Makes the flagged layers pass their input on: what they add to the stream becomes 0 in w. QN_E_UNSUPPORTED for layers that do not end with a sum
 * (norms behind it). */
qn_code qn_depth_bypass(const qn_graph *g, const uint8_t *layers, uint32_t n_layers, qn_overlay *w, qn_err *err) QN_MUST_CHECK;
/* score[i]: 1 − mean over tokens of cos(input, output) of layer i, of the dense model (ShortGPT, Men et al. 2024): small ones can go. */
qn_code qn_depth_angles(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, uint64_t memory_bytes, double *score, uint32_t n_layers,
                        qn_err *err) QN_MUST_CHECK;
/* Flags n_gone layers, one after another: each time the one without which the model is nearest to the dense one, given those that have gone (SLEB, Song
 * et al. 2024). loss (n_gone, may be NULL): of the model after each. w: changes that are there already, or NULL; batches [0, n_batches) of m. */
qn_code qn_depth_choose(const qn_graph *g, qn_measure *m, const qn_overlay *w, uint64_t n_batches, uint32_t n_gone, uint8_t *layers, uint32_t n_layers,
                        double *loss, qn_err *err) QN_MUST_CHECK;

/* --- experts --------------------------------------------------------------------------------------------------------- */

/* The model as if experts were not there: their routers' logits become −∞ on the way. A tap of the executor:
 *     qn_exec_options o = {.on_output = qn_depth_mask_tap, .tap_ctx = mask}; */
typedef struct qn_depth_mask qn_depth_mask;
qn_code qn_depth_mask_open(const qn_env *env, const qn_graph *g, const qn_depth *d, qn_depth_mask **out, qn_err *err) QN_MUST_CHECK;
qn_code qn_depth_mask_tap(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err) QN_MUST_CHECK;
void qn_depth_mask_close(qn_depth_mask *m); /* NULL is fine */

/* One row of n_experts for each layer (zeros for layers without experts). reap: mean over the tokens that are routed to e of p_e · ‖f_e(x)‖ with p_e as
 * the model multiplies (REAP, Lasby et al. 2025), 0 when none is; share: of the tokens that are routed to e. share may be NULL. */
qn_code qn_depth_experts(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, uint64_t memory_bytes, double *reap, double *share,
                         uint32_t n_layers, uint32_t n_experts, qn_err *err) QN_MUST_CHECK;
/* Flags the n_gone experts with the smallest scores in every layer that has experts: gone (n_layers, n_experts). Of equals the last goes. */
void qn_depth_pick(const double *score, uint32_t n_layers, uint32_t n_experts, uint32_t n_gone, uint8_t *gone);

#endif
