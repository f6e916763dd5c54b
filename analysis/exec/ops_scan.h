/* ops_scan.h: operators of language models that carry something along a sequence; rows: op_lm_tab.c.
 *
 * x is f32 (T, n): one row per token of a ragged batch; starts is i64 (S + 1), see graph.h. Every sequence begins with a state of zeros.
 *
 *   Positions     tokens (T), starts → i64 (T): place in the token's own sequence + offset
 *                 offset 0; limit 0: longest sequence that is allowed, 0: any
 *   TokenShift    x, starts, mix (n) → y_t = mix · x_t + (1 − mix) · x_{t−1}
 *   CausalConv1d  x, starts, weight (n, 1, k), [bias (n)] → y_t = bias + Σ_j weight_{k−1−j} · x_{t−j}, each channel by itself
 *   SelectiveScan x (T, d), dt (T, d), A_log (d, m), B (T, m), C (T, m), D (d), starts → y (T, d)
 *                 Mamba: Δ = softplus dt; h = exp(−Δ · exp A_log) · h + Δ · B · x; y = C · h + D · x
 *   SsdScan       x (T, heads · p), dt (T, heads), dt_bias (heads), A_log (heads), B (T, groups · m), C (T, groups · m), D (heads), starts
 *                 → y (T, heads · p); groups 1; dt_min 0, dt_max ∞: Δ is clamped to them
 *                 Mamba-2: Δ = softplus(dt + dt_bias); h = exp(−Δ · exp A_log) · h + Δ · x Bᵀ; y = h C + D · x, a head's B and C are its group's
 *   Wkv5          r, k, v (T, n), decay (heads, p), bonus (heads, p), starts → y (T, n), n = heads · p
 *                 RWKV-5.2: y_j = Σ_i r_i (bonus_i k_i v_j + s_ij); s_ij = w_i s_ij + k_i v_j
 *                 raw 0: w = decay; 1: w = exp(−exp decay), as in training checkpoints
 *   GroupNorm     x, weight, bias (both (n), or (n / groups): then shared) → each of `groups` runs of the last axis normalised by itself
 *                 groups, eps */
#ifndef QN_ANALYSIS_EXEC_OPS_SCAN_H
#define QN_ANALYSIS_EXEC_OPS_SCAN_H

#include "analysis/exec/ops_lm.h"

QN_OP_SHAPE(qn_positions_shape);
QN_OP_FORWARD(qn_positions_forward);
QN_OP_SHAPE(qn_token_shift_shape);
QN_OP_FORWARD(qn_token_shift_forward);
QN_OP_SHAPE(qn_causal_conv_shape);
QN_OP_FORWARD(qn_causal_conv_forward);
QN_OP_SHAPE(qn_selective_scan_shape);
QN_OP_FORWARD(qn_selective_scan_forward);
QN_OP_SHAPE(qn_ssd_scan_shape);
QN_OP_FORWARD(qn_ssd_scan_forward);
QN_OP_SHAPE(qn_wkv5_shape);
QN_OP_FORWARD(qn_wkv5_forward);
QN_OP_SHAPE(qn_group_norm_shape);
QN_OP_FORWARD(qn_group_norm_forward);

#endif
