/* build_gemma.c: gemma 1, 2 and 3 (text): norms around both halves of a layer from 2 on, weights of norms stored less one, embeddings times
 * √hidden, softcaps (2), a norm of each head's q and k and a second rope for sliding layers (3). */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_decoder.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

static qn_code read_two(qn_build *b, bool three, qn_decoder *d, qn_err *err)
{
    const qn_config *c = b->config;
    double per;
    uint64_t pattern;
    QN_TRY(qn_config_f64_or(c, "query_pre_attn_scalar", 1e-6, 1e9, 256, &per, err));
    d->attn_scale = 1 / sqrt(per);
    /* null: none. Gemma 2's class has them where the keys are absent */
    QN_TRY(qn_config_f64_or(c, "attn_logit_softcapping", 1e-3, 1e9, three || qn_config_named(c, "attn_logit_softcapping") ? 0 : 50, &d->attn_softcap,
                            err));
    QN_TRY(qn_config_f64_or(c, "final_logit_softcapping", 1e-3, 1e9, three || qn_config_named(c, "final_logit_softcapping") ? 0 : 30,
                            &d->final_softcap, err));
    QN_TRY(qn_config_u64_or(c, "sliding_window", 1, UINT32_MAX, qn_config_named(c, "sliding_window") ? 0 : 4096, &d->window, err));
    QN_TRY(qn_config_u64_or(c, "sliding_window_pattern|_sliding_window_pattern", 1, 10000, three ? 6 : 2, &pattern, err));
    /* a pattern of 1 makes every layer see all */
    return qn_decoder_layers(b, d, d->window && pattern > 1 ? pattern : 0, 0, err);
}

static void norms_of_two(qn_decoder_names *t)
{
    t->attn_post = "post_attention_layernorm";
    t->ffn_norm = "pre_feedforward_layernorm";
    t->ffn_post = "post_feedforward_layernorm";
}

qn_code qn_build_gemma(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    qn_decoder d = {.names = qn_decoder_names_llama};
    const bool one = !strcmp(b->type, "gemma"), three = !strcmp(b->type, "gemma3_text");
    const qn_decoder_defaults def = {.eps = 1e-6, .theta = three ? 1e6 : 1e4, .partial = 1, .head_dim = 256, .tied = true,
                                     /* the first gemma says "gelu" in hidden_act and means the tanh form */
                                     .act_keys = "hidden_activation", .act = "gelu_pytorch_tanh"};
    QN_TRY(qn_build_begin(b, env, s, one ? "gemma" : three ? "gemma3" : "gemma2", err));
    QN_TRY(qn_decoder_read(b, &def, &d, err));
    QN_TRY(qn_config_bool_or(b->config, "attention_bias", false, &d.qkv_bias, err));
    d.o_bias = d.qkv_bias;
    d.norm_offset = 1;
    d.embed_scale = sqrt((double)d.hidden.n);
    d.qk_norm = three;
    if (!one) {
        norms_of_two(&d.names);
        QN_TRY(read_two(b, three, &d, err));
    }
    QN_TRY(qn_build_rope_config(b, "rope", "full_attention", "rope_theta", def.theta, 1, true, d.head_dim.n, d.max_positions, &d.rope[0], err));
    d.rope[1] = d.rope[0];
    if (three)
        QN_TRY(qn_build_rope_config(b, "rope_local", "sliding_attention", "rope_local_base_freq", 1e4, 1, false, d.head_dim.n, d.max_positions,
                                    &d.rope[1], err));
    return qn_decoder_build(b, &d, err);
}
