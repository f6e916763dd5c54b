#!/usr/bin/env python3
"""Calibrating and evaluating a model whose weights take four times --memory: the process stays below the limit, and what it
measures is what it measures without a limit, byte for byte.

The model is a llama of random BF16 numbers, 67 M weights: 256 MiB while they are in use, as f32. Resident size is the kernel's own
high-water mark of the process.

usage: memory.py QUERN [LIMIT_MIB]
"""
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile

HIDDEN, FFN, LAYERS, HEADS, VOCAB, TOKENS = 512, 1408, 21, 8, 512, 512
SIGN_AND_EXPONENT = bytes((0x3C, 0x3D, 0xBC, 0xBD)[i & 3] for i in range(256)) # sizes from 2^-7 to 2^-3


def tensors():
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (HIDDEN,)
        for n in "qkvo":
            yield f"{p}self_attn.{n}_proj.weight", (HIDDEN, HIDDEN)
        yield p + "post_attention_layernorm.weight", (HIDDEN,)
        yield p + "mlp.gate_proj.weight", (FFN, HIDDEN)
        yield p + "mlp.up_proj.weight", (FFN, HIDDEN)
        yield p + "mlp.down_proj.weight", (HIDDEN, FFN)
    yield "model.norm.weight", (HIDDEN,)


def count(shape):
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def write_model(folder):
    head, at = {}, 0
    for name, shape in tensors():
        head[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + 2 * count(shape)]}
        at += 2 * count(shape)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, shape in tensors(): # a tensor at a time: what this process holds would count for its children
            n = count(shape)
            raw = bytearray(2 * n)
            raw[0::2] = os.urandom(n)
            raw[1::2] = os.urandom(n).translate(SIGN_AND_EXPONENT)
            f.write(b"\x80\x3f" * n if len(shape) == 1 else raw)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
                   "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "vocab_size": VOCAB, "rms_norm_eps": 1e-5,
                   "rope_theta": 10000.0, "max_position_embeddings": 512, "hidden_act": "silu", "tie_word_embeddings": True}, f)
    return 2 * at # bytes as f32


def write_tokens(path):
    head = "{'descr': '<u2', 'fortran_order': False, 'shape': (%d,), }" % TOKENS
    head += " " * (-(len(head) + 11) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode())
        f.write(struct.pack("<%dH" % TOKENS, *(7919 * i % VOCAB for i in range(TOKENS))))


def run(*line):
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{' '.join(line)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def largest_child():
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def main():
    quern, limit = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 64
    with tempfile.TemporaryDirectory() as d:
        model, data = os.path.join(d, "m"), os.path.join(d, "t.npy")
        os.mkdir(model)
        n_bytes = write_model(model)
        write_tokens(data)
        memory = f"{limit}M"
        # the limited runs first: the mark is of the largest child so far
        run(quern, "calibrate", model, "-d", data, "-c", "64", "--batch", "64", "-q", "-o", d + "/small", "-m", memory, "-t", "2")
        calibrated = largest_child()
        small = json.loads(run(quern, "eval", model, "-d", data, "-c", "64", "--batch", "64", "--json", "-m", memory, "-t", "2"))
        evaluated = largest_child()
        run(quern, "calibrate", model, "-d", data, "-c", "64", "--batch", "64", "-q", "-o", d + "/large", "-t", "2")
        free = largest_child()
        large = json.loads(run(quern, "eval", model, "-d", data, "-c", "64", "--batch", "64", "--json", "-t", "2"))
        same = open(d + "/small", "rb").read() == open(d + "/large", "rb").read()
    for r in (small, large):
        for key in ("seconds", "peak_tensor_bytes"):
            del r[key]
    mib = 1 << 20
    print(f"weights {n_bytes / mib:.0f} MiB, --memory {limit} MiB: calibrate {calibrated / mib:.1f} MiB resident, "
          f"then eval {evaluated / mib:.1f} MiB; without a limit {free / mib:.1f} MiB")
    checks = {"weights are four times the limit": n_bytes >= 4 * limit * mib, "calibrate stays below it": calibrated <= limit * mib,
              "eval stays below it": evaluated <= limit * mib, "without a limit it would not": free > limit * mib,
              "the statistics are the same bytes": same, "the figures are the same": small == large}
    for text, good in checks.items():
        print(("yes: " if good else "NO: ") + text)
    return 0 if all(checks.values()) else 1


sys.exit(main())
