#!/usr/bin/env python3
"""The forward pass of a llama-family model: ours against PyTorch's on the same cores, in turns in one run.

A checkpoint of the given size is made of random numbers (or CHECKPOINT is taken), both run the same tokens, and the ratio of the
medians is printed. PyTorch runs the plain formulation: F.linear, scaled products with a causal mask, softmax, RMSNorm.

usage: forward.py BENCH_FORWARD [--hidden N] [--ffn N] [--layers N] [--heads N] [--kv N] [--vocab N] [--sequences N] [--length N]
                  [--rounds N] [--threads N]
"""
import argparse
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("skipped: this Python has no torch")
    sys.exit(77)


def weights(a):
    torch.manual_seed(1)
    hd = a.hidden // a.heads
    w = {"model.embed_tokens.weight": (a.vocab, a.hidden), "model.norm.weight": (a.hidden,), "lm_head.weight": (a.vocab, a.hidden)}
    for i in range(a.layers):
        p = f"model.layers.{i}."
        w |= {p + "input_layernorm.weight": (a.hidden,), p + "post_attention_layernorm.weight": (a.hidden,),
              p + "self_attn.q_proj.weight": (a.heads * hd, a.hidden), p + "self_attn.k_proj.weight": (a.kv * hd, a.hidden),
              p + "self_attn.v_proj.weight": (a.kv * hd, a.hidden), p + "self_attn.o_proj.weight": (a.hidden, a.heads * hd),
              p + "mlp.gate_proj.weight": (a.ffn, a.hidden), p + "mlp.up_proj.weight": (a.ffn, a.hidden),
              p + "mlp.down_proj.weight": (a.hidden, a.ffn)}
    return {k: torch.ones(s) if len(s) == 1 else torch.randn(s) / math.sqrt(s[1]) for k, s in w.items()}


def write(folder, a, w):
    head, at = {}, 0
    for k, t in w.items():
        n = t.numel() * 4
        head[k] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in w.values():
            f.write(t.numpy().tobytes())
    json.dump({"architectures": ["LlamaForCausalLM"], "hidden_size": a.hidden, "intermediate_size": a.ffn, "num_hidden_layers": a.layers,
               "num_attention_heads": a.heads, "num_key_value_heads": a.kv, "vocab_size": a.vocab, "rms_norm_eps": 1e-5,
               "rope_theta": 10000.0, "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": False},
              open(os.path.join(folder, "config.json"), "w"))


def norm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w


def forward(a, w, tokens):
    hd = a.hidden // a.heads
    b, t = tokens.shape
    freq = 10000.0 ** (-torch.arange(0, hd, 2) / hd)
    angle = torch.arange(t)[:, None] * freq[None]
    cos, sin = torch.cat([angle.cos()] * 2, 1), torch.cat([angle.sin()] * 2, 1)

    def rope(x):
        return x * cos + torch.cat([-x[..., hd // 2:], x[..., :hd // 2]], -1) * sin

    mask = torch.full((t, t), -math.inf).triu(1)
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(a.layers):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"])
        q = F.linear(h, w[p + "self_attn.q_proj.weight"]).view(b, t, a.heads, hd).transpose(1, 2)
        k = F.linear(h, w[p + "self_attn.k_proj.weight"]).view(b, t, a.kv, hd).transpose(1, 2)
        v = F.linear(h, w[p + "self_attn.v_proj.weight"]).view(b, t, a.kv, hd).transpose(1, 2)
        q, k = rope(q), rope(k)
        k, v = (z.repeat_interleave(a.heads // a.kv, 1) for z in (k, v))
        y = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(hd) + mask, -1) @ v
        x = x + F.linear(y.transpose(1, 2).reshape(b, t, -1), w[p + "self_attn.o_proj.weight"])
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        x = x + F.linear(F.silu(F.linear(h, w[p + "mlp.gate_proj.weight"])) * F.linear(h, w[p + "mlp.up_proj.weight"]), w[p + "mlp.down_proj.weight"])
    return F.linear(norm(x, w["model.norm.weight"]), w["lm_head.weight"])


def main():
    o = argparse.ArgumentParser()
    o.add_argument("bench")
    for k, v in {"hidden": 1024, "ffn": 2816, "layers": 6, "heads": 16, "kv": 8, "vocab": 8192, "sequences": 2, "length": 512, "rounds": 5,
                 "threads": len(os.sched_getaffinity(0))}.items():
        o.add_argument("--" + k, type=int, default=v)
    a = o.parse_args()
    torch.set_num_threads(a.threads)
    w = weights(a)
    n = a.sequences * a.length
    tokens = (torch.arange(n) * 7919 % a.vocab).view(a.sequences, a.length)
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        write(folder, a, w)
        forward(a, w, tokens)
        for _ in range(a.rounds):
            began = time.perf_counter()
            forward(a, w, tokens)
            theirs.append(time.perf_counter() - began)
            r = subprocess.run([a.bench, folder, str(a.sequences), str(a.length), "1", str(a.threads)], capture_output=True, text=True, check=True)
            ours.append(json.loads(r.stdout))
    mid = len(ours) // 2
    t_ours, t_theirs = sorted(r["seconds"] for r in ours)[mid], sorted(theirs)[mid]
    share = sorted(r["share_of_sgemm"] for r in ours)[mid]
    params = sum(t.numel() for t in w.values())
    print(f"{params / 1e6:.1f} M parameters (hidden {a.hidden}, ffn {a.ffn}, {a.layers} layers), {a.sequences} x {a.length} tokens, {a.threads} threads")
    print(f"PyTorch {torch.__version__} / ours: {t_theirs / t_ours:.2f}   share of sgemm's rate: {share:.2f}")


if __name__ == "__main__":
    main()
