/* arch_tab.c: which builder makes the graph of which architecture. */
#include "analysis/graph/build_all.h"

const qn_arch qn_archs_hf[] = {
    {"LlamaForCausalLM", "llama", qn_build_llama},
    {"MistralForCausalLM", "mistral", qn_build_llama},
    {"MixtralForCausalLM", "mixtral", qn_build_moe},
    {"Qwen2ForCausalLM", "qwen2", qn_build_llama},
    {"Qwen2MoeForCausalLM", "qwen2_moe", qn_build_moe},
    {"Qwen3ForCausalLM", "qwen3", qn_build_llama},
    {"Qwen3MoeForCausalLM", "qwen3_moe", qn_build_moe},
    {"GemmaForCausalLM", "gemma", qn_build_gemma},
    {"Gemma2ForCausalLM", "gemma2", qn_build_gemma},
    {"Gemma3ForCausalLM", "gemma3_text", qn_build_gemma},
    {"Gemma3ForConditionalGeneration", "gemma3_text", qn_build_gemma},
    {"Phi3ForCausalLM", "phi3", qn_build_phi3},
    {"PhiForCausalLM", "phi", qn_build_phi},
    {"GPT2LMHeadModel", "gpt2", qn_build_gpt2},
    {"GPTNeoForCausalLM", "gpt_neo", qn_build_gpt_neo},
    {"GPTNeoXForCausalLM", "gpt_neox", qn_build_gpt_neox},
    {"OPTForCausalLM", "opt", qn_build_opt},
    {"MambaForCausalLM", "mamba", qn_build_mamba},
    {"Mamba2ForCausalLM", "mamba2", qn_build_mamba2},
    {NULL, NULL, NULL},
};

const qn_arch qn_archs_gguf[] = {
    {NULL, "llama", qn_build_gguf_llama},
    {NULL, "deci", qn_build_gguf_llama},
    {NULL, "qwen2", qn_build_gguf_llama},
    {NULL, "qwen2moe", qn_build_gguf_llama},
    {NULL, "qwen3", qn_build_gguf_llama},
    {NULL, "qwen3moe", qn_build_gguf_llama},
    {NULL, "gemma", qn_build_gguf_llama},
    {NULL, "gemma2", qn_build_gguf_llama},
    {NULL, "gemma3", qn_build_gguf_llama},
    {NULL, "phi3", qn_build_gguf_llama},
    {NULL, NULL, NULL},
};

static const char *const rwkv5_tensors[] = {"emb.weight", "blocks.0.ln0.weight", "blocks.0.att.time_decay", "blocks.0.att.gate.weight", NULL};

const qn_arch_named qn_archs_named[] = {
    {rwkv5_tensors, qn_build_rwkv5},
    {NULL, NULL},
};
