#!/usr/bin/env python3
"""Every block type decoded here and by ggml: the same f32, bit by bit (a NaN is a NaN whatever its payload).

usage: gguf_ggml.py DUMP_BLOCKS BUILD_FOLDER GRIDS_SCRIPT TABLE

Blocks are random bytes; in every other block the halves are finite and of everyday size. At least 10^6 values a type,
10^7 with QUERN_TEST_FULL=1. The library comes with a package that the project does not depend on:
    npm i --ignore-scripts --omit=optional @node-llama-cpp/linux-x64@3.22.1
in the folder that QUERN_NPM names, or in BUILD_FOLDER.
"""
import ctypes
import os
import pathlib
import random
import struct
import subprocess
import sys

# where the halves of a block stand (IQ1_M's is spread over four words, the others have none)
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ3_XXS": [0], "IQ1_S": [0],
          "IQ4_NL": [0], "IQ3_S": [0], "IQ2_S": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64], "Q1_0": [0], "Q2_0": [0]}


def library(build):
    for folder in filter(None, [os.environ.get("QUERN_NPM"), build]):
        path = pathlib.Path(folder) / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so"
        if path.is_file():
            return path
    return None


def random_blocks(rng, name, n_blocks, n_bytes):
    raw = bytearray(rng.getrandbits(8 * n_blocks * n_bytes).to_bytes(n_blocks * n_bytes, "little"))
    for i in range(0, n_blocks, 2):
        for at in HALVES.get(name, []):
            struct.pack_into("<e", raw, i * n_bytes + at, rng.choice((-1, 1)) * 2 ** rng.uniform(-14, 2))
    return bytes(raw)


def same(a, b):
    """The number of values that are not NaN, or None where two differ."""
    if a == b:
        return len(a) // 4
    n_nan = 0
    for x, y in zip(memoryview(a).cast("I"), memoryview(b).cast("I")):
        if x != y:
            if x & 0x7FFFFFFF <= 0x7F800000 or y & 0x7FFFFFFF <= 0x7F800000:
                return None
            n_nan += 1
    return len(a) // 4 - n_nan


def main():
    exe, build, grids, table = sys.argv[1:5]
    path = library(build)
    if path is None:
        print("skipped: no libggml-base.so (see the head of tests/interop/gguf_ggml.py, and QUERN_NPM)")
        return 77
    so = ctypes.CDLL(str(path))
    so.ggml_type_name.restype = ctypes.c_char_p
    so.ggml_type_size.restype = ctypes.c_size_t
    so.ggml_blck_size.restype = ctypes.c_int64
    want = 10_000_000 if os.environ.get("QUERN_TEST_FULL") == "1" else 1_000_000
    rng = random.Random(7)
    bad = n_types = 0
    for line in subprocess.run([exe, "list"], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines():
        name, number, n, n_bytes = line.split()
        number, n, n_bytes = int(number), int(n), int(n_bytes)
        n_types += 1
        if so.ggml_type_name(number).decode().upper() != name or so.ggml_blck_size(number) != n or \
                so.ggml_type_size(number) != n_bytes:
            print(f"{name}: number, name or size are others in the library")
            bad += 1
            continue
        fn = getattr(so, "dequantize_row_" + name.lower().replace("_k", "_K"))
        fn.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64]
        fn.restype = None
        n_blocks = (want + n - 1) // n
        blocks = random_blocks(rng, name, n_blocks, n_bytes)
        theirs = (ctypes.c_float * (n * n_blocks))()
        fn(blocks, theirs, n * n_blocks)
        ours = subprocess.run([exe, name], input=blocks, stdout=subprocess.PIPE, check=True).stdout
        theirs = bytes(theirs)
        n_same = same(ours, theirs) if len(ours) == len(theirs) else None
        if n_same is None:
            k = next((i for i in range(0, len(theirs), 4) if ours[i:i + 4] != theirs[i:i + 4]), -4) // 4
            print(f"{name}: value {k} (element {k % n} of a block) is another")
            bad += 1
            continue
        print(f"{name}: {n * n_blocks} values, {n * n_blocks - n_same} of them NaN of another payload")
    print(f"{n_types} types, {bad} other than ggml's")
    return 1 if bad or subprocess.run([sys.executable, grids, path, table]).returncode else 0


sys.exit(main())
