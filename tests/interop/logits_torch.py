#!/usr/bin/env python3
"""Language models of every architecture that is known: a small random checkpoint is written, our logits of some sequences in one
ragged batch are compared with those of a reference written from the published formulas (PyTorch, f64, one sequence at a time).

usage: logits_torch.py DUMP_LOGITS [NAME...]
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    print("1..0 # SKIP this Python has no torch")
    sys.exit(0)

import logits_models as m
import logits_scans as s
from logits_pieces import Weights

BAR = 1e-4 # of the logits' spread
LENGTHS = [13, 1, 30, 2, 7]

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
YARN_MORE = {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 40, "beta_fast": 8, "beta_slow": 0.5,
             "mscale": 1.3, "mscale_all_dim": 0.7, "truncate": False}
LONG = {"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.7], "long_factor": [1.2, 2.0, 3.5, 7.0]}
SU = {"type": "su", "short_factor": [1.0, 1.2, 1.5], "long_factor": [1.1, 2.5, 5.0]}

CASES = {
    "llama": m.llama,
    "llama, biases, tied": lambda w: m.llama(w, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True,
                                             extra={"attention_bias": True, "mlp_bias": True}),
    "llama, rope linear": lambda w: m.llama(w, rope={"type": "linear", "factor": 2.5}),
    "llama, rope dynamic": lambda w: m.llama(w, rope={"rope_type": "dynamic", "factor": 2.0}, max_positions=12),
    "llama, rope llama3": lambda w: m.llama(w, rope=LLAMA3, theta=5e4),
    "llama, rope yarn": lambda w: m.llama(w, rope=YARN, max_positions=128),
    "llama, rope yarn, mscale": lambda w: m.llama(w, rope=YARN_MORE, max_positions=120, head=14),
    "mistral, sliding window": m.mistral,
    "qwen2": m.qwen2,
    "qwen3": m.qwen3,
    "gemma": lambda w: m.gemma(w, 1),
    "gemma2": lambda w: m.gemma(w, 2),
    "gemma3": lambda w: m.gemma(w, 3),
    "phi": m.phi,
    "phi, qk_layernorm": lambda w: m.phi(w, qk_norm=True, partial=0.5, hidden=48),
    "phi3": lambda w: m.phi3(w, window=9),
    "phi3, longrope": lambda w: m.phi3(w, rope=LONG),
    "phi3, su, partial": lambda w: m.phi3(w, partial=0.75, rope=SU),
    "gpt2": lambda w: m.gpt2(w),
    "gpt2, prefix, by layer": lambda w: m.gpt2(w, "transformer.", True, 46),
    "gpt_neo": m.gpt_neo,
    "gpt_neox": m.gpt_neox,
    "gpt_neox, sequential": lambda w: m.gpt_neox(w, parallel=False),
    "opt": m.opt,
    "opt, post-norm, projected": lambda w: m.opt(w, post=True, word=22),
    "opt, old names": lambda w: m.opt(w, prefix="decoder."),
    "mixtral": m.mixtral,
    "qwen2_moe": lambda w: m.qwen_moe(w, 2),
    "qwen3_moe": lambda w: m.qwen_moe(w, 3),
    "mamba": s.mamba,
    "mamba, biases": lambda w: s.mamba(w, bias=True, rank=2, kernel=3),
    "mamba2": s.mamba2,
    "mamba2, one group, tied": lambda w: s.mamba2(w, groups=1, tied=True),
    "rwkv5.2, rwkv.cpp": s.rwkv5,
    "rwkv5.2, raw": lambda w: s.rwkv5(w, converted=False),
}


def write_safetensors(path, tensors):
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        t = tensors[name]
        head[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + 4 * t.numel()]}
        at += 4 * t.numel()
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            f.write(tensors[name].contiguous().numpy().tobytes())


def write_folder(folder, config, tensors):
    os.makedirs(folder, exist_ok=True)
    if config is not None:
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f, indent=2)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)


def run_ours(dump, folder, ids):
    return subprocess.run([dump, folder] + [",".join(map(str, t.tolist())) for t in ids], capture_output=True)


def made(make, seed):
    """(config, tensors, sequences, logits)"""
    w = Weights(seed)
    config, forward = make(w)
    gen = torch.Generator().manual_seed(seed + 1)
    ids = [torch.randint(0, 97, (n,), generator=gen) for n in LENGTHS] # 97: the smallest vocabulary
    with torch.no_grad():
        want = torch.cat([forward(t) for t in ids])
    return config, w.tensors, ids, want


def compare(dump, make, seed, folder):
    config, tensors, ids, want = made(make, seed)
    write_folder(folder, config, tensors)
    run = run_ours(dump, folder, ids)
    if run.returncode:
        return False, run.stderr.decode(errors="replace").strip() or f"exit code {run.returncode}"
    got = torch.frombuffer(bytearray(run.stdout), dtype=torch.float32).double()
    if got.numel() != want.numel():
        return False, f"{got.numel()} logits, {want.numel()} expected"
    spread = (want.max() - want.min()).item()
    worst = (got.reshape(want.shape) - want).abs().max().item() / spread
    return worst <= BAR, f"max|diff| / spread = {worst:.2e}, spread {spread:.2f}"


def main():
    dump, only = os.path.abspath(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    cases = {k: v for k, v in CASES.items() if not only or k in only}
    print(f"1..{len(cases)}")
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        for i, (name, make) in enumerate(cases.items()):
            ok, text = compare(dump, make, 1000 + list(CASES).index(name), os.path.join(tmp, str(i)))
            failed += not ok
            print(f"{'ok' if ok else 'not ok'} {i + 1} - {name}: {text}", flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
