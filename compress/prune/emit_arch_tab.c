/* emit_arch_tab.c: which widths the configuration of an architecture can say: what its loaders allocate by. Sources: the configuration classes of
 * transformers, and llama.cpp's description of GGUF keys. Columns: layers, hidden, ffn, heads, kv_heads, head_dim, eps; experts, expert_ffn,
 * shared_ffn. Where heads stand without a head size of their own, size is hidden / heads and no head can go. */
#include "compress/prune/emit_plan.h"

#define LLAMA "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps"
#define GGUF \
    "block_count", "embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv", "attention.key_length", \
        "attention.layer_norm_rms_epsilon"

const qn_emit_arch qn_emit_archs[] = {
    {"llama", LLAMA, NULL, NULL, NULL, false, true},
    {"mistral", LLAMA, NULL, NULL, NULL, false, false},
    {"qwen2", LLAMA, NULL, NULL, NULL, false, false},
    {"qwen3", LLAMA, NULL, NULL, NULL, false, false},
    {"gemma", LLAMA, NULL, NULL, NULL, false, false},
    {"gemma2", LLAMA, NULL, NULL, NULL, false, false},
    {"gemma3", LLAMA, NULL, NULL, NULL, false, false},
    {"phi3", LLAMA, NULL, NULL, NULL, false, false},
    {"mixtral", LLAMA, "num_local_experts", "intermediate_size", NULL, false, false},
    {"qwen2_moe", LLAMA, "num_experts|num_local_experts", "moe_intermediate_size", "shared_expert_intermediate_size", false, false},
    {"qwen3_moe", LLAMA, "num_experts|num_local_experts", "moe_intermediate_size", NULL, false, false},
    {"gpt2", "n_layer|num_hidden_layers", NULL, "n_inner|intermediate_size", NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, false},
    {"gpt_neo", "num_layers|num_hidden_layers", NULL, "intermediate_size", NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, false},
    {"gpt_neox", "num_hidden_layers", NULL, "intermediate_size", NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, false},
    {"opt", "num_hidden_layers", NULL, "ffn_dim", NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, false},
    {"phi", "num_hidden_layers", NULL, "intermediate_size", NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, false},
    {"mamba", "num_hidden_layers|n_layer", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, false},
    {"mamba2", "num_hidden_layers|n_layer", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, false},
    {"llama", GGUF, "expert_count", "expert_feed_forward_length|feed_forward_length", NULL, true, false},
    {"qwen2", GGUF, NULL, NULL, NULL, true, false},
    {"qwen3", GGUF, NULL, NULL, NULL, true, false},
    {"qwen3moe", GGUF, "expert_count", "expert_feed_forward_length", NULL, true, false},
    {"gemma", GGUF, NULL, NULL, NULL, true, false},
    {"gemma2", GGUF, NULL, NULL, NULL, true, false},
    {"gemma3", GGUF, NULL, NULL, NULL, true, false},
    {.family = NULL},
};
