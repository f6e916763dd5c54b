"""Reference decoders with attention, one function a family: each gives the config.json and the logits of one sequence.

Sizes are small and awkward on purpose: head size times heads is not the width, heads are grouped, nothing is a power of two.
"""
import math

import torch
from logits_pieces import attend, gated, gelu_erf, gelu_tanh, rotate, routed

VOCAB = 101


def heads_of(x, n):
    return x.reshape(len(x), n, -1)


def llama_like(w, kind, cls, hidden=24, inner=38, heads=6, kv=2, head=10, layers=2, qkv_bias=False, o_bias=False, mlp_bias=False,
               qk_norm=False, rope=None, theta=10000.0, max_positions=64, window_of=lambda i: None, tied=False, mlp=None,
               partial=1.0, fused=False, extra=None):
    """llama, mistral, qwen2, qwen3, phi3, mixtral, qwen2_moe, qwen3_moe. mlp(i): the feed-forward part of layer i, None: gated."""
    config = {"architectures": [cls], "model_type": kind, "hidden_size": hidden, "intermediate_size": inner,
              "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": head, "num_hidden_layers": layers,
              "vocab_size": VOCAB, "max_position_embeddings": max_positions, "rms_norm_eps": 1e-6, "rope_theta": theta,
              "rope_scaling": rope, "hidden_act": "silu", "tie_word_embeddings": tied, "torch_dtype": "float32"}
    config.update(extra or {})
    turned = int(head * partial)

    def attention(x, p, i):
        if fused:
            q, k, v = w.linear(x, p + "qkv_proj", (heads + 2 * kv) * head).split([heads * head, kv * head, kv * head], 1)
        else:
            q = w.linear(x, p + "q_proj", heads * head, qkv_bias, gain=1.5)
            k, v = (w.linear(x, p + n, kv * head, qkv_bias, gain=1.5) for n in ("k_proj", "v_proj"))
        q, k, v = heads_of(q, heads), heads_of(k, kv), heads_of(v, kv)
        if qk_norm:
            q, k = w.rms(q, p + "q_norm", 1e-6), w.rms(k, p + "k_norm", 1e-6)
        rule = dict(rope, original_max_position_embeddings=extra["original_max_position_embeddings"]) \
            if rope and extra and "original_max_position_embeddings" in extra else rope
        q, k = (rotate(t, turned, theta, rule, max_positions) for t in (q, k))
        return w.linear(attend(q, k, v, head ** -0.5, window_of(i)), p + "o_proj", hidden, o_bias)

    def feed(x, p, i):
        if mlp and mlp(i):
            return mlp(i)(x, p)
        if fused:
            g, u = w.linear(x, p + "mlp.gate_up_proj", 2 * inner).chunk(2, 1)
            return w.linear(torch.nn.functional.silu(g) * u, p + "mlp.down_proj", hidden)
        return gated(w, x, p + "mlp.", inner, bias=mlp_bias)

    def forward(tokens):
        table = w.get("model.embed_tokens.weight", VOCAB, hidden, std=1.0)
        x = table[tokens]
        for i in range(layers):
            p = f"model.layers.{i}."
            x = x + attention(w.rms(x, p + "input_layernorm", 1e-6), p + "self_attn.", i)
            x = x + feed(w.rms(x, p + "post_attention_layernorm", 1e-6), p, i)
        x = w.rms(x, "model.norm", 1e-6)
        return x @ table.T if tied else w.linear(x, "lm_head", VOCAB)
    return config, forward


def llama(w, **more):
    return llama_like(w, "llama", "LlamaForCausalLM", **more)


def mistral(w):
    return llama_like(w, "mistral", "MistralForCausalLM", window_of=lambda i: 5, extra={"sliding_window": 5})


def qwen2(w):
    return llama_like(w, "qwen2", "Qwen2ForCausalLM", head=4, qkv_bias=True, theta=1e6, layers=3,
                      window_of=lambda i: 6 if i >= 1 else None,
                      extra={"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1})


def qwen3(w):
    return llama_like(w, "qwen3", "Qwen3ForCausalLM", qk_norm=True, theta=1e6, tied=True,
                      extra={"attention_bias": False, "use_sliding_window": False, "sliding_window": None, "max_window_layers": 2})


def phi3(w, partial=1.0, rope=None, window=None, max_positions=48):
    return llama_like(w, "phi3", "Phi3ForCausalLM", head=8, hidden=48, fused=True, partial=partial, rope=rope, max_positions=max_positions,
                      window_of=lambda i: window,
                      extra={"sliding_window": window, "original_max_position_embeddings": 12, "partial_rotary_factor": partial,
                             "pad_token_id": 0})


def mixtral(w):
    def moe(x, p):
        p += "block_sparse_moe."
        return routed(w, x, p + "gate", p + "experts", 22, 5, 2, True, ("w1", "w3", "w2"))
    return llama_like(w, "mixtral", "MixtralForCausalLM", head=4, inner=22, mlp=lambda i: moe,
                      extra={"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None})


def qwen_moe(w, version):
    names = ("gate_proj", "up_proj", "down_proj")

    def moe(x, p):
        p += "mlp."
        y = routed(w, x, p + "gate", p + "experts", 14, 6, 3, version == 3, names)
        if version == 2:
            shared = gated(w, x, p + "shared_expert.", 26)
            y = y + torch.sigmoid(w.linear(x, p + "shared_expert_gate", 1)) * shared
        return y
    extra = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 14, "decoder_sparse_step": 1, "mlp_only_layers": [1],
             "norm_topk_prob": version == 3, "sliding_window": None, "use_sliding_window": False}
    if version == 2:
        extra["shared_expert_intermediate_size"] = 26
    return llama_like(w, f"qwen{version}_moe", f"Qwen{version}MoeForCausalLM", head=4 if version == 2 else 10, layers=3,
                      qkv_bias=version == 2, qk_norm=version == 3, mlp=lambda i: None if i == 1 else moe, extra=extra)


def gemma(w, version, hidden=20, inner=34, heads=4, kv=2, head=12, layers=3):
    text = {2: {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.5, "query_pre_attn_scalar": 18, "sliding_window": 4},
            3: {"query_pre_attn_scalar": 18, "sliding_window": 4, "sliding_window_pattern": 3, "rope_local_base_freq": 500.0,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0}}}.get(version, {})
    theta = 1e6 if version == 3 else 10000.0
    config = {"architectures": [{1: "GemmaForCausalLM", 2: "Gemma2ForCausalLM", 3: "Gemma3ForCausalLM"}[version]],
              "model_type": {1: "gemma", 2: "gemma2", 3: "gemma3_text"}[version], "hidden_size": hidden, "intermediate_size": inner,
              "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": head, "num_hidden_layers": layers, "vocab_size": VOCAB,
              "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": theta, "hidden_activation": "gelu_pytorch_tanh",
              "torch_dtype": "float32", **text}
    if version == 1:
        config["hidden_act"] = "gelu"

    def attention(x, p, i):
        q = heads_of(w.linear(x, p + "q_proj", heads * head, gain=1.5), heads)
        k, v = (heads_of(w.linear(x, p + n, kv * head, gain=1.5), kv) for n in ("k_proj", "v_proj"))
        scale, window, base, rule = head ** -0.5, None, theta, None
        if version >= 2:
            scale = 18 ** -0.5
        if version == 2 and i % 2 == 0:
            window = 4
        if version == 3:
            q, k = (w.rms(t, p + n, 1e-6, stored_less=1.0) for t, n in ((q, "q_norm"), (k, "k_norm")))
            if i == 2:
                rule = text["rope_scaling"]
            else:
                window, base = 4, 500.0
        q, k = rotate(q, head, base, rule), rotate(k, head, base, rule)
        return w.linear(attend(q, k, v, scale, window, 3.0 if version == 2 else None), p + "o_proj", hidden)

    def forward(tokens):
        def norm(x, name):
            return w.rms(x, name, 1e-6, stored_less=1.0)
        table = w.get("model.embed_tokens.weight", VOCAB, hidden, std=0.3)
        x = table[tokens] * math.sqrt(hidden)
        for i in range(layers):
            p = f"model.layers.{i}."
            y = attention(norm(x, p + "input_layernorm"), p + "self_attn.", i)
            if version == 1:
                x = x + y
                x = x + gated(w, norm(x, p + "post_attention_layernorm"), p + "mlp.", inner, gelu_tanh)
            else:
                x = x + norm(y, p + "post_attention_layernorm")
                y = gated(w, norm(x, p + "pre_feedforward_layernorm"), p + "mlp.", inner, gelu_tanh)
                x = x + norm(y, p + "post_feedforward_layernorm")
        y = norm(x, "model.norm") @ table.T
        return 2.5 * torch.tanh(y / 2.5) if version == 2 else y
    return config, forward


def phi(w, qk_norm=False, partial=0.4, hidden=60, heads=6, kv=3, inner=70, layers=2):
    head = hidden // heads
    config = {"architectures": ["PhiForCausalLM"], "model_type": "phi", "hidden_size": hidden, "intermediate_size": inner,
              "num_attention_heads": heads, "num_key_value_heads": kv, "num_hidden_layers": layers, "vocab_size": VOCAB,
              "max_position_embeddings": 64, "layer_norm_eps": 1e-5, "partial_rotary_factor": partial, "rope_theta": 10000.0,
              "rope_scaling": None, "hidden_act": "gelu_new", "qk_layernorm": qk_norm, "tie_word_embeddings": False}

    def forward(tokens):
        x = w.get("model.embed_tokens.weight", VOCAB, hidden, std=1.0)[tokens]
        for i in range(layers):
            p = f"model.layers.{i}."
            a = w.layernorm(x, p + "input_layernorm", 1e-5)
            q, k, v = (heads_of(w.linear(a, f"{p}self_attn.{n}_proj", m * head, True), m) for n, m in (("q", heads), ("k", kv), ("v", kv)))
            if qk_norm:
                q, k = w.layernorm(q, p + "self_attn.q_layernorm", 1e-5), w.layernorm(k, p + "self_attn.k_layernorm", 1e-5)
            q, k = rotate(q, int(head * partial)), rotate(k, int(head * partial))
            y = w.linear(attend(q, k, v, head ** -0.5), p + "self_attn.dense", hidden, True)
            x = x + y + w.linear(gelu_tanh(w.linear(a, p + "mlp.fc1", inner, True)), p + "mlp.fc2", hidden, True)
        return w.linear(w.layernorm(x, "model.final_layernorm", 1e-5), "lm_head", VOCAB, True)
    return config, forward


def gpt2(w, prefix="", by_layer=False, inner=None, hidden=30, heads=5, layers=3):
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads,
              "n_positions": 40, "n_ctx": 40, "n_inner": inner, "vocab_size": VOCAB, "layer_norm_epsilon": 1e-5,
              "activation_function": "gelu_new", "scale_attn_by_inverse_layer_idx": by_layer}

    def forward(tokens):
        table = w.get(prefix + "wte.weight", VOCAB, hidden, std=0.5)
        x = table[tokens] + w.get(prefix + "wpe.weight", 40, hidden, std=0.5)[:len(tokens)]
        for i in range(layers):
            p = f"{prefix}h.{i}."
            q, k, v = (heads_of(t, heads) for t in w.conv1d(w.layernorm(x, p + "ln_1", 1e-5), p + "attn.c_attn", 3 * hidden).chunk(3, 1))
            y = attend(q, k, v, (hidden // heads) ** -0.5 / (i + 1 if by_layer else 1))
            x = x + w.conv1d(y, p + "attn.c_proj", hidden)
            y = gelu_tanh(w.conv1d(w.layernorm(x, p + "ln_2", 1e-5), p + "mlp.c_fc", inner or 4 * hidden))
            x = x + w.conv1d(y, p + "mlp.c_proj", hidden)
        return w.layernorm(x, prefix + "ln_f", 1e-5) @ table.T
    return config, forward


def gpt_neo(w, hidden=28, heads=4, layers=4):
    config = {"architectures": ["GPTNeoForCausalLM"], "model_type": "gpt_neo", "hidden_size": hidden, "num_layers": layers,
              "num_heads": heads, "intermediate_size": None, "window_size": 5, "max_position_embeddings": 40, "vocab_size": VOCAB,
              "attention_types": [[["global", "local"], 2]], "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}

    def forward(tokens):
        table = w.get("transformer.wte.weight", VOCAB, hidden, std=0.5)
        x = table[tokens] + w.get("transformer.wpe.weight", 40, hidden, std=0.5)[:len(tokens)]
        for i in range(layers):
            p = f"transformer.h.{i}."
            a = w.layernorm(x, p + "ln_1", 1e-5)
            q, k, v = (heads_of(w.linear(a, f"{p}attn.attention.{n}_proj", hidden, gain=0.7), heads) for n in "qkv")
            x = x + w.linear(attend(q, k, v, 1.0, 5 if i % 2 else None), p + "attn.attention.out_proj", hidden, True)
            y = gelu_tanh(w.linear(w.layernorm(x, p + "ln_2", 1e-5), p + "mlp.c_fc", 4 * hidden, True))
            x = x + w.linear(y, p + "mlp.c_proj", hidden, True)
        return w.layernorm(x, "transformer.ln_f", 1e-5) @ table.T
    return config, forward


def gpt_neox(w, parallel=True, hidden=48, heads=4, inner=50, layers=2):
    head = hidden // heads
    config = {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": hidden, "intermediate_size": inner,
              "num_attention_heads": heads, "num_hidden_layers": layers, "vocab_size": VOCAB, "max_position_embeddings": 64,
              "layer_norm_eps": 1e-5, "rotary_pct": 0.5, "rotary_emb_base": 10000, "hidden_act": "gelu",
              "use_parallel_residual": parallel, "tie_word_embeddings": False}

    def forward(tokens):
        def mlp(a, p):
            return w.linear(gelu_erf(w.linear(a, p + "mlp.dense_h_to_4h", inner, True)), p + "mlp.dense_4h_to_h", hidden, True)
        x = w.get("gpt_neox.embed_in.weight", VOCAB, hidden, std=1.0)[tokens]
        for i in range(layers):
            p = f"gpt_neox.layers.{i}."
            a = w.linear(w.layernorm(x, p + "input_layernorm", 1e-5), p + "attention.query_key_value", 3 * hidden, True)
            q, k, v = a.reshape(len(x), heads, 3, head).unbind(2)
            q, k = rotate(q, head // 2), rotate(k, head // 2)
            y = w.linear(attend(q, k, v, head ** -0.5), p + "attention.dense", hidden, True)
            if parallel:
                x = x + y + mlp(w.layernorm(x, p + "post_attention_layernorm", 1e-5), p)
            else:
                x = x + y
                x = x + mlp(w.layernorm(x, p + "post_attention_layernorm", 1e-5), p)
        return w.linear(w.layernorm(x, "gpt_neox.final_layer_norm", 1e-5), "embed_out", VOCAB)
    return config, forward


def opt(w, post=False, prefix="model.decoder.", hidden=36, word=36, heads=4, inner=52, layers=2):
    config = {"architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": hidden, "word_embed_proj_dim": word,
              "num_attention_heads": heads, "ffn_dim": inner, "num_hidden_layers": layers, "max_position_embeddings": 40,
              "vocab_size": VOCAB, "do_layer_norm_before": not post, "_remove_final_layer_norm": False, "activation_function": "relu"}

    def forward(tokens):
        table = w.get(prefix + "embed_tokens.weight", VOCAB, word, std=0.5)
        x = table[tokens]
        if word != hidden:
            x = w.linear(x, prefix + "project_in", hidden)
        x = x + w.get(prefix + "embed_positions.weight", 42, hidden, std=0.5)[2:2 + len(tokens)]

        def around(x, name, part):
            return w.layernorm(x + part(x), name, 1e-5) if post else x + part(w.layernorm(x, name, 1e-5))
        for i in range(layers):
            p = f"{prefix}layers.{i}."

            def attention(a):
                q, k, v = (heads_of(w.linear(a, f"{p}self_attn.{n}_proj", hidden, True), heads) for n in "qkv")
                return w.linear(attend(q, k, v, (hidden // heads) ** -0.5), p + "self_attn.out_proj", hidden, True)
            x = around(x, p + "self_attn_layer_norm", attention)
            x = around(x, p + "final_layer_norm",
                       lambda a: w.linear(torch.relu(w.linear(a, p + "fc1", inner, True)), p + "fc2", hidden, True))
        if not post:
            x = w.layernorm(x, prefix + "final_layer_norm", 1e-5)
        return (w.linear(x, prefix + "project_out", word) if word != hidden else x) @ table.T
    return config, forward
