/* names_tab.c: which tensor is which. Sources: docs of the two formats and their converters' behaviour; see names.h for # and @.
 * Rows of one HF name stand together where architectures name it differently; of several rows with one GGUF name the first
 * is the most common. */
#include "formats/gguf/names.h"

const char *const qn_gguf_archs[] = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "gpt2", "mixtral",
                                     "qwen2moe", "qwen2_moe", "qwen3moe", "qwen3_moe", "phi2", "phi", "gemma3_text", NULL};

enum {
    LLAMA = 1 << 0 | 1 << 1, /* mistral is built the same */
    QWEN2 = 1 << 2,
    QWEN3 = 1 << 3,
    GEMMA = 1 << 4,
    GEMMA2 = 1 << 5,
    GEMMA3 = 1 << 6 | 1 << 16,
    PHI3 = 1 << 7,
    GPT2 = 1 << 8,
    MIXTRAL = 1 << 9 | 1 << 0, /* GGUF calls mixtral llama */
    QWEN2MOE = 1 << 10 | 1 << 11,
    QWEN3MOE = 1 << 12 | 1 << 13,
    PHI2 = 1 << 14 | 1 << 15,
    GEMMAS = GEMMA | GEMMA2 | GEMMA3,
    MOES = MIXTRAL | QWEN2MOE | QWEN3MOE,
    GATED = LLAMA | QWEN2 | QWEN3 | GEMMAS | QWEN2MOE | QWEN3MOE, /* gate, up, down; the mixtures' dense layers too */
    SPLIT = LLAMA | QWEN2 | QWEN3 | GEMMAS | MOES | PHI2,         /* q, k, v are tensors of their own               */
    MODEL = SPLIT | PHI3                                          /* names begin with "model."                      */
};

const qn_gguf_name_row qn_gguf_name_tab[] = {
    {MODEL, "model.embed_tokens", "token_embd"},
    {MODEL & ~PHI2, "model.norm", "output_norm"},
    {MODEL, "lm_head", "output"},
    {MODEL, "model.layers.#.input_layernorm", "blk.#.attn_norm"},
    {SPLIT, "model.layers.#.self_attn.q_proj", "blk.#.attn_q"},
    {SPLIT, "model.layers.#.self_attn.k_proj", "blk.#.attn_k"},
    {SPLIT, "model.layers.#.self_attn.v_proj", "blk.#.attn_v"},
    {MODEL & ~PHI2, "model.layers.#.self_attn.o_proj", "blk.#.attn_output"},
    {QWEN3 | QWEN3MOE | GEMMA3, "model.layers.#.self_attn.q_norm", "blk.#.attn_q_norm"},
    {QWEN3 | QWEN3MOE | GEMMA3, "model.layers.#.self_attn.k_norm", "blk.#.attn_k_norm"},
    {MODEL & ~(GEMMA2 | GEMMA3 | PHI2), "model.layers.#.post_attention_layernorm", "blk.#.ffn_norm"},
    {GEMMA2 | GEMMA3, "model.layers.#.post_attention_layernorm", "blk.#.post_attention_norm"},
    {GEMMA2 | GEMMA3, "model.layers.#.pre_feedforward_layernorm", "blk.#.ffn_norm"},
    {GEMMA2 | GEMMA3, "model.layers.#.post_feedforward_layernorm", "blk.#.post_ffw_norm"},
    {GATED, "model.layers.#.mlp.gate_proj", "blk.#.ffn_gate"},
    {GATED, "model.layers.#.mlp.up_proj", "blk.#.ffn_up"},
    {GATED | PHI3, "model.layers.#.mlp.down_proj", "blk.#.ffn_down"},
    {PHI3, "model.layers.#.self_attn.qkv_proj", "blk.#.attn_qkv"},
    {PHI3, "model.layers.#.mlp.gate_up_proj", "blk.#.ffn_up"},
    {QWEN2MOE | QWEN3MOE, "model.layers.#.mlp.gate", "blk.#.ffn_gate_inp"},
    {MIXTRAL, "model.layers.#.block_sparse_moe.gate", "blk.#.ffn_gate_inp"},
    {QWEN2MOE | QWEN3MOE, "model.layers.#.mlp.experts.@.gate_proj", "blk.#.ffn_gate_exps"},
    {QWEN2MOE | QWEN3MOE, "model.layers.#.mlp.experts.@.up_proj", "blk.#.ffn_up_exps"},
    {QWEN2MOE | QWEN3MOE, "model.layers.#.mlp.experts.@.down_proj", "blk.#.ffn_down_exps"},
    {MIXTRAL, "model.layers.#.block_sparse_moe.experts.@.w1", "blk.#.ffn_gate_exps"},
    {MIXTRAL, "model.layers.#.block_sparse_moe.experts.@.w3", "blk.#.ffn_up_exps"},
    {MIXTRAL, "model.layers.#.block_sparse_moe.experts.@.w2", "blk.#.ffn_down_exps"},
    {QWEN2MOE, "model.layers.#.mlp.shared_expert_gate", "blk.#.ffn_gate_inp_shexp"},
    {QWEN2MOE, "model.layers.#.mlp.shared_expert.gate_proj", "blk.#.ffn_gate_shexp"},
    {QWEN2MOE, "model.layers.#.mlp.shared_expert.up_proj", "blk.#.ffn_up_shexp"},
    {QWEN2MOE, "model.layers.#.mlp.shared_expert.down_proj", "blk.#.ffn_down_shexp"},
    {GPT2, "wte", "token_embd"},
    {GPT2, "wpe", "position_embd"},
    {GPT2, "lm_head", "output"},
    {GPT2, "h.#.ln_1", "blk.#.attn_norm"},
    {GPT2, "h.#.attn.c_attn", "blk.#.attn_qkv"},
    {GPT2, "h.#.attn.c_proj", "blk.#.attn_output"},
    {GPT2, "h.#.ln_2", "blk.#.ffn_norm"},
    {GPT2, "h.#.mlp.c_fc", "blk.#.ffn_up"},
    {GPT2, "h.#.mlp.c_proj", "blk.#.ffn_down"},
    {GPT2, "ln_f", "output_norm"},
    {PHI2, "model.layers.#.self_attn.dense", "blk.#.attn_output"},
    {PHI2, "model.layers.#.mlp.fc1", "blk.#.ffn_up"},
    {PHI2, "model.layers.#.mlp.fc2", "blk.#.ffn_down"},
    {PHI2, "model.final_layernorm", "output_norm"},
};

const unsigned qn_gguf_name_rows = sizeof qn_gguf_name_tab / sizeof qn_gguf_name_tab[0];
