"""DFloat11 as quern writes it, decoded by what is written down of the layout and by nothing of quern: every slice by itself from its gap and its
block's position, as a GPU's threads do, all slices side by side in numpy. What comes out must be the bits of the model that went in.

    export_df11.py QUERN [MODEL...]    MODEL: a folder or file of safetensors; F32 weights are rounded to BF16 first
"""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
except ImportError:
    print('skipped: numpy is not there')
    sys.exit(77)

WIDTH = {"U8": 1, "I8": 1, "BOOL": 1, "BF16": 2, "F16": 2, "F32": 4, "I32": 4, "I64": 8, "F64": 8}


def load(path):
    """name → (dtype, shape, bytes) of all safetensors files of a folder, or of one file"""
    files = [path] if os.path.isfile(path) else sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".safetensors"))
    out = {}
    for f in files:
        raw = open(f, "rb").read()
        n = struct.unpack("<Q", raw[:8])[0]
        for name, t in json.loads(raw[8:8 + n]).items():
            if name != "__metadata__":
                a, b = t["data_offsets"]
                out[name] = (t["dtype"], t["shape"], raw[8 + n + a:8 + n + b])
    return out


def decode(t, module, threads, width):
    """the exponents of a group, as many as it has"""
    get = lambda field: np.frombuffer(t[f"{module}.{field}"][2], np.uint8)
    luts = get("luts").reshape(-1, 256)
    tables, lengths = luts[:-1], luts[-1].astype(np.int64)
    codes, positions = get("encoded_exponent"), get("output_positions").view("<u4").astype(np.int64)
    n = get("sign_mantissa").size
    blocks = -(-codes.size // (threads * width))
    assert positions.size == blocks + 1 and positions[-1] == n and positions[0] == 0, (positions.size, blocks)
    assert (np.diff(positions) >= 0).all() and np.diff(positions).max() * 2 + 4 * threads + 4 <= 48 << 10
    bits = np.unpackbits(get("gaps"))
    assert bits.size == blocks * threads * 5
    gaps = bits.reshape(-1, 5) @ (1 << np.arange(4, -1, -1))
    slices = blocks * threads
    padded = np.concatenate([codes, np.zeros(slices * width + 16 - codes.size, np.uint8)])
    at = np.arange(slices) * width * 8 + gaps               # bit where each slice reads next
    end = (np.arange(slices) + 1) * width * 8
    taken = [[] for _ in range(2)]
    live = np.flatnonzero(at < end)
    while live.size:
        a = at[live]
        byte, bit = a // 8, a % 8
        window = np.zeros(live.size, np.uint64)
        for k in range(5):                                  # 40 bits, of which 32 count after the shift
            window = window << np.uint64(8) | padded[byte + k].astype(np.uint64)
        window = (window >> (np.uint64(8) - bit.astype(np.uint64))) & np.uint64(0xFFFFFFFF)
        value = tables[0][(window >> np.uint64(24)).astype(np.int64)].astype(np.int64)
        for k in (16, 8, 0):
            more = value >= 240
            value[more] = tables[256 - value[more], ((window[more] >> np.uint64(k)) & np.uint64(255)).astype(np.int64)]
        assert (value < 240).all() and (lengths[value] > 0).all()
        taken[0].append(live)
        taken[1].append(value)
        at[live] += lengths[value]
        live = live[at[live] < end[live]]
    lane, value = np.concatenate(taken[0]), np.concatenate(taken[1])
    value = value[np.argsort(lane, kind="stable")]
    count = np.bincount(lane, minlength=slices)
    # each block from its own position on, so that a wrong one shows
    out = np.full(n, -1, np.int64)
    first = np.concatenate([[0], np.cumsum(count)])
    for b in range(blocks):
        got = value[first[b * threads]:first[(b + 1) * threads]]
        k = min(got.size, n - positions[b])
        assert b == blocks - 1 or positions[b + 1] - positions[b] == got.size, (b, positions[b + 1] - positions[b], got.size)
        out[positions[b]:positions[b] + k] = got[:k]
    assert (out >= 0).all()
    return out


def rounded(model, into):
    """a copy whose F32 tensors are BF16, to nearest even"""
    os.mkdir(into)
    header, data = {}, []
    at = 0
    for name, (dtype, shape, raw) in load(model).items():
        if dtype == "F32":
            u = np.frombuffer(raw, "<u4").astype(np.uint64)
            raw, dtype = ((u + 0x7FFF + (u >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype("<u2").tobytes(), "BF16"
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data.append(raw)
    text = json.dumps(header).encode()
    with open(os.path.join(into, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data))
    if os.path.isdir(model) and os.path.exists(os.path.join(model, "config.json")):
        shutil.copy(os.path.join(model, "config.json"), into)
    return into


def check(quern, model):
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "df11")
        given = model
        if any(t[0] == "F32" for t in load(model).values()):
            model = rounded(model, os.path.join(tmp, "bf16"))
        began = time.time()
        done = subprocess.run([quern, "export", model, "--to", "dfloat11", "-o", out, "--quiet"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        took = time.time() - began
        before, after = load(model), load(out)
        config = json.load(open(os.path.join(out, "config.json")))["dfloat11_config"]
        assert config["version"] == "0.5.0"
        threads, width = config["threads_per_block"][0], config["bytes_per_thread"]
        seen, dense, packed = set(), 0, 0
        modules = [k[:-len(".encoded_exponent")] for k in after if k.endswith(".encoded_exponent")]
        for m in modules:
            inner = [v for p, v in config["pattern_dict"].items() if re.fullmatch(p, m)]
            assert len(inner) == 1, (m, inner)
            names = [f"{m}.{i}.weight" for i in inner[0]] or [f"{m}.weight"]
            e = decode(after, m, threads, width)
            rest = np.frombuffer(after[f"{m}.sign_mantissa"][2], np.uint8).astype(np.int64)
            words = ((rest & 128) << 8 | e << 7 | rest & 127).astype("<u2")
            splits = np.frombuffer(after[f"{m}.split_positions"][2], "<i8")
            parts = np.split(words, splits)
            assert len(parts) == len(names)
            for name, w in zip(names, parts):
                assert before[name][0] == "BF16" and before[name][2] == w.tobytes(), name
                seen.add(name)
                dense += w.size * 2
            packed += sum(len(after[k][2]) for k in after if k.startswith(m + ".") and k[len(m) + 1:] in
                          ("luts", "encoded_exponent", "sign_mantissa", "output_positions", "gaps", "split_positions"))
        for name in set(before) - seen:
            assert before[name] == after[name], name
        print(f"{given}: {len(seen)} weights in {len(modules)} groups, identical; {dense} → {packed} bytes, {packed / dense:.4f}; {took:.2f} s")


for path in sys.argv[2:]:
    check(sys.argv[1], path)
