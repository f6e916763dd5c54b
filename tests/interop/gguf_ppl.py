#!/usr/bin/env python3
"""Perplexity of GGUF models, `quern eval` against stock llama.cpp: the same text, the same cuts, each program with its own tokenizer
and its own forward pass. Every chunk must agree to 0.2 %, their perplexity to 0.1 %.

usage: gguf_ppl.py QUERN BUILD_FOLDER SHARED TEXT

The models are those of the shared folder. llama.cpp comes with packages that the project does not depend on:
    npm i --ignore-scripts --omit=optional node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
in the folder that QUERN_NPM names, or in BUILD_FOLDER.
"""
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

MODELS = ["stories260k-f32.gguf", "stories260k-f16.gguf", "stories260k-bf16.gguf"]
CASES = [(256, 16), (97, 8)] # context, chunks; an odd one too


def npm(build):
    for folder in filter(None, [os.environ.get("QUERN_NPM"), build]):
        if all((pathlib.Path(folder) / "node_modules" / p).is_dir() for p in ("node-llama-cpp", "@node-llama-cpp/linux-x64")):
            return os.path.abspath(folder)
    return None


def main():
    quern, build, shared, text = sys.argv[1:5]
    folder, models = npm(build), pathlib.Path(shared) / "models/stories260k/gguf"
    if folder is None or shutil.which("node") is None:
        print("skipped: no node-llama-cpp (see the head of tests/interop/gguf_ppl.py, and QUERN_NPM)")
        return 77
    if not models.is_dir():
        print("skipped: there is no", models)
        return 77
    peer, bad = str(pathlib.Path(__file__).with_name("perplexity_peer.mjs")), 0
    for name in MODELS:
        for context, chunks in CASES:
            given = [str(models / name), text, str(context), str(chunks)]
            theirs = json.loads(subprocess.run(["node", peer, folder, *given], stdout=subprocess.PIPE, check=True).stdout)
            ours = json.loads(subprocess.run([quern, "eval", given[0], "--data", text, "--context", given[2], "--json"],
                                             stdout=subprocess.PIPE, check=True).stdout)
            n_tokens = ours["n_chunks"] * context + ours["tokens_left_out"]
            ours = ours["chunks"][:chunks]
            n = sum(c["scored"] for c in ours)
            a, b = (math.exp(sum(c["nll"] * c["scored"] for c in side) / n) for side in (ours, theirs["chunks"]))
            worst = max(abs(x["nll"] / y["nll"] - 1) for x, y in zip(ours, theirs["chunks"]))
            good = n_tokens == theirs["tokens"] and len(ours) == len(theirs["chunks"]) == chunks and abs(a / b - 1) <= 1e-3 and worst <= 2e-3 \
                and [c["scored"] for c in ours] == [c["scored"] for c in theirs["chunks"]]
            bad += not good
            print(f"{'' if good else 'WRONG: '}{name}, {chunks} chunks of {context}: perplexity {a:.5f} over {n} tokens, llama.cpp {b:.5f} "
                  f"({100 * (a / b - 1):+.4f} %); worst chunk {100 * worst:.4f} %; text of {n_tokens} and {theirs['tokens']} tokens")
    return 1 if bad else 0


sys.exit(main())
