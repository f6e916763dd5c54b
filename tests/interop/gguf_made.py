#!/usr/bin/python3
"""Small language models of every family that is exported to GGUF: a config.json, random weights, a real tokenizer of 512 tokens. For gguf_export.py."""
import json
import math
import pathlib
import random
import shutil
import struct

import numpy as np

H, F, N, V = 64, 96, 4, 512  # hidden, ffn, layers, vocabulary


def save(path, tensors):
    """A safetensors file of f32 tensors."""
    head, at = {}, 0
    for name, w in tensors.items():
        head[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [at, at + 4 * w.size]}
        at += 4 * w.size
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for w in tensors.values():
            f.write(np.ascontiguousarray(w, "<f4").tobytes())


class Maker:
    def __init__(self, seed):
        self.r = np.random.default_rng(seed)
        self.t = {}

    def w(self, name, *shape, scale=None):
        self.t[name] = self.r.normal(0, scale or 1.5 / math.sqrt(shape[-1]), shape).astype("f4")

    def b(self, name, n):
        self.t[name] = self.r.normal(0, 0.3, n).astype("f4")

    def norm(self, name, n, around=1.0, bias=False):
        self.t[name + ".weight"] = (around + self.r.normal(0, 0.2, n)).astype("f4")
        if bias:
            self.b(name + ".bias", n)


def llama(m, heads=4, kv=2, hd=16, qkv_bias=False, o_bias=False, mlp_bias=False, qk_norm=False, tied=False, around=1.0, two=False, fused=False, moe=None,
          shared=0):
    m.w("model.embed_tokens.weight", V, H, scale=1.0)
    for i in range(N):
        p = f"model.layers.{i}."
        m.norm(p + "input_layernorm", H, around)
        m.norm(p + "post_attention_layernorm", H, around)
        if two:
            m.norm(p + "pre_feedforward_layernorm", H, around)
            m.norm(p + "post_feedforward_layernorm", H, around)
        if fused:
            m.w(p + "self_attn.qkv_proj.weight", (heads + 2 * kv) * hd, H)
        else:
            for n, k in (("q", heads), ("k", kv), ("v", kv)):
                m.w(p + f"self_attn.{n}_proj.weight", k * hd, H)
                if qkv_bias:
                    m.b(p + f"self_attn.{n}_proj.bias", k * hd)
        m.w(p + "self_attn.o_proj.weight", H, heads * hd)
        if o_bias:
            m.b(p + "self_attn.o_proj.bias", H)
        if qk_norm:
            m.norm(p + "self_attn.q_norm", hd, around)
            m.norm(p + "self_attn.k_norm", hd, around)
        if moe:
            experts, inner, gate, expert, parts = moe
            m.w(p + gate, experts, H)
            for e in range(experts):
                m.w(p + expert % (e, parts[0]), inner, H)
                m.w(p + expert % (e, parts[1]), inner, H)
                m.w(p + expert % (e, parts[2]), H, inner)
            if shared:
                m.w(p + "mlp.shared_expert_gate.weight", 1, H)
                for n, s in (("gate", (shared, H)), ("up", (shared, H)), ("down", (H, shared))):
                    m.w(p + f"mlp.shared_expert.{n}_proj.weight", *s)
        elif fused:
            m.w(p + "mlp.gate_up_proj.weight", 2 * F, H)
            m.w(p + "mlp.down_proj.weight", H, F)
        else:
            for n, s in (("gate", (F, H)), ("up", (F, H)), ("down", (H, F))):
                m.w(p + f"mlp.{n}_proj.weight", *s)
                if mlp_bias:
                    m.b(p + f"mlp.{n}_proj.bias", s[0])
    m.norm("model.norm", H, around)
    if not tied:
        m.w("lm_head.weight", V, H)


def gpt2(m):
    m.w("transformer.wte.weight", V, H, scale=0.3)
    m.w("transformer.wpe.weight", 256, H, scale=0.3)
    for i in range(N):
        p = f"transformer.h.{i}."
        m.norm(p + "ln_1", H, bias=True)
        m.norm(p + "ln_2", H, bias=True)
        for n, s in (("attn.c_attn", (H, 3 * H)), ("attn.c_proj", (H, H)), ("mlp.c_fc", (H, 4 * H)), ("mlp.c_proj", (4 * H, H))):
            m.w(p + n + ".weight", *s, scale=1.5 / math.sqrt(s[0]))
            m.b(p + n + ".bias", s[1])
    m.norm("transformer.ln_f", H, bias=True)


def neox(m):
    m.w("gpt_neox.embed_in.weight", V, H, scale=1.0)
    for i in range(N):
        p = f"gpt_neox.layers.{i}."
        m.norm(p + "input_layernorm", H, bias=True)
        m.norm(p + "post_attention_layernorm", H, bias=True)
        for n, s in (("attention.query_key_value", (3 * H, H)), ("attention.dense", (H, H)), ("mlp.dense_h_to_4h", (F, H)), ("mlp.dense_4h_to_h", (H, F))):
            m.w(p + n + ".weight", *s)
            m.b(p + n + ".bias", s[0])
    m.norm("gpt_neox.final_layer_norm", H, bias=True)
    m.w("embed_out.weight", V, H)


def phi(m):
    m.w("model.embed_tokens.weight", V, H, scale=1.0)
    for i in range(N):
        p = f"model.layers.{i}."
        m.norm(p + "input_layernorm", H, bias=True)
        for n, s in (("self_attn.q_proj", (H, H)), ("self_attn.k_proj", (H, H)), ("self_attn.v_proj", (H, H)), ("self_attn.dense", (H, H)), ("mlp.fc1", (F, H)),
                     ("mlp.fc2", (H, F))):
            m.w(p + n + ".weight", *s)
            m.b(p + n + ".bias", s[0])
    m.norm("model.final_layernorm", H, bias=True)
    m.w("lm_head.weight", V, H)
    m.b("lm_head.bias", V)


def mamba(m, two):
    di, state, rank, heads = 2 * H, 16, 4, 8
    m.w("backbone.embeddings.weight", V, H, scale=1.0)
    for i in range(N):
        p = f"backbone.layers.{i}."
        m.norm(p + "norm", H)
        conv = di + 2 * state * 2 if two else di
        m.w(p + "mixer.in_proj.weight", di + conv + heads if two else 2 * di, H)
        m.w(p + "mixer.conv1d.weight", conv, 1, 4)
        m.b(p + "mixer.conv1d.bias", conv)
        m.t[p + "mixer.A_log"] = np.log(m.r.uniform(1, 16, (heads,) if two else (di, state))).astype("f4")
        m.t[p + "mixer.D"] = m.r.normal(1, 0.2, heads if two else di).astype("f4")
        if two:
            m.b(p + "mixer.dt_bias", heads)
            m.norm(p + "mixer.norm", di)
        else:
            m.w(p + "mixer.x_proj.weight", rank + 2 * state, di)
            m.w(p + "mixer.dt_proj.weight", di, rank)
            m.b(p + "mixer.dt_proj.bias", di)
        m.w(p + "mixer.out_proj.weight", H, di)
    m.norm("backbone.norm_f", H)


QWEN_MOE = (8, 32, "mlp.gate.weight", "mlp.experts.%d.%s_proj.weight", ("gate", "up", "down"))
MIXTRAL = (4, F, "block_sparse_moe.gate.weight", "block_sparse_moe.experts.%d.%s.weight", ("w1", "w3", "w2"))
BASE = {"hidden_size": H, "intermediate_size": F, "num_hidden_layers": N, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": V,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 1,
        "eos_token_id": 2}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"rope_type": "longrope", "short_factor": [1.0 + 0.1 * k for k in range(8)], "long_factor": [1.0 + 0.5 * k for k in range(8)]}
GEMMA = {"num_key_value_heads": 2, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16, "tie_word_embeddings": True}
MODELS = [
    ("llama-llama3", "LlamaForCausalLM", {**BASE, "rope_scaling": LLAMA3}, lambda m: llama(m)),
    ("llama-biases", "LlamaForCausalLM", {**BASE, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
     lambda m: llama(m, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True)),
    ("llama-linear", "LlamaForCausalLM", {**BASE, "head_dim": 24, "rope_scaling": {"type": "linear", "factor": 2.0}}, lambda m: llama(m, hd=24)),
    ("mistral-yarn", "MistralForCausalLM", {**BASE, "sliding_window": None, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                                                                                            "original_max_position_embeddings": 64}}, lambda m: llama(m)),
    ("mixtral", "MixtralForCausalLM", {**BASE, "num_local_experts": 4, "num_experts_per_tok": 2}, lambda m: llama(m, moe=MIXTRAL)),
    ("qwen2", "Qwen2ForCausalLM", BASE, lambda m: llama(m, qkv_bias=True)),
    ("qwen2_moe", "Qwen2MoeForCausalLM", {**BASE, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48,
                                          "norm_topk_prob": False}, lambda m: llama(m, qkv_bias=True, moe=QWEN_MOE, shared=48)),
    ("qwen3", "Qwen3ForCausalLM", {**BASE, "head_dim": 32}, lambda m: llama(m, hd=32, qk_norm=True)),
    ("qwen3_moe", "Qwen3MoeForCausalLM", {**BASE, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True},
     lambda m: llama(m, qk_norm=True, moe=QWEN_MOE)),
    ("gemma", "GemmaForCausalLM", {**BASE, **GEMMA}, lambda m: llama(m, tied=True, around=0.0)),
    ("gemma2", "Gemma2ForCausalLM", {**BASE, **GEMMA, "sliding_window": 32, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0},
     lambda m: llama(m, tied=True, around=0.0, two=True)),
    ("gemma3", "Gemma3ForCausalLM", {**BASE, **GEMMA, "model_type": "gemma3_text", "sliding_window": 32, "sliding_window_pattern": 3, "rope_theta": 1e6,
                                     "rope_local_base_freq": 5000.0}, lambda m: llama(m, tied=True, around=0.0, two=True, qk_norm=True)),
    ("phi3", "Phi3ForCausalLM", {**BASE, "num_key_value_heads": 4}, lambda m: llama(m, kv=4, fused=True)),
    ("phi3-longrope", "Phi3ForCausalLM", {**BASE, "num_key_value_heads": 4, "max_position_embeddings": 512, "original_max_position_embeddings": 256, "rope_scaling": LONG},
     lambda m: llama(m, kv=4, fused=True)),
    ("phi", "PhiForCausalLM", {**BASE, "num_key_value_heads": 4, "partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5, "hidden_act": "gelu_new"}, phi),
    ("gpt2", "GPT2LMHeadModel", {"n_embd": H, "n_layer": N, "n_head": 4, "n_positions": 256, "n_ctx": 256, "vocab_size": V, "layer_norm_epsilon": 1e-5,
                                 "activation_function": "gelu_new", "bos_token_id": 1, "eos_token_id": 2}, gpt2),
    ("gpt_neox", "GPTNeoXForCausalLM", {**BASE, "rotary_pct": 0.25, "rotary_emb_base": 10000, "hidden_act": "gelu", "use_parallel_residual": True,
                                        "layer_norm_eps": 1e-5}, neox),
    ("mamba", "MambaForCausalLM", {"hidden_size": H, "num_hidden_layers": N, "state_size": 16, "conv_kernel": 4, "expand": 2, "time_step_rank": 4,
                                   "vocab_size": V, "layer_norm_epsilon": 1e-5, "bos_token_id": 1, "eos_token_id": 2}, lambda m: mamba(m, False)),
    ("mamba2", "Mamba2ForCausalLM", {"hidden_size": H, "num_hidden_layers": N, "state_size": 16, "conv_kernel": 4, "expand": 2, "num_heads": 8, "head_dim": 16,
                                     "n_groups": 2, "vocab_size": V, "layer_norm_epsilon": 1e-5, "bos_token_id": 1, "eos_token_id": 2},
     lambda m: mamba(m, True)),
]


def make(root, tokenizer):
    """Folders of all MODELS under `root`, with the tokenizer of that folder → [(name, path)]."""
    made = []
    for seed, (name, architecture, config, fill) in enumerate(MODELS):
        folder = pathlib.Path(root) / name
        folder.mkdir(parents=True)
        kind = name.split("-")[0]
        folder.joinpath("config.json").write_text(json.dumps({"architectures": [architecture], "model_type": kind, **config}, indent=1))
        for f in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(pathlib.Path(tokenizer) / f, folder / f)
        m = Maker(seed)
        fill(m)
        items = list(m.t.items())
        random.Random(seed).shuffle(items)
        save(folder / "model.safetensors", dict(items))
        made.append((name, folder))
    return made
