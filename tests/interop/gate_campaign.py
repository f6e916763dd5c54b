#!/usr/bin/env python3
"""What quern gate says of damaged models, and of honest ones that were made or measured in other ways.

usage: gate_campaign.py QUERN TESTDATA [damaged] [honest] [--runs=N]

damaged: every case must fail (exit code 1, or 3 where the file itself is broken) and the output must name what is damaged.
honest: N runs (200) over threads, batches, memory limits, instruction sets, BLAS kernels, recompressed files and other containers of the same
weights; none may fail or be inconclusive. The whole takes some minutes; tests/cli/gate.sh has a short part of both.
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

LAYER = "model.layers.%d."


class Model:
    """The tensors of a safetensors file as arrays of 16-bit patterns of BF16."""

    def __init__(self, path):
        self.path = path
        raw = path.read_bytes()
        n = struct.unpack("<Q", raw[:8])[0]
        head = json.loads(raw[8:8 + n])
        self.meta = head.pop("__metadata__", None)
        self.t = {}
        for name, e in head.items():
            a, b = e["data_offsets"]
            self.t[name] = np.frombuffer(raw[8 + n + a:8 + n + b], np.uint16).reshape(e["shape"]).copy()

    def get(self, name):
        return (self.t[name].astype(np.uint32) << 16).view(np.float32)

    def put(self, name, v):
        u = np.ascontiguousarray(v, np.float32).view(np.uint32)
        self.t[name] = ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)

    def save(self):
        head, at, parts = {}, 0, []
        if self.meta:
            head["__metadata__"] = self.meta
        for name, v in self.t.items():
            head[name] = {"dtype": "BF16", "shape": list(v.shape), "data_offsets": [at, at + v.nbytes]}
            at += v.nbytes
            parts.append(np.ascontiguousarray(v).tobytes())
        h = json.dumps(head).encode()
        h += b" " * (-len(h) % 8)
        self.path.write_bytes(struct.pack("<Q", len(h)) + h + b"".join(parts))


class Bench:
    def __init__(self, quern, data):
        self.quern, self.data = quern, data
        self.model = data / "stories260k-bf16"
        self.text = ["--data", str(data / "tinystories-eval.txt"), "--context", "128"]
        self.dir = pathlib.Path(tempfile.mkdtemp())
        self.stats = self.dir / "m.qstats"
        self.run(["calibrate", self.model, "--data", data / "tinystories-calib.txt", "--documents", "--chunks", "100", "-o", self.stats, "-q"])
        self.packed = self.compress("m4", ["--codec", "grid", "--bits", "4"])
        self.baseline = self.dir / "b.json"
        self.run(["gate", self.packed, "--against", self.model, *self.text, "--write-baseline", self.baseline, "--reason", "campaign", "-q"])
        self.plain = self.dir / "b-lossless.json"
        self.run(["gate", self.model, "--against", self.model, *self.text, "--write-baseline", self.plain, "--reason", "campaign", "-q"])
        self.decoded = self.dir / "decoded"
        self.run(["decompress", self.packed, "-o", self.decoded, "-q"])

    def run(self, args, env=None, want=0):
        p = subprocess.run([str(self.quern), *map(str, args)], capture_output=True, text=True, env={**os.environ, **(env or {})})
        if want is not None and p.returncode != want:
            sys.exit(f"quern {' '.join(map(str, args))}: {p.returncode}\n{p.stdout}{p.stderr}")
        return p

    def compress(self, name, options, source=None, env=None):
        out = self.dir / (name + ".quern")
        stats = [] if source else ["--stats", self.stats]  # they belong to the model as it is
        self.run(["compress", source or self.model, *stats, *options, "-o", out, "-f", "-q"], env)
        return out

    def copy(self, source=None):
        to = self.dir / "damaged"
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(source or self.decoded, to)
        for f in to.iterdir():
            f.chmod(0o644)
        return to, Model(to / "model.safetensors")


def codes_flipped(m, names, share, rng):
    """Another code of the same row's codebook in the place of each of a share of the weights."""
    for name in names:
        w = m.t[name]
        n = max(1, round(w.size * share))
        for i in rng.choice(w.size, n, replace=False):
            r, c = divmod(int(i), w.shape[1])
            group = w[r, c // 32 * 32:c // 32 * 32 + 32]
            other = group[group != w[r, c]]
            if other.size:
                w[r, c] = rng.choice(other)


def damaged(b):
    rng = np.random.default_rng(7)
    q, o = LAYER % 1 + "self_attn.q_proj.weight", LAYER % 2 + "self_attn.o_proj.weight"
    gate, up, down = (LAYER % 2 + f"mlp.{x}_proj.weight" for x in ("gate", "up", "down"))
    matrices = [n for n, w in Model(b.model / "model.safetensors").t.items() if w.ndim == 2 and "layers" in n]

    def edit(fn, source=None):
        def make():
            folder, m = b.copy(source)
            fn(m)
            m.save()
            return folder
        return make

    def transposed(m, name, keep_shape):
        w = m.t[name]
        m.t[name] = w.T.copy().reshape(w.shape) if keep_shape else w.T.copy()

    def scale(m, name, rows, cols, k):
        w = m.get(name).copy()
        w[rows, cols] *= k
        m.put(name, w)

    def swap_layers(m, x, y):
        for n in [n for n in m.t if n.startswith(LAYER % x)]:
            k = n.replace(LAYER % x, LAYER % y)
            m.t[n], m.t[k] = m.t[k], m.t[n]

    def copy_layer(m, src, dst):
        for n in [n for n in m.t if n.startswith(LAYER % src)]:
            m.t[n.replace(LAYER % src, LAYER % dst)] = m.t[n].copy()

    def bits_flipped(m):
        w = m.t[down].reshape(-1)
        for i in rng.choice(w.size, max(1, w.size // 1000), replace=False):
            w[i] ^= 1 << int(rng.integers(16))
        w[(w & 0x7F80) == 0x7F80] &= 0xBFFF  # no infinities: those are another case

    def tokenizer(change):
        def make():
            folder, _ = b.copy()
            p = folder / "tokenizer.json"
            t = json.loads(p.read_text())
            change(t)
            p.write_text(json.dumps(t))
            return folder
        return make

    def two_tokens_swapped(t):
        v = t["model"]["vocab"]
        if isinstance(v, dict):
            names = sorted(v, key=v.get)
            v[names[300]], v[names[301]] = v[names[301]], v[names[300]]
        else:
            v[300], v[301] = v[301], v[300]

    def no_merges(t):
        if "merges" in t["model"]:
            t["model"]["merges"] = t["model"]["merges"][: len(t["model"]["merges"]) // 2]
        else:
            for e in t["model"]["vocab"][300:]:
                e[1] -= 1

    def damaged_source(fn, options=("--codec", "grid", "--bits", "4")):
        def make():
            folder, m = b.copy(b.model)
            fn(m)
            m.save()
            return b.compress("bad", options, folder)
        return make

    def recipe(text):
        def make():
            r = b.dir / "r.yaml"
            r.write_text(text)
            return b.compress("recipe", ["--recipe", r])
        return make

    def broken_bytes():
        out = b.dir / "broken.quern"
        raw = bytearray(b.packed.read_bytes())
        for i in range(len(raw) // 2, len(raw) // 2 + 40):
            raw[i] ^= 0x55
        out.write_bytes(raw)
        return out

    def pairs_for_halves(m):
        w = m.t[q].reshape(8, 2, 4, 64)
        m.t[q] = w.transpose(0, 2, 1, 3).reshape(64, 64).copy()

    def drop(m):
        del m.t[up]

    def nan(m):
        m.t[gate][3, 5] = 0x7FC0

    cases = [
        ("square matrix transposed", edit(lambda m: transposed(m, q, True)), [q, "transposed"]),
        ("matrix transposed, shape kept", edit(lambda m: transposed(m, gate, True)), [gate, "transposed"]),
        ("matrix transposed, shape too", edit(lambda m: transposed(m, gate, False)), [gate, "64×172"]),
        ("transposed before quantizing", damaged_source(lambda m: transposed(m, o, True)), [o, "transposed"]),
        ("one scale doubled: tensor", edit(lambda m: scale(m, o, slice(None), slice(None), 2)), [o, "2 ×"]),
        ("one scale doubled: row", edit(lambda m: scale(m, down, 17, slice(None), 2)), [down, "row 17", "2 ×"]),
        ("one scale doubled: group", edit(lambda m: scale(m, up, 5, slice(0, 32), 2)), [up]),
        ("norm scaled by 1.1", edit(lambda m: m.put(LAYER % 3 + "input_layernorm.weight", 1.1 * m.get(LAYER % 3 + "input_layernorm.weight"))),
         [LAYER % 3 + "input_layernorm.weight"]),
        ("layers 1 and 3 swapped", edit(lambda m: swap_layers(m, 1, 3)), ["layer 1", "layer 3"]),
        ("layers 1 and 3 swapped in the source", damaged_source(lambda m: swap_layers(m, 1, 3)), ["layer 1", "layer 3"]),
        ("layer 2 is a copy of layer 1", edit(lambda m: copy_layer(m, 1, 2)), ["layer 2", "layer 1 of the reference"]),
        ("0.1 % of codes flipped, one tensor", edit(lambda m: codes_flipped(m, [down], 0.001, rng)), [down]),
        ("0.1 % of codes flipped, everywhere", edit(lambda m: codes_flipped(m, matrices, 0.001, rng)), ["weight"]),
        ("0.1 % of bits flipped, dense", edit(bits_flipped, b.model), [down]),
        ("two tensors swapped", edit(lambda m: m.t.update({gate: m.t[up].copy(), up: m.t[gate].copy()})), [gate, up]),
        ("sign of a tensor", edit(lambda m: m.put(q, -m.get(q))), [q, "-1 ×"]),
        ("a tensor of zeros", edit(lambda m: m.put(down, 0 * m.get(down))), [down, "all zero"]),
        ("rows of the embedding shifted", edit(lambda m: m.t.update({"model.embed_tokens.weight": np.roll(m.t["model.embed_tokens.weight"], 1, 0)})),
         ["model.embed_tokens.weight"]),
        ("q rows in the order of another format", edit(pairs_for_halves), [q]),
        ("one NaN", edit(nan), [gate, "NaN"]),
        ("a tensor is missing", edit(drop), [up, "only in the reference"]),
        ("tokenizer: two tokens swapped", tokenizer(two_tokens_swapped), ["tokenizer", "token 30"]),
        ("tokenizer: other merges or scores", tokenizer(no_merges), ["tokenizer"]),
        ("3 bits where 4 were", recipe(f"codec: grid\nbits: 4\ntensors:\n  - match: '{down}'\n    bits: 3\n"), [down]),
        ("another recipe: 3 bits everywhere", recipe("codec: grid\nbits: 3\n"), ["weight"]),
        ("bytes of the file changed", broken_bytes, ["checksum", "model."]),
    ]
    bad = 0
    for what, make, names in cases:
        dense = what.endswith("dense")
        began = time.time()
        p = b.run(["gate", make(), "--against", b.model, *b.text, "--baseline", b.plain if dense else b.baseline], want=None)
        out = p.stdout + p.stderr
        ok = p.returncode == (3 if "bytes of the file" in what else 1) and all(n in out for n in names)
        bad += not ok
        first = next((line.strip() + " " + nxt.strip() for line, nxt in zip(out.splitlines(), out.splitlines()[1:] + [""]) if "FAIL" in line), out.strip())
        print(f"{'ok  ' if ok else 'BAD '} {time.time() - began:4.1f} s  exit {p.returncode}  {what}: {first[:170]}", flush=True)
        if not ok:
            print(out)
    print(f"damaged: {len(cases) - bad} of {len(cases)} fail and name it")
    return bad


def honest(b, runs):
    lossless = b.dir / "decoded.quern"
    b.run(["compress", b.decoded, "-o", lossless, "-q", "-f"])
    variants = []
    for t in (1, 2, 3, 5, 8):
        for batch in (128, 300, 1024, 4096):
            variants.append((f"threads {t}, batch {batch}", b.packed, ["--threads", t, "--batch", batch], {}))
    for memory in ("34M", "40M", "64M", "1G"):
        variants.append((f"memory {memory}", b.packed, ["--memory", memory], {}))
    for cpu in ("scalar", "avx2", "avx512"):
        variants.append((f"measured on {cpu}", b.packed, [], {"QUERN_CPU": cpu}))
    for core in ("Haswell", "SkylakeX", "Zen", "Prescott"):
        variants.append((f"BLAS {core}", b.packed, [], {"OPENBLAS_CORETYPE": core}))
    variants.append(("decoded folder", b.decoded, [], {}))
    variants.append(("decoded folder, packed without loss", lossless, [], {}))
    made = 0
    for t in (1, 2, 4):
        for cpu in ("scalar", "avx512"):
            for core in ("Haswell", "SkylakeX", "Prescott"):
                made += 1
                env = {"QUERN_CPU": cpu, "OPENBLAS_CORETYPE": core}
                out = b.compress(f"again{made}", ["--codec", "grid", "--bits", "4", "--threads", t], env=env)
                variants.append((f"recompressed: {t} threads, {cpu}, {core}", out, [], {}))
    sizes = b.dir / "no-size.yaml"
    sizes.write_text("vs_baseline: {kld_mean: +10%, kld_p99: +30%, top1: -1%, ppl_ratio: +1%}\n")
    false, slowest = 0, 0.0
    for i in range(runs):
        what, model, options, env = variants[i % len(variants)]
        extra = ["--threads", 1 + i % 4] if i >= len(variants) and "--threads" not in options else []
        if "decoded" in what:  # the same weights in a larger file
            extra = extra + ["--thresholds", sizes]
        began = time.time()
        p = b.run(["gate", model, "--against", b.model, *b.text, "--baseline", b.baseline, *options, *extra], env, want=None)
        slowest = max(slowest, time.time() - began)
        if p.returncode != 0:
            false += 1
            print(f"BAD  exit {p.returncode}  {what}\n{p.stdout}{p.stderr}", flush=True)
    print(f"honest: {runs} runs of {len(variants)} kinds, {false} false failures, the slowest {slowest:.1f} s")
    return false


def main():
    words = [a for a in sys.argv[3:] if not a.startswith("--")]
    runs = next((int(a[7:]) for a in sys.argv if a.startswith("--runs=")), 200)
    b = Bench(pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(sys.argv[2]).absolute())
    bad = 0
    try:
        if not words or "damaged" in words:
            bad += damaged(b)
        if not words or "honest" in words:
            bad += honest(b, runs)
    finally:
        shutil.rmtree(b.dir)
    sys.exit(bad != 0)


main()
