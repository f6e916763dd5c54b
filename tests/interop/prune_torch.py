#!/usr/bin/env python3
"""Cut language models of every architecture that can be cut: a small random checkpoint is cut at random (cut-model), and our logits of
what was written are compared with those of the PyTorch references of logits_torch.py, run over the model in its old shape with the same
weights at 0. The configuration must say the widths that the tensors have.

usage: prune_torch.py CUT_MODEL DUMP_LOGITS [NAME...]
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

import logits_torch as t
from logits_pieces import Weights

BAR = 1e-4 # of the logits' spread
DEPTH_ONLY = ("mamba", "mamba2")
NONE = ("rwkv5.2",)
# Their norms are RMS norms over the stream: its width can be cut too.
WIDE = ("llama", "mistral, sliding window", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "mixtral", "qwen2_moe", "qwen3_moe")


def load(folder):
    raw = open(os.path.join(folder, "model.safetensors"), "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + n])
    out = {}
    for name, v in head.items():
        if name != "__metadata__":
            b, e = v["data_offsets"]
            out[name] = torch.frombuffer(bytearray(raw[8 + n + b:8 + n + e]), dtype=torch.float32).reshape(v["shape"])
    return out


def params(tensors):
    return sum(v.numel() for v in tensors.values())


def one(cut, dump, name, make, seed, folder, wide):
    config, tensors, ids, dense = t.made(make, seed)
    depth = name.startswith(DEPTH_ONLY)
    source, out, zeroed = (os.path.join(folder, x) for x in ("source", "out", "zeroed"))
    t.write_folder(source, config, tensors)
    layers = config.get("num_hidden_layers", config.get("n_layer", config.get("num_layers", 0)))
    args = [cut, source, out, zeroed, "0" if depth else "0.4", str(seed)]
    if depth:
        args.append(str(layers - 1))
    if wide:
        args += ["", "wide"]
    run = subprocess.run(args, capture_output=True)
    if run.returncode:
        return False, run.stderr.decode(errors="replace").strip() or f"exit code {run.returncode}"
    w = Weights(seed)
    _, forward = make(w)
    zeros = load(zeroed)
    if set(zeros) != set(tensors) or any(zeros[k].shape != tensors[k].shape for k in zeros):
        return False, "the model with zeros has other tensors"
    w.tensors = zeros
    with torch.no_grad():
        want = torch.cat([forward(x) for x in ids])
    ours = t.run_ours(dump, out, ids)
    if ours.returncode:
        return False, ours.stderr.decode(errors="replace").strip()
    got = torch.frombuffer(bytearray(ours.stdout), dtype=torch.float32).double().reshape(want.shape)
    spread = (want.max() - want.min()).item()
    worst = (got - want).abs().max().item() / spread
    moved = (dense - want).abs().max().item() / spread
    left = params(load(out)) / params(tensors)
    said = run.stdout.decode().strip().replace("\n", ", ")
    return worst <= BAR and moved > 1e-2 and left < 0.99, \
        f"max|diff| / spread = {worst:.1e} (from the dense model {moved:.2f}), parameters {100 * left:.0f} %; {said}"


def main():
    cut, dump, only = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    cases = {k: v for k, v in t.CASES.items() if (not only or k in only) and not k.startswith(NONE)}
    runs = [(name, make, False) for name, make in cases.items()] + [(name, make, True) for name, make in cases.items() if name in WIDE]
    print(f"1..{len(runs)}")
    failed = 0
    for i, (name, make, wide) in enumerate(runs):
        with tempfile.TemporaryDirectory() as tmp:
            ok, text = one(cut, dump, name, make, 2000 + list(t.CASES).index(name), tmp, wide)
        failed += not ok
        print(f"{'ok' if ok else 'not ok'} {i + 1} - {name}{', hidden width' if wide else ''}: {text}", flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
