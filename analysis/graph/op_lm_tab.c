/* op_lm_tab.c: our own operators, of language models. Numbers: inputs least and most, outputs least and most. */
#include "analysis/exec/ops_lm.h"
#include "analysis/exec/ops_scan.h"

const qn_op qn_ops_lm[] = {
    {"quern", "Linear", "y = x Wᵀ + b: x (…, in), W (out, in) or, with layout \"in_out\", (in, out), b (out)", 2, 3, 1, 1,
     QN_AXIS_LINEAR, true, qn_linear_shape, qn_linear_forward},
    {"quern", "Embed", "y[i] = scale · W[ids[i]]: ids i64 (…), W (vocabulary, width)", 2, 2, 1, 1, QN_AXIS_EMBED, true, qn_embed_shape,
     qn_embed_forward},
    {"quern", "Positions", "place of each token in its own sequence, + offset", 2, 2, 1, 1, QN_AXIS_FREEZE, false,
     qn_positions_shape, qn_positions_forward},
    {"quern", "TokenShift", "RWKV (Peng et al. 2023, section 3.1.1): mix · x + (1 − mix) · x of the token before", 3, 3, 1, 1,
     QN_AXIS_ELEMENTWISE, false, qn_token_shift_shape, qn_token_shift_forward},
    {"quern", "CausalConv1d", "each channel convolved with its own taps, the last of which is the token's", 3, 4, 1, 1, QN_AXIS_SCAN,
     false, qn_causal_conv_shape, qn_causal_conv_forward},
    {"quern", "SelectiveScan", "Mamba's scan (Gu and Dao 2023, algorithm 2): h = exp(Δ A) h + Δ B x, y = C h + D x, per channel", 7, 7, 1, 1,
     QN_AXIS_SCAN, false, qn_selective_scan_shape, qn_selective_scan_forward},
    {"quern", "SsdScan", "Mamba-2's scan (Dao and Gu 2024, section 7): one decay per head, B and C of the head's group", 8, 8, 1, 1,
     QN_AXIS_SCAN, false, qn_ssd_scan_shape, qn_ssd_scan_forward},
    {"quern", "Wkv5", "RWKV-5.2's linear attention (Peng et al. 2024, section 4.1): y = r (bonus k v + s), s = w s + k v, per head", 6, 6, 1, 1,
     QN_AXIS_SCAN, false, qn_wkv5_shape, qn_wkv5_forward},
    {"quern", "GroupNorm", "(x − mean) / √(var + eps) · weight + bias over each of `groups` runs of the last axis (Wu and He 2018)", 3, 3, 1, 1,
     QN_AXIS_NORM, false, qn_group_norm_shape, qn_group_norm_forward},
    {.name = NULL},
};
