#!/usr/bin/env python3
"""Reads what our safetensors writer wrote with nothing but struct and json, and checks every rule of the format.

usage: safetensors_reader.py PROGRAM    (write_samples)
"""
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile

BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
        "C64": 64, "F64": 64, "I64": 64, "U64": 64}
ORDER = list(BITS)


def no_doubles(pairs):
    keys = [k for k, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
    return dict(pairs)


def read(path):
    with open(path, "rb") as f:
        raw = f.read()
    (n,) = struct.unpack("<Q", raw[:8])
    assert n % 8 == 0, "the data begin at a multiple of 8"
    text = raw[8:8 + n]
    assert text[:1] == b"{" and len(text.rstrip(b" ")) > n - 8
    header = json.loads(text.decode("utf-8"), object_pairs_hook=no_doubles)
    meta = header.pop("__metadata__")
    data, at, last, out = raw[8 + n:], 0, None, {}
    for name, e in header.items():
        assert set(e) == {"dtype", "shape", "data_offsets"}
        count = 1
        for d in e["shape"]:
            count *= d
        begin, end = e["data_offsets"]
        assert begin == at and (end - begin) * 8 == count * BITS[e["dtype"]], name
        if BITS[e["dtype"]] >= 8:
            assert begin % (BITS[e["dtype"]] // 8) == 0, f"{name} is not aligned"
        key = (-ORDER.index(e["dtype"]), name.encode())
        assert last is None or last < key, "not in the reference writer's order"
        last, at = key, end
        out[name] = (e["dtype"], e["shape"], data[begin:end])
    assert at == len(data), "bytes behind the last tensor"
    for name, (_, _, got) in out.items():
        length = len(name.encode())
        want = bytes((length * 7 + j * 31 + (j >> 8)) & 255 for j in range(len(got)))
        assert got == want, f"{name}: other bytes"
    return meta, out


def main():
    with tempfile.TemporaryDirectory() as d:
        subprocess.run([sys.argv[1], d], check=True)
        meta, kept = read(os.path.join(d, "kept.safetensors"))
        assert meta == {"who": 'a "quoted" \u00e4'}, meta
        meta, given = read(os.path.join(d, "given.safetensors"))
        assert meta == {"format": "pt"} and given == kept and len(kept) == 60
        with open(os.path.join(d, "model.safetensors.index.json"), encoding="utf-8") as f:
            text = f.read()
        index = json.loads(text, object_pairs_hook=no_doubles)
        assert text == json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        shards, seen = sorted(glob.glob(os.path.join(d, "model-*-of-*.safetensors"))), {}
        for i, path in enumerate(shards):
            assert os.path.basename(path) == f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
            _, part = read(path)
            assert sum(len(v[2]) for v in part.values()) <= 2000 or sum(1 for v in part.values() if v[2]) == 1
            for name, v in part.items():
                assert index["weight_map"][name] == os.path.basename(path) and name not in seen
                seen[name] = v
        assert seen == kept and set(index["weight_map"]) == set(seen)
        assert index["metadata"]["total_size"] == sum(len(v[2]) for v in seen.values())
        assert not glob.glob(os.path.join(d, "*.quern-export"))
        print(f"{len(kept)} tensors in one file and in {len(shards)} shards: the same bytes, all rules held")


main()
