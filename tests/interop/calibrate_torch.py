#!/usr/bin/env python3
"""Calibration against taps in a reference forward pass: a small random model is written, `quern calibrate` runs some sequences through
it, and for every weight the rows seen, H, sums and extremes are compared with those of what the reference (PyTorch, f64) hands to
the same weight.

How H is summed from given inputs is measured elsewhere, to 1e-6. Here the inputs come from two forward passes, ours in f32, so
that an input differs by some 1e-6 of the usual size of its row: the bar is 1e-4 of sqrt(H_ii H_jj). Rows are counted exactly, those that
a router sends to each expert too.

usage: calibrate_torch.py QUERN STATS_TOOL
"""
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
import logits_pieces as pieces
from logits_torch import write_folder

BAR = 1e-4
SEQUENCES, LENGTH = 11, 23


class Taps(pieces.Weights):
    """Weights that keep what they are multiplied with."""

    def __init__(self, seed):
        super().__init__(seed)
        self.seen = {}

    def tap(self, name, x):
        self.seen.setdefault(name + ".weight", []).append(x.clone())

    def linear(self, x, name, *more, **named):
        self.tap(name, x)
        return super().linear(x, name, *more, **named)

    def conv1d(self, x, name, width):
        self.tap(name, x)
        return super().conv1d(x, name, width)


def routed(w, x, gate, experts, inner, n_experts, top, renormalise, names):
    """As in logits_pieces, but an expert is handed its own tokens only."""
    p = torch.softmax(w.linear(x, gate, n_experts, gain=2.0), -1)
    best = torch.argsort(p, 1, descending=True)[:, :top]
    out = torch.zeros_like(x)
    for e in range(n_experts):
        mine = (best == e).any(1)
        y = pieces.gated(w, x[mine], f"{experts}.{e}.", inner, names=names)
        share = p[mine, e] / (p[mine].gather(1, best[mine]).sum(1) if renormalise else 1.0)
        out[mine] += y * share[:, None]
    return out


def write_rows(path, rows):
    head = "{'descr': '<i8', 'fortran_order': False, 'shape': (%d, %d), }" % tuple(rows.shape)
    head += " " * (-(len(head) + 11) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + rows.contiguous().numpy().tobytes())


def measured(tool, path, name, n):
    run = subprocess.run([tool, "dump", path, name], capture_output=True)
    if run.returncode:
        raise AssertionError(f"{name}: not in the statistics ({run.stderr.decode().strip()})")
    raw = run.stdout
    count = struct.unpack_from("<Q", raw)[0]
    f64 = torch.frombuffer(bytearray(raw[8:8 + 8 * n * n + 24 * n]), dtype=torch.float64)
    ends = torch.frombuffer(bytearray(raw[8 + 8 * n * n + 24 * n:]), dtype=torch.float32).double()
    return count, f64[:n * n].reshape(n, n), f64[n * n:].reshape(3, n), ends.reshape(2, n)


def check(quern, tool, make, seed, folder, n_sequences=SEQUENCES, length=LENGTH):
    w = Taps(seed)
    config, forward = make(w)
    rows = torch.randint(0, 97, (n_sequences, length), generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        for t in rows:
            forward(t)
    write_folder(folder, config, w.tensors)
    write_rows(folder + "/t.npy", rows)
    # batches of three sequences: rows of one weight come in several pieces
    run = subprocess.run([quern, "calibrate", folder, "--data", folder + "/t.npy", "--batch", str(3 * length), "-o", folder + "/s", "-q"],
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr.strip()
    worst, fewest = 0.0, len(rows) * length
    for name, parts in w.seen.items():
        x = torch.cat(parts)
        n = x.shape[1]
        count, h, v, ends = measured(tool, folder + "/s", name, n)
        assert count == len(x), f"{name}: {count} rows, {len(x)} expected"
        fewest = min(fewest, count)
        want = x.T @ x
        if not count:
            assert not h.any() and not v.any() and not ends.any(), f"{name}: no rows, and sums"
            continue
        size = want.diagonal().sqrt()
        off = ((h - want).abs() / (size[:, None] * size[None, :])).max().item()
        total = x.abs().sum(0)
        off = max(off, ((v[0] - want.diagonal()).abs() / want.diagonal()).max().item(), ((v[1] - x.sum(0)).abs() / total).max().item(),
                  ((v[2] - total).abs() / total).max().item())
        big = x.abs().max(0).values
        off = max(off, ((ends[0] - x.min(0).values).abs() / big).max().item(), ((ends[1] - x.max(0).values).abs() / big).max().item())
        assert off <= BAR, f"{name}: off by {off:.2e}"
        worst = max(worst, off)
    return f"{len(w.seen)} weights, worst {worst:.1e}, fewest rows {fewest}"


CASES = {
    "llama": (m.llama,),
    "qwen2, biases": (m.qwen2,),
    "phi3, fused projections": (m.phi3,),
    "gpt2, weights (in, out)": (m.gpt2,),
    "mixtral": (m.mixtral,),
    "mixtral, experts that see nothing": (m.mixtral, 1, 2), # two tokens, two of five experts each
    "qwen2_moe, shared expert": (lambda w: m.qwen_moe(w, 2),),
    "qwen3_moe": (lambda w: m.qwen_moe(w, 3),),
}


def main():
    quern, tool = (os.path.abspath(p) for p in sys.argv[1:3])
    torch.set_num_threads(1)
    m.routed = routed
    print(f"1..{len(CASES)}")
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        for i, (name, (make, *sizes)) in enumerate(CASES.items()):
            try:
                good, text = True, check(quern, tool, make, 4000 + i, os.path.join(tmp, str(i)), *sizes)
            except AssertionError as e:
                good, text = False, str(e)
            failed += not good
            print(f"{'ok' if good else 'not ok'} {i + 1} - {name}: {text}", flush=True)
    return failed != 0


sys.exit(main())
