#!/usr/bin/env python3
"""Whole GGUF files through the program: packed and restored byte for byte, and the values that come out.

usage: gguf_files.py QUERN DUMP_BLOCKS SOURCE_ROOT

A file of every block type is made here. Real ones (models/stories260k in the folder that QUERN_SHARED names, or beside the
source tree) are compared with the same model as safetensors: its q and k rows lie in another order there.
"""
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

QUERN, DUMP, ROOT = sys.argv[1:4]


def run(*args):
    r = subprocess.run([QUERN, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert r.returncode == 0, f"quern {' '.join(map(str, args))}: code {r.returncode}\n{r.stdout}"
    return r.stdout


def round_trip(path, tmp):
    packed, back = tmp / "t.quern", tmp / "t.gguf"
    for p in (packed, back):
        p.unlink(missing_ok=True)
    run("compress", "--lossless", path, "-o", packed)
    run("verify", packed, "--against", path)
    run("diff", packed, path)
    run("decompress", packed, "-o", back)
    assert back.read_bytes() == path.read_bytes(), f"{path} does not come back"
    return packed


def npy(source, tensor, tmp, *more):
    out = tmp / "t.npy"
    out.unlink(missing_ok=True)
    run("decompress", source, "--tensor", tensor, "-o", out, *more)
    raw = out.read_bytes()
    return raw[10 + struct.unpack_from("<H", raw, 8)[0]:]


def string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def write_blocks(path, kinds):
    """A tensor of every block type, 5 rows of 512 elements."""
    rng = random.Random(11)
    infos, data, blocks = b"", b"", {}
    for name, number, n, n_bytes in kinds:
        blocks[name] = bytes(rng.randrange(256) for _ in range(5 * 512 // n * n_bytes))
        infos += string("t." + name) + struct.pack("<IQQIQ", 2, 512, 5, number, len(data))
        data += blocks[name] + bytes(-len(blocks[name]) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(kinds), 1) + string("general.architecture") + struct.pack("<I", 8)
    head += string("none") + infos
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return blocks


def every_type(tmp):
    lines = subprocess.run([DUMP, "list"], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    kinds = [(a, int(b), int(c), int(d)) for a, b, c, d in map(str.split, lines)]
    path = tmp / "blocks.gguf"
    blocks = write_blocks(path, kinds)
    packed = round_trip(path, tmp)
    for name, raw in blocks.items():
        want = subprocess.run([DUMP, name], input=raw, stdout=subprocess.PIPE, check=True).stdout
        for source in (path, packed):
            assert npy(source, "t." + name, tmp) == raw, name
            assert npy(source, "t." + name, tmp, "--f32") == want, name
        assert npy(packed, "t." + name, tmp, "--f32", "--rows", "2:4") == want[2 * 512 * 4:4 * 512 * 4], name
    changed = bytearray(path.read_bytes())
    changed[changed.index(blocks["Q8_0"]) + 2] ^= 0x10  # one quant of the first block
    other = tmp / "other.gguf"
    other.write_bytes(changed)
    r = subprocess.run([QUERN, "diff", str(path), str(other)], stdout=subprocess.PIPE, text=True)
    assert r.returncode == 1 and "t.Q8_0" in r.stdout and "t.Q4_0" not in r.stdout, r.stdout
    print(f"{len(kinds)} block types packed, restored, and widened to f32, whole and by rows")


def safetensors(path):
    raw = path.read_bytes()
    n = struct.unpack_from("<Q", raw)[0]
    head = json.loads(raw[8:8 + n])
    head.pop("__metadata__", None)
    return {k: (v["shape"], raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in head.items()}


NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    top = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
           "lm_head.weight": "output.weight"}
    if name in top:
        return top[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest[:-len('.weight')]]}.weight"


def interleaved(shape, raw, head_dim):
    """Rows of a head: the two halves of the rotary pairs, one from each in turn."""
    row = len(raw) // shape[0]
    rows = [raw[i * row:(i + 1) * row] for i in range(shape[0])]
    half = head_dim // 2
    return b"".join(rows[h * head_dim + k % 2 * half + k // 2] for h in range(shape[0] // head_dim) for k in range(head_dim))


def real(tmp):
    shared = os.environ.get("QUERN_SHARED")
    folder = pathlib.Path(shared if shared else pathlib.Path(ROOT).parent / "shared") / "models/stories260k"
    files = sorted((folder / "gguf").glob("*.gguf"))
    if not files:
        return False
    for path in files:
        round_trip(path, tmp)
    config = json.loads((folder / "hf-f32/config.json").read_text())
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    n = 0
    for name, (shape, raw) in safetensors(folder / "hf-f32/model.safetensors").items():
        if ".q_proj." in name or ".k_proj." in name:
            raw = interleaved(shape, raw, head_dim)
        assert npy(folder / "gguf/stories260k-f32.gguf", gguf_name(name), tmp) == raw, name
        n += 1
    print(f"{len(files)} real files packed and restored, {n} tensors equal to the safetensors ones")
    return True


with tempfile.TemporaryDirectory() as d:
    every_type(pathlib.Path(d))
    if not real(pathlib.Path(d)):
        print("no real GGUF files (see QUERN_SHARED): that part is skipped")
