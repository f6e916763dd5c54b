#!/usr/bin/env python3
"""`quern eval` from text to perplexity on real models, against figures that other programs have measured: numpy and PyTorch on documents,
llama.cpp's perplexity tool on chunks.

usage: eval_baselines.py QUERN SHARED
"""
import json
import os
import subprocess
import sys
import tempfile

STORIES = "tinystories_eval_120.txt"
# model, text, options, tokens scored, perplexity, how far from it (its last digit; 0.1 % where arithmetic differs), who measured
CASES = [
    ("stories260k/hf-f32", STORIES, "--documents --context 256", 30084, 3.352, 1e-3, "numpy or PyTorch"),
    ("stories260k/hf-bf16", STORIES, "--documents --context 256", 30084, 3.351, 1e-3, "numpy or PyTorch"),
    ("babyllama105/hf-f32", STORIES, "--documents --context 255", 30600, 1.728, 1e-3, "numpy or PyTorch"),
    ("stories-moe8x-upcycled/hf-f32", STORIES, "--documents --context 256", 30084, 3.6357, 1e-4, "numpy or PyTorch"),
    ("stories260k/gguf/stories260k-f32.gguf", "joined", "--context 256 --chunks 40", 5080, 3.5957, 3.6e-3, "llama.cpp"),
    ("stories260k/gguf/stories260k-bf16.gguf", "joined", "--context 256 --chunks 40", 5080, 3.5954, 3.6e-3, "llama.cpp"),
    ("bytelm-5m", "wiki_test_ascii.txt", "--context 256 --chunks 100", 12700, 7.3962, 7.4e-3, "llama.cpp"),
]


def main():
    quern, shared = sys.argv[1:3]
    texts = os.path.join(shared, "text")
    if not os.path.exists(os.path.join(texts, STORIES)):
        print("1..0 # SKIP there is no", shared)
        return 0
    print(f"1..{len(CASES)}")
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        joined = os.path.join(tmp, "joined.txt") # the stories, joined by newlines: what llama.cpp was given
        with open(os.path.join(texts, STORIES), encoding="utf-8") as f, open(joined, "w", encoding="utf-8") as to:
            to.write("\n".join(s.strip() for s in f.read().split("<|endoftext|>") if s.strip()))
        for i, (model, text, options, n, want, most, who) in enumerate(CASES, 1):
            run = subprocess.run([quern, "eval", os.path.join(shared, "models", model), "--json", *options.split(), "--data",
                                  joined if text == "joined" else os.path.join(texts, text)], stdout=subprocess.PIPE, check=True)
            got = json.loads(run.stdout)
            ppl = got["perplexity"]
            good = got["tokens_scored"] == n and abs(ppl["value"] - want) <= most and ppl["low"] < want < ppl["high"]
            failed += not good
            print(f"{'ok' if good else 'not ok'} {i} - {model}: {ppl['value']:.4f} ({ppl['low']:.4f} to {ppl['high']:.4f}) over "
                  f"{got['tokens_scored']} tokens, {who} {want} over {n}", flush=True)
    return failed != 0


sys.exit(main())
