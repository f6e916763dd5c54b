#!/usr/bin/env python3
"""Recovers the grids of ggml's IQ types and prints them as base/ggml_grid_tab.c.

usage: ggml_grids.py LIBGGML_BASE [FILE]      with FILE: compares instead of printing

Each entry is read off by decoding a block that names it, with scale 1 and no signs, so the table holds what the format means
and nothing else.
"""
import ctypes
import struct
import sys


class Library:
    def __init__(self, path):
        self.so = ctypes.CDLL(path)

    def decode(self, name, blocks, n):
        out = (ctypes.c_float * n)()
        fn = getattr(self.so, "dequantize_row_" + name)
        fn.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64]
        fn.restype = None
        fn(blocks, out, n)
        return list(out)


ONE = struct.pack("<e", 1.0)


def grid(lib, name, n, width, block, factor):
    """Entries 0 … n−1: block(list of indices) → bytes of a block of 256 values."""
    per = 256 // width
    values = []
    for i in range(0, n, per):
        idx = list(range(i, i + per))
        values += lib.decode(name, block([k % n for k in idx]), 256)
    return [[v / factor for v in values[k * width:(k + 1) * width]] for k in range(n)]


def iq2_xxs(idx):
    return ONE + b"".join(bytes(idx[4 * g:4 * g + 4]) + bytes(4) for g in range(8))


def iq2_xs(idx):
    return ONE + struct.pack("<32H", *idx) + bytes(8)


def iq2_s(idx):
    qh = bytes(sum((idx[4 * g + k] >> 8) << 2 * k for k in range(4)) for g in range(8))
    return ONE + bytes(k & 255 for k in idx) + bytes(32) + qh + bytes(8)


def iq3_xxs(idx):
    return ONE + bytes(idx) + bytes(32)


def iq3_s(idx):
    qh = bytes(sum((idx[8 * g + k] >> 8) << k for k in range(8)) for g in range(8))
    return ONE + bytes(k & 255 for k in idx) + qh + bytes(32) + bytes(4)


def iq1_s(idx):
    qh = [sum((idx[4 * g + k] >> 8) << 3 * k for k in range(4)) for g in range(8)]
    return ONE + bytes(k & 255 for k in idx) + struct.pack("<8H", *qh)


def pack(entries, steps, bits):
    out = []
    for e in entries:
        word = 0
        for i, v in enumerate(e):
            word |= steps.index(v) << bits * i
        out.append(word)
    return out


def array(name, words, note):
    lines = [f"/* {note} */", f"const uint16_t {name}[{len(words)}] = {{"]
    for i in range(0, len(words), 16):
        lines.append("    " + ", ".join(f"0x{w:04x}" for w in words[i:i + 16]) + ",")
    return "\n".join(lines + ["};"])


def main():
    lib = Library(sys.argv[1])
    two, three = [8, 25, 43], [4, 12, 20, 28, 36, 44, 52, 62]
    parts = ["""/* ggml_grid_tab.c: the point sets of the IQ types, packed; see ggml_iq.c. They are facts of the format: no rule gives
 * them. Made by tests/interop/ggml_grids.py, which reads each point off a decoded block. */
#include "base/ggml_impl.h"
"""]
    for name, n, block, factor in [("iq2_xxs", 256, iq2_xxs, 0.125), ("iq2_xs", 512, iq2_xs, 0.125),
                                   ("iq2_s", 1024, iq2_s, 0.125)]:
        words = pack(grid(lib, name, n, 8, block, factor), two, 2)
        parts.append(array("qn_grid_" + name, words, "eight values of two bits, the first lowest: 0, 1, 2 = 8, 25, 43"))
    words = pack(grid(lib, "iq3_xxs", 256, 4, iq3_xxs, 0.25), three, 3)
    parts.append(array("qn_grid_iq3_xxs", words, "four values of three bits: k = 8k + 4, but 7 = 62"))
    words = pack(grid(lib, "iq3_s", 512, 4, iq3_s, 1.0), [1, 3, 5, 7, 9, 11, 13, 15], 3)
    parts.append(array("qn_grid_iq3_s", words, "four values of three bits: k = 2k + 1"))
    points = grid(lib, "iq1_s", 2048, 8, iq1_s, 1.0)
    words = pack([[v - 0.125 for v in e] for e in points], [-1, 0, 1], 2)
    parts.append(array("qn_grid_iq1", words, "eight values of two bits: 0, 1, 2 = −1, 0, 1"))
    text = "\n\n".join([parts[0] + "\n" + parts[1]] + parts[2:]) + "\n"
    if len(sys.argv) == 2:
        print(text, end="")
        return 0
    with open(sys.argv[2]) as f:
        same = f.read() == text
    print("4608 points of 6 grids: " + ("as in the library" if same else "other than in the library"))
    return 0 if same else 1


sys.exit(main())
