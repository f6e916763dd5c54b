/* sensitivity.h: what an error in one weight costs the whole model.
 *
 * One weight at a time is replaced by W + E, and the divergence of the model's predictions from those without E is measured on a few texts: to
 * second order it is proportional to the relative error t² of the layer's output, with a factor that belongs to the weight
 * (the linearity theorem of HIGGS, Malinovskii et al. 2024). E is what error feedback leaves: white in the domain where H is the identity,
 *     E = U L⁻¹,  H + damping = L Lᵀ,  U of random signs,  scaled so that tr(E H' Eᵀ) = t² tr(W H' Wᵀ);
 * where only the diagonal of H was kept, of random signs over its root. The signs follow from the weight's name, so a run can be
 * repeated. What comes before the weight's block is run once for all weights of the block. */
#ifndef QN_ANALYSIS_CALIBRATE_SENSITIVITY_H
#define QN_ANALYSIS_CALIBRATE_SENSITIVITY_H

#include "analysis/calibrate/calibrate.h"

/* Appends to the writer the sensitivities of every weight that it has inputs of: linear layers and experts; of other weights there are none.
 * n_before: the writer's checkpoints in front of those of sensitivities, of which there is one for each block of the graph; those that an earlier
 * run has left are not measured again. The graph is a language model (qn_lm_check). */
qn_code qn_sensitivity(const qn_env *env, const qn_graph *g, const qn_calibrate_options *o, qn_stats_writer *w, uint32_t n_before,
                       qn_err *err) QN_MUST_CHECK;

#endif
