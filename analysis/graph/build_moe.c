/* build_moe.c: mixtral, qwen2_moe, qwen3_moe: llama, qwen2 and qwen3 with routed experts in place of the ffn. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_decoder.h"
#include "base/err.h"
#include <inttypes.h>
#include <string.h>

enum { EXPERTS_MAX = 4096 };

static const qn_decoder_names mixtral_experts = {
    .router = "block_sparse_moe.gate", .expert = "block_sparse_moe.experts", .expert_parts = {"w1", "w3", "w2"},
    .fused = {"block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj"},
};

static const qn_decoder_names qwen_experts = {
    .router = "mlp.gate", .expert = "mlp.experts", .expert_parts = {"gate_proj", "up_proj", "down_proj"},
    .fused = {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"},
    .shared = {"mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj", "mlp.shared_expert.down_proj"},
    .shared_gate = "mlp.shared_expert_gate",
};

static void take_names(qn_decoder_names *to, const qn_decoder_names *from)
{
    to->router = from->router;
    to->expert = from->expert;
    to->shared_gate = from->shared_gate;
    memcpy(to->expert_parts, from->expert_parts, sizeof to->expert_parts);
    memcpy(to->fused, from->fused, sizeof to->fused);
    memcpy(to->shared, from->shared, sizeof to->shared);
}

/* Layers with experts: every step-th ((i + 1) a multiple of it), but those in mlp_only_layers. */
static qn_code sparse_layers(const qn_config *c, qn_decoder *d, qn_err *err)
{
    uint64_t step, n;
    QN_TRY(qn_config_u64_or(c, "decoder_sparse_step", 1, 10000, 1, &step, err));
    for (uint64_t i = 0; i < d->n_layers; i++)
        d->sparse[i] = (i + 1) % step == 0;
    QN_TRY(qn_config_list(c, "mlp_only_layers", &n, err));
    for (uint64_t i = 0; i < n; i++) {
        uint64_t layer;
        QN_TRY(qn_config_item_u64(c, "mlp_only_layers", i, 0, d->n_layers - 1, &layer, err));
        d->sparse[layer] = 0;
    }
    return QN_OK;
}

static qn_code read_experts(qn_build *b, qn_decoder *d, qn_err *err)
{
    const qn_config *c = b->config;
    const bool two = !strcmp(b->type, "qwen2_moe"), mixtral = !strcmp(b->type, "mixtral");
    d->n_experts.from = mixtral ? "num_local_experts" : "num_experts";
    d->expert_ffn.from = mixtral ? "intermediate_size" : "moe_intermediate_size";
    d->shared_ffn.from = "shared_expert_intermediate_size";
    QN_TRY(qn_config_u64(c, mixtral ? "num_local_experts" : "num_experts|num_local_experts", 1, EXPERTS_MAX, &d->n_experts.n, err));
    QN_TRY(qn_config_u64_or(c, "num_experts_per_tok", 1, d->n_experts.n, mixtral ? 2 : two ? 4 : 8, &d->top_k, err));
    if (d->top_k > d->n_experts.n)
        return qn_config_fail(c, err, QN_E_INPUT, "num_experts_per_tok is missing, and there are only %" PRIu64 " experts", d->n_experts.n);
    if (mixtral) {
        d->expert_ffn.n = d->ffn.n;
        d->norm_topk = true;
        memset(d->sparse, 1, d->n_layers);
        return QN_OK;
    }
    QN_TRY(qn_config_u64(c, "moe_intermediate_size", 1, 1 << 24, &d->expert_ffn.n, err));
    if (two)
        QN_TRY(qn_config_u64(c, "shared_expert_intermediate_size", 1, 1 << 24, &d->shared_ffn.n, err));
    QN_TRY(qn_config_bool_or(c, "norm_topk_prob", false, &d->norm_topk, err)); /* false in both classes; qwen3's files say true */
    return sparse_layers(c, d, err);
}

qn_code qn_build_moe(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    qn_decoder d = {.names = qn_decoder_names_llama};
    const qn_config *c = b->config;
    const bool mixtral = !strcmp(b->type, "mixtral"), two = !strcmp(b->type, "qwen2_moe");
    const qn_decoder_defaults def = {.eps = mixtral ? 1e-5 : 1e-6, .theta = mixtral ? 1e6 : 1e4, .partial = 1, .act_keys = "hidden_act",
                                     .act = "silu"};
    bool use = mixtral;
    uint64_t first = 0;
    take_names(&d.names, mixtral ? &mixtral_experts : &qwen_experts);
    QN_TRY(qn_build_begin(b, env, s, b->type, err));
    QN_TRY(qn_decoder_read(b, &def, &d, err));
    QN_TRY(read_experts(b, &d, err));
    d.qk_norm = !mixtral && !two;
    if (two)
        QN_TRY(qn_config_bool_or(c, "qkv_bias", true, &d.qkv_bias, err));
    if (d.qk_norm) {
        QN_TRY(qn_config_bool_or(c, "attention_bias", false, &d.qkv_bias, err));
        d.o_bias = d.qkv_bias;
    }
    if (!mixtral) {
        QN_TRY(qn_config_bool_or(c, "use_sliding_window", false, &use, err));
        QN_TRY(qn_config_u64_or(c, "max_window_layers", 0, UINT32_MAX, 28, &first, err));
    }
    if (use)
        QN_TRY(qn_config_u64_or(c, "sliding_window", 1, UINT32_MAX, mixtral || qn_config_named(c, "sliding_window") ? 0 : 4096, &d.window, err));
    QN_TRY(qn_decoder_layers(b, &d, d.window ? 1 : 0, first, err));
    QN_TRY(qn_build_rope_config(b, "rope", NULL, "rope_theta", def.theta, 1, true, d.head_dim.n, d.max_positions, &d.rope[0], err));
    d.rope[1] = d.rope[0];
    return qn_decoder_build(b, &d, err);
}
