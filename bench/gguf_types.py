#!/usr/bin/env python3
"""Stock GGUF block types: the peer's encoder and ours, same bytes, side by side in one run. Markdown on stdout.

usage: gguf_types.py BUILD MODEL STATS TEXT WORK [--types A,B,…] [--chunks N] [--context N] [--no-imatrix] [--speed]

Every linear weight whose rows are whole blocks is written in the type, twice: by ggml_quantize_chunk of llama.cpp's libggml-base.so, with
importances that are the diagonal of STATS (as `quern stats --export-imatrix` gives them), and by `quern compress --codec=TYPE --stats=STATS`.
Both sets of blocks are decoded by that library and put in the place of the weights; embedding, head and the rest stay as they are. Then
`quern eval --against MODEL` tells the mean KL divergence of both. It is also checked that the library decodes our bytes to what we
decode, bit by bit, and that both need the same bytes. --no-imatrix: neither side gets statistics.
--speed: million weights a second of one core, ours against the peer's.

MODEL is a folder with one model.safetensors in F32. BUILD: a build folder with -Dbench=true. The library: see tests/interop/gguf_ggml.py (QUERN_NPM).
"""
import argparse
import ctypes
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import time

import numpy as np

TYPES = {"q1_0": 41, "iq1_s": 19, "tq1_0": 34, "iq1_m": 29, "iq2_xxs": 16, "tq2_0": 35, "q2_0": 42, "iq2_xs": 17, "iq2_s": 22, "q2_k": 10, "iq3_xxs": 18,
         "q3_k": 11, "iq3_s": 21, "iq4_xs": 23, "mxfp4": 39, "q4_0": 2, "q4_k": 12, "iq4_nl": 20, "nvfp4": 40, "q4_1": 3, "q5_0": 6, "q5_k": 13, "q5_1": 7,
         "q6_k": 14, "q8_0": 8}
NEEDS_IMATRIX = {"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq3_xxs"}


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def arguments():
    p = argparse.ArgumentParser()
    for name in ("build", "model", "stats", "text", "work"):
        p.add_argument(name, type=pathlib.Path)
    p.add_argument("--types")
    p.add_argument("--chunks", default="100")
    p.add_argument("--context", default="256")
    p.add_argument("--no-imatrix", action="store_true")
    p.add_argument("--speed", action="store_true")
    p.add_argument("--set", action="append", default=[], help="a further setting for ours, as gain=1.05")
    a = p.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    return a


def run(*args):
    r = subprocess.run([str(x) for x in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if r.returncode != 0:
        sys.exit(f"gguf_types: {' '.join(map(str, args))}: code {r.returncode}\n{r.stdout.decode()[-2000:]}")
    return r.stdout


# --- the peer ---------------------------------------------------------------------------------------------------------


def open_peer(build):
    for folder in filter(None, [os.environ.get("QUERN_NPM"), str(build)]):
        path = pathlib.Path(folder) / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so"
        if path.is_file():
            so = ctypes.CDLL(str(path))
            so.ggml_quantize_chunk.restype = ctypes.c_size_t
            so.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
            so.ggml_row_size.restype = ctypes.c_size_t
            so.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
            so.ggml_blck_size.restype = ctypes.c_int64
            so.ggml_blck_size.argtypes = [ctypes.c_int]
            so.ggml_quantize_init.argtypes = [ctypes.c_int]
            return so
    skip("no libggml-base.so (see the head of tests/interop/gguf_ggml.py, and QUERN_NPM)")


def encode(so, name, w, imatrix):
    rows, cols = w.shape
    out = np.empty(so.ggml_row_size(TYPES[name], cols) * rows, np.uint8)
    n = so.ggml_quantize_chunk(TYPES[name], w.ctypes.data, out.ctypes.data, 0, rows, cols, None if imatrix is None else imatrix.ctypes.data)
    assert n == out.size, (name, n, out.size)
    return out


def decode(so, name, blocks, shape):
    y = np.empty(shape, np.float32)
    f = getattr(so, "dequantize_row_" + (name if not name.endswith("_k") else name[:-1] + "K"))
    f.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    f.restype = None
    blocks = np.ascontiguousarray(blocks)
    f(blocks.ctypes.data, y.ctypes.data, y.size)
    return y


# --- files ------------------------------------------------------------------------------------------------------------


def read_safetensors(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + n])
    out = {}
    for name, t in head.items():
        if name == "__metadata__":
            continue
        if t["dtype"] != "F32":
            sys.exit(f"gguf_types: {name} is {t['dtype']}, F32 expected")
        a, b = t["data_offsets"]
        out[name] = np.frombuffer(raw, np.float32, (b - a) // 4, 8 + n + a).reshape(t["shape"])
    return raw[:8 + n], head, out


def write_model(a, head_bytes, head, tensors, to):
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(a.model, to, ignore=shutil.ignore_patterns("*.safetensors", "*.gguf", "*.bin"))
    order = sorted((t["data_offsets"][0], name) for name, t in head.items() if name != "__metadata__")
    with open(to / "model.safetensors", "wb") as f:
        f.write(head_bytes)
        for _, name in order:
            f.write(np.ascontiguousarray(tensors[name]).tobytes())


PARTS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def model_name(name):
    """Names of GGUF, as the file has them, to those of the folder."""
    block, layer, part = (name.split(".") + ["", ""])[:3]
    return f"model.layers.{layer}.{PARTS[part]}.weight" if block == "blk" and part in PARTS else name


def read_imatrix(a):
    """The older format: entries of name, calls, values; values are sums over the calls."""
    path = a.work / "imatrix.dat"
    run(a.build / "cli/quern", "stats", a.stats, "--export-imatrix", path, "--force")
    raw = path.read_bytes()
    at, out = 4, {}
    for _ in range(struct.unpack_from("<i", raw, 0)[0]):
        n = struct.unpack_from("<i", raw, at)[0]
        name = raw[at + 4:at + 4 + n].decode()
        calls, count = struct.unpack_from("<ii", raw, at + 4 + n)
        at += 12 + n
        out[model_name(name)] = (np.frombuffer(raw, np.float32, count, at) / max(calls, 1)).astype(np.float32)
        at += 4 * count
    return out


def read_dump(raw, length):
    at = 0
    while at < len(raw):
        end = raw.index(b"\n", at)
        name, _, rows, cols = raw[at:end].decode().split(" ")
        at = end + 1
        yield name, int(rows), int(cols), at
        at += length(int(rows), int(cols))


def divergence(a, model):
    out = run(a.build / "cli/quern", "eval", model, "--against", a.model, "--data", a.text, "--context", a.context, "--chunks", a.chunks, "--json")
    return json.loads(out)["reference"]["kl"]["value"]


# --- a type -----------------------------------------------------------------------------------------------------------


def one_type(a, so, name, model, imatrix):
    head_bytes, head, tensors = model
    block = so.ggml_blck_size(TYPES[name])
    recipe = a.work / "recipe.yaml"
    lines = [f"codec: {name}"] + [s.replace("=", ": ") for s in a.set] + ["head:", "  codec: lossless", "embedding:", "  codec: lossless"]
    recipe.write_text("\n".join(lines) + "\n")
    packed = a.work / f"{name}.quern"
    stats = [] if a.no_imatrix else [f"--stats={a.stats}"]
    run(a.build / "cli/quern", "compress", a.model, "-o", packed, "--force", f"--recipe={recipe}", *stats)
    raw = run(a.build / "bench/blocks", "dump", packed)
    length = lambda rows, cols: rows * so.ggml_row_size(TYPES[name], cols)
    run(a.build / "cli/quern", "decompress", packed, "-o", a.work / "back", "--force")
    back = read_safetensors(a.work / "back/model.safetensors")[2]
    ours, theirs, n_bytes, n_weights, took = dict(tensors), dict(tensors), 0, 0, 0.0
    so.ggml_quantize_init(TYPES[name])
    for tensor, rows, cols, at in read_dump(raw, length):
        w = np.ascontiguousarray(tensors[tensor])
        size = length(rows, cols)
        ours[tensor] = decode(so, name, np.frombuffer(raw, np.uint8, size, at), w.shape)
        if ours[tensor].tobytes() != back[tensor].tobytes():
            sys.exit(f"gguf_types: {name}: {tensor} is decoded otherwise by the peer's library")
        im = None if a.no_imatrix else np.ascontiguousarray(imatrix[tensor])
        if im is None and name in NEEDS_IMATRIX:
            im = np.ones(cols, np.float32)
        began = time.process_time()
        blocks = encode(so, name, w, im)
        took += time.process_time() - began
        theirs[tensor] = decode(so, name, blocks, w.shape)
        n_bytes += size
        n_weights += rows * cols
        assert cols % block == 0 and blocks.size == size
    kld = {}
    for who, t in (("ours", ours), ("theirs", theirs)):
        write_model(a, head_bytes, head, t, a.work / who)
        kld[who] = divergence(a, a.work / who)
    return n_bytes, n_weights, kld["theirs"], kld["ours"], n_weights / max(took, 1e-9) * 1e-6


def main():
    a = arguments()
    so = open_peer(a.build)
    if not a.model.is_dir():
        skip(f"no {a.model}")
    model = read_safetensors(a.model / "model.safetensors")
    imatrix = None if a.no_imatrix else read_imatrix(a)
    known = set(TYPES)
    print("| type | bytes | peer's KLD | ours | ratio |" + (" peer Mw/s | ours, statistics | ours, none |" if a.speed else ""))
    print("| --- | ---: | ---: | ---: | ---: |" + (" ---: | ---: | ---: |" if a.speed else ""))
    for name in a.types.split(",") if a.types else TYPES:
        if name not in known:
            sys.exit(f"gguf_types: no type {name}")
        n_bytes, n_weights, theirs, ours, rate = one_type(a, so, name, model, imatrix)
        row = f"| {name.upper()} | {n_bytes} | {theirs:.6f} | {ours:.6f} | {ours / theirs if theirs > 0 else float('nan'):.3f} |"
        if a.speed:
            mine = [run(a.build / "bench/blocks", "speed", name, *more).decode().split("\t")[1] for more in ([], ["diagonal"])]
            row += f" {rate:.1f} | {mine[0]} | {mine[1]} |"
        print(row, flush=True)


if __name__ == "__main__":
    sys.exit(main())
