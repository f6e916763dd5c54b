/* fuzz_graph.c: a config.json over a fixed folder of tensors, made into a graph: no size in it may lead past what the tensors have. */
#include "tests/fuzz/opened.h"
#include "tests/support/hostile.h"
#include <string.h>

/* All tensors of a llama with hidden 4, 2 heads of 2, ffn 6, vocabulary 3, one layer; of a mixtral's experts, a qwen3's and gemma's norms;
 * and those of a gpt2, a gpt_neo, an opt, a phi and a mamba (inner 6, state 2, rank 1) of the same sizes. */
static const char names[][2][64] = {
    {"model.embed_tokens.weight", "3,4"}, {"model.norm.weight", "4"}, {"model.layers.0.input_layernorm.weight", "4"},
    {"model.layers.0.self_attn.q_proj.weight", "4,4"}, {"model.layers.0.self_attn.k_proj.weight", "4,4"},
    {"model.layers.0.self_attn.v_proj.weight", "4,4"}, {"model.layers.0.self_attn.o_proj.weight", "4,4"},
    {"model.layers.0.self_attn.q_norm.weight", "2"}, {"model.layers.0.self_attn.k_norm.weight", "2"},
    {"model.layers.0.post_attention_layernorm.weight", "4"}, {"model.layers.0.pre_feedforward_layernorm.weight", "4"},
    {"model.layers.0.post_feedforward_layernorm.weight", "4"}, {"model.layers.0.mlp.gate_proj.weight", "6,4"},
    {"model.layers.0.mlp.up_proj.weight", "6,4"}, {"model.layers.0.mlp.down_proj.weight", "4,6"},
    {"model.layers.0.self_attn.qkv_proj.weight", "12,4"}, {"model.layers.0.mlp.gate_up_proj.weight", "12,4"},
    {"model.layers.0.mlp.gate.weight", "2,4"}, {"model.layers.0.mlp.experts.gate_up_proj", "2,12,4"},
    {"model.layers.0.mlp.experts.down_proj", "2,4,6"},
    {"wte.weight", "3,4"}, {"wpe.weight", "64,4"}, {"ln_f.weight", "4"}, {"ln_f.bias", "4"}, {"h.0.ln_1.weight", "4"},
    {"h.0.ln_1.bias", "4"}, {"h.0.ln_2.weight", "4"}, {"h.0.ln_2.bias", "4"}, {"h.0.attn.c_attn.weight", "4,12"},
    {"h.0.attn.c_attn.bias", "12"}, {"h.0.attn.c_proj.weight", "4,4"}, {"h.0.attn.c_proj.bias", "4"}, {"h.0.mlp.c_fc.weight", "4,6"},
    {"h.0.mlp.c_fc.bias", "6"}, {"h.0.mlp.c_proj.weight", "6,4"}, {"h.0.mlp.c_proj.bias", "4"}, {"transformer.wte.weight", "3,4"},
    {"transformer.wpe.weight", "64,4"}, {"transformer.ln_f.weight", "4"}, {"transformer.ln_f.bias", "4"},
    {"transformer.h.0.ln_1.weight", "4"}, {"transformer.h.0.ln_1.bias", "4"}, {"transformer.h.0.ln_2.weight", "4"},
    {"transformer.h.0.ln_2.bias", "4"}, {"transformer.h.0.attn.attention.q_proj.weight", "4,4"},
    {"transformer.h.0.attn.attention.k_proj.weight", "4,4"}, {"transformer.h.0.attn.attention.v_proj.weight", "4,4"},
    {"transformer.h.0.attn.attention.out_proj.weight", "4,4"}, {"transformer.h.0.attn.attention.out_proj.bias", "4"},
    {"transformer.h.0.mlp.c_fc.weight", "6,4"}, {"transformer.h.0.mlp.c_fc.bias", "6"}, {"transformer.h.0.mlp.c_proj.weight", "4,6"},
    {"transformer.h.0.mlp.c_proj.bias", "4"}, {"decoder.embed_tokens.weight", "3,4"}, {"decoder.embed_positions.weight", "66,4"},
    {"decoder.final_layer_norm.weight", "4"}, {"decoder.final_layer_norm.bias", "4"}, {"decoder.layers.0.self_attn.q_proj.weight", "4,4"},
    {"decoder.layers.0.self_attn.q_proj.bias", "4"}, {"decoder.layers.0.self_attn.k_proj.weight", "4,4"},
    {"decoder.layers.0.self_attn.k_proj.bias", "4"}, {"decoder.layers.0.self_attn.v_proj.weight", "4,4"},
    {"decoder.layers.0.self_attn.v_proj.bias", "4"}, {"decoder.layers.0.self_attn.out_proj.weight", "4,4"},
    {"decoder.layers.0.self_attn.out_proj.bias", "4"}, {"decoder.layers.0.self_attn_layer_norm.weight", "4"},
    {"decoder.layers.0.self_attn_layer_norm.bias", "4"}, {"decoder.layers.0.final_layer_norm.weight", "4"},
    {"decoder.layers.0.final_layer_norm.bias", "4"}, {"decoder.layers.0.fc1.weight", "6,4"}, {"decoder.layers.0.fc1.bias", "6"},
    {"decoder.layers.0.fc2.weight", "4,6"}, {"decoder.layers.0.fc2.bias", "4"}, {"model.final_layernorm.weight", "4"},
    {"model.final_layernorm.bias", "4"}, {"model.layers.0.input_layernorm.bias", "4"}, {"lm_head.weight", "3,4"}, {"lm_head.bias", "3"},
    {"model.layers.0.self_attn.q_proj.bias", "4"}, {"model.layers.0.self_attn.k_proj.bias", "4"},
    {"model.layers.0.self_attn.v_proj.bias", "4"}, {"model.layers.0.self_attn.dense.weight", "4,4"},
    {"model.layers.0.self_attn.dense.bias", "4"}, {"model.layers.0.mlp.fc1.weight", "6,4"}, {"model.layers.0.mlp.fc1.bias", "6"},
    {"model.layers.0.mlp.fc2.weight", "4,6"}, {"model.layers.0.mlp.fc2.bias", "4"}, {"backbone.embeddings.weight", "3,4"},
    {"backbone.norm_f.weight", "4"}, {"backbone.layers.0.norm.weight", "4"}, {"backbone.layers.0.mixer.in_proj.weight", "12,4"},
    {"backbone.layers.0.mixer.conv1d.weight", "6,1,3"}, {"backbone.layers.0.mixer.conv1d.bias", "6"},
    {"backbone.layers.0.mixer.x_proj.weight", "5,6"}, {"backbone.layers.0.mixer.dt_proj.weight", "6,1"},
    {"backbone.layers.0.mixer.dt_proj.bias", "6"}, {"backbone.layers.0.mixer.A_log", "6,2"},
    {"backbone.layers.0.mixer.D", "6"}, {"backbone.layers.0.mixer.dt_bias", "2"},
    {"backbone.layers.0.mixer.out_proj.weight", "4,6"},
};

static void build(qt_buf *b)
{
    qt_buf head = {0};
    size_t at = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = 4;
        for (const char *p = names[i][1]; *p; p += strcspn(p, ","), p += *p == ',')
            n *= strtoul(p, NULL, 10);
        qt_addf(&head, "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", i ? ',' : '{', names[i][0], names[i][1], at, at + n);
        at += n;
    }
    qt_add(&head, "}", 2);
    qt_add_safetensors(b, (const char *)head.p, at);
    qt_buf_free(&head);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static qt_buf tensors;
    if (!tensors.n)
        build(&tensors);
    qt_files t;
    qt_files_init(&t);
    qt_files_add(&t, "m/config.json", p, n);
    qt_files_add(&t, "m/model.safetensors", tensors.p, tensors.n);
    qf_open_graph(&t, "m", 8 * n + (4 << 20));
    return 0;
}

#define COMMON                                                                                                                             \
    "\"hidden_size\":4,\"intermediate_size\":6,\"num_hidden_layers\":1,\"num_attention_heads\":2,\"head_dim\":2,\"vocab_size\":3,"           \
    "\"max_position_embeddings\":64"

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "{\"architectures\":[\"LlamaForCausalLM\"]," COMMON ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8}}",
        "{\"architectures\":[\"MistralForCausalLM\"]," COMMON ",\"sliding_window\":7,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,"
        "\"original_max_position_embeddings\":16,\"attention_factor\":1.5}}",
        "{\"architectures\":[\"GPT2LMHeadModel\"]," COMMON ",\"scale_attn_by_inverse_layer_idx\":true}",
        "{\"architectures\":[\"GPTNeoForCausalLM\"]," COMMON ",\"attention_types\":[[[\"global\",\"local\"],12]],\"window_size\":5}",
        "{\"architectures\":[\"OPTForCausalLM\"]," COMMON ",\"ffn_dim\":6,\"word_embed_proj_dim\":4,\"do_layer_norm_before\":true}",
        "{\"architectures\":[\"PhiForCausalLM\"]," COMMON ",\"partial_rotary_factor\":1.0,\"qk_layernorm\":false}",
        "{\"architectures\":[\"MambaForCausalLM\"]," COMMON ",\"state_size\":2,\"conv_kernel\":3,\"time_step_rank\":1}",
        "{\"architectures\":[\"MambaForCausalLM\"]," COMMON ",\"state_size\":2,\"conv_kernel\":3,\"time_step_rank\":\"auto\"}",
        "{\"architectures\":[\"Mamba2ForCausalLM\"]," COMMON ",\"num_heads\":2,\"n_groups\":1,\"state_size\":1,\"conv_kernel\":3,"
        "\"time_step_limit\":[0.0,Infinity]}",
        "{\"architectures\":[\"GPTNeoXForCausalLM\"]," COMMON ",\"rotary_pct\":0.25,\"use_parallel_residual\":false}",
        "{\"model_type\":\"qwen3\"," COMMON ",\"layer_types\":[\"full_attention\"],\"rope_parameters\":{\"rope_type\":\"dynamic\",\"factor\":2}}",
        "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"text_config\":{\"model_type\":\"gemma3_text\"," COMMON
        ",\"sliding_window\":5,\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e6},\"sliding_attention\":{\"rope_theta\":1e4}}}}",
        "{\"architectures\":[\"Gemma2ForCausalLM\"]," COMMON ",\"attn_logit_softcapping\":50.0,\"x\":[Infinity,NaN,-Infinity]}",
        "{\"architectures\":[\"Qwen3MoeForCausalLM\"]," COMMON ",\"num_experts\":2,\"num_experts_per_tok\":1,\"moe_intermediate_size\":6,"
        "\"mlp_only_layers\":[],\"norm_topk_prob\":true}",
        "{\"architectures\":[\"Phi3ForCausalLM\"]," COMMON ",\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[2.0],\"short_factor\":[1.0]},"
        "\"original_max_position_embeddings\":32}",
        "{\"architectures\":[\"LlamaForCausalLM\"]," COMMON ",\"quantization_config\":{\"quant_method\":\"awq\"}}",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        emit(ctx, (const uint8_t *)seeds[i], strlen(seeds[i]));
}
