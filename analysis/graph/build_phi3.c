/* build_phi3.c: phi-3, phi-4: llama with one tensor for q, k and v and one for gate and up; part of a head's channels may turn. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_decoder.h"
#include "base/err.h"

qn_code qn_build_phi3(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    qn_decoder d = {.names = qn_decoder_names_llama};
    const qn_decoder_defaults def = {.eps = 1e-5, .theta = 1e4, .partial = 1, .act_keys = "hidden_act", .act = "silu"};
    d.names.qkv = "self_attn.qkv_proj";
    d.names.gate_up = "mlp.gate_up_proj";
    QN_TRY(qn_build_begin(b, env, s, "phi3", err));
    QN_TRY(qn_decoder_read(b, &def, &d, err));
    QN_TRY(qn_config_u64_or(b->config, "sliding_window", 1, UINT32_MAX, 0, &d.window, err));
    QN_TRY(qn_decoder_layers(b, &d, d.window ? 1 : 0, 0, err));
    QN_TRY(qn_build_rope_config(b, "rope", NULL, "rope_theta", def.theta, 1, true, d.head_dim.n, d.max_positions, &d.rope[0], err));
    d.rope[1] = d.rope[0];
    return qn_decoder_build(b, &d, err);
}
