#!/usr/bin/env python3
"""Perplexity of real models over 120 stories, from our logits, against figures measured with other programs (numpy, PyTorch). The texts
are tokenized here, by a few lines that know byte-pair merges and nothing else.

usage: stories_ppl.py DUMP_LOGITS SHARED
"""
import json
import math
import os
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("1..0 # SKIP this Python has no numpy")
    sys.exit(0)

# folder, what to open in it, predicted tokens of a story at most, tokens in all, perplexity, its last digit
CASES = [
    ("stories260k/hf-f32", "", 256, 30084, 3.352, 1e-3),
    ("stories260k/hf-bf16", "", 256, 30084, 3.351, 1e-3),
    ("stories260k/hf-f32", "../gguf/stories260k-f32.gguf", 256, 30084, 3.352, 1e-3),
    ("stories260k/hf-f32", "../gguf/stories260k-bf16.gguf", 256, 30084, 3.351, 1e-3),
    ("stories260k/hf-f32", "../gguf/stories260k-f16.gguf", 256, 30084, 3.352, 1e-3),
    ("babyllama105/hf-f32", "", 255, 30600, 1.728, 1e-3),
    ("babyllama105/hf-bf16", "", 255, 30600, 1.728, 1e-3),
    ("stories-moe8x-upcycled/hf-f32", "", 256, 30084, 3.6357, 1e-4),
    ("stories-moe8x-upcycled/hf-bf16", "", 256, 30084, 3.6357, 2e-4),
]


class Tokenizer:
    def __init__(self, path):
        t = json.load(open(path, encoding="utf-8"))
        self.vocab = t["model"]["vocab"]
        self.rank = {tuple(m.split(" ") if isinstance(m, str) else m): i for i, m in enumerate(t["model"]["merges"])}
        self.unk = self.vocab["<unk>"]

    def encode(self, text):
        pieces = []
        for c in "▁" + text.replace(" ", "▁"):
            if c in self.vocab:
                pieces.append(c)
            elif "<0x00>" in self.vocab:
                pieces += ["<0x%02X>" % b for b in c.encode()]
            else:
                pieces.append(None)
        while True:
            best = min(((self.rank.get((a, b), 1 << 30), i) for i, (a, b) in enumerate(zip(pieces, pieces[1:]))), default=(1 << 30, 0))
            if best[0] == 1 << 30:
                break
            i = best[1]
            pieces[i:i + 2] = [pieces[i] + pieces[i + 1]]
        return [1] + [self.vocab.get(p, self.unk) if p else self.unk for p in pieces]


def main():
    dump, shared = sys.argv[1:3]
    text = os.path.join(shared, "text", "tinystories_eval_120.txt")
    if not os.path.exists(text) or not os.path.isdir(os.path.join(shared, "models")):
        print("1..0 # SKIP there is no", shared)
        return 0
    stories = [s.strip() for s in open(text, encoding="utf-8").read().split("<|endoftext|>")]
    stories = [s for s in stories if s]
    print(f"1..{len(CASES)}")
    status, kept = 0, {}
    for number, (folder, opened, most, want_n, want, digit) in enumerate(CASES, 1):
        path = os.path.join(shared, "models", folder)
        key = (folder.split("/")[0], most)
        if key not in kept:
            t = Tokenizer(os.path.join(path, "tokenizer.json"))
            kept[key] = [t.encode(s)[:most + 1] for s in stories]
        ids = kept[key]
        raw = subprocess.run([dump, os.path.join(path, opened)] + [",".join(map(str, s)) for s in ids], stdout=subprocess.PIPE, check=True).stdout
        n_tokens = sum(len(s) for s in ids)
        logits = np.frombuffer(raw, "<f4").reshape(n_tokens, -1).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(axis=1))
        total, n, at = 0.0, 0, 0
        for s in ids:
            rows = np.arange(at, at + len(s) - 1)
            total += float((log_sum[rows] - logits[rows, s[1:]]).sum())
            n += len(s) - 1
            at += len(s)
        ppl = math.exp(total / n)
        good = n == want_n and abs(ppl - want) <= digit
        status |= not good
        print(f"{'ok' if good else 'not ok'} {number} - {folder} {os.path.basename(opened)}: {ppl:.5f} over {n} tokens ({want} over {want_n})")
    return int(status)


sys.exit(main())
